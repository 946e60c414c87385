"""Before the first round: what was put in must come out again."""

from harness.session import Mounted


def prove_tree(bench, contender):
    if not contender.mount and not contender.export:
        return
    if not contender.home_of:
        bench.fresh_home(contender)
    bench.ensure_filled(contender)
    if contender.mount:
        with Mounted(bench, contender) as mounted:
            bench.check(mounted.view)
    if contender.export:
        bench.remove(contender, "out")
        bench.run(contender, contender.export)
        bench.check(bench.places(contender)["out"])
        bench.remove(contender, "out")
    if not contender.keeps_home and not contender.home_of:
        bench.remove(contender, "home")
