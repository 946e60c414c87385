"""Trees into stores, and out of them."""

from harness import machine
from harness.scenarios.common import allocated, timed_with_sync


def import_cold(bench, contender):
    bench.fresh_home(contender)
    machine.drop_caches()
    timed_with_sync(bench, contender, "import.cold", contender.fill)


def import_warm(bench, contender):
    bench.fresh_home(contender)
    bench.warm_tree()
    done = timed_with_sync(bench, contender, "import.warm", contender.fill, sample=True)
    bench.record("import.rss", contender, done.peak_rss)
    bench.record("import.anon", contender, done.peak_anon)
    bench.record("size.store", contender, allocated(bench.places(contender)["home"]))


def import_again(bench, contender):
    if contender.refill:
        timed_with_sync(bench, contender, "import.again", contender.refill, sample=True)
    if contender.recheck:
        timed_with_sync(bench, contender, "import.recheck", contender.recheck, sample=True)


def scenario_import(bench, pins):
    def able(one):
        return one.fill and not one.home_of and (bench.round == 0 or not one.slow)

    for contender in bench.turn(able) if bench.cold else ():
        bench.attempt(contender, import_cold)
        bench.remove(contender, "home")
    for contender in bench.turn(able):
        bench.attempt(contender, import_warm)
        bench.attempt(contender, import_again)
        if not contender.keeps_home:
            bench.remove(contender, "home")


def export(bench, contender):
    bench.ensure_filled(contender)
    bench.remove(contender, "out")
    # What is copied from is warm for everybody.
    bench.probe("walk", "read", bench.places(contender)["home"] if contender.keeps_home
                else bench.tree)
    timed_with_sync(bench, contender, "export.warm", contender.export)
    bench.remove(contender, "out")


def scenario_export(bench, pins):
    for contender in bench.turn(lambda one: one.export):
        bench.attempt(contender, export)
