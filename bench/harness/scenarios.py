"""What is measured. A scenario is one round of something for all contenders in turn."""

import os
import time

from harness import machine
from harness.session import Mounted


def allocated(folder):
    """Bytes that a directory takes on the disk; sparse files count as what they use."""
    total = os.lstat(folder).st_blocks
    for top, dirs, files in os.walk(folder):
        for name in dirs + files:
            total += os.lstat(os.path.join(top, name)).st_blocks
    return total * 512


def timed_with_sync(bench, contender, metric, command, **options):
    """A command and the sync after it, as one time: what is not on the disk is not done."""
    done = bench.run(contender, command, **options)
    start = time.monotonic()
    os.sync()
    synced = time.monotonic() - start
    bench.record(metric, contender, done.seconds + synced, sync=synced, cpu=done.cpu_seconds,
                 max_rss=done.max_rss)
    return done


# Import


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
    for contender in bench.turn() if bench.cold else ():
        bench.attempt(contender, import_cold)
        bench.remove(contender, "home")
    for contender in bench.turn():
        bench.attempt(contender, import_warm)
        bench.attempt(contender, import_again)
        if not contender.keeps_home:
            bench.remove(contender, "home")


# Export


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


# Through the file system


def walk(bench, contender, pin):
    bench.ensure_filled(contender)
    with Mounted(bench, contender, cold=bench.cold, pin=pin) as mounted:
        before = mounted.settled()
        if bench.cold:
            if mounted.mount_seconds is not None and pin is None:
                bench.record("mount.cold", contender, mounted.mount_seconds)
            mounted.timed("walk.cold", bench.walk, "stat", mounted.view)
        else:
            bench.walk("stat", mounted.view)
        after = mounted.settled()
        mounted.timed("walk.warm", bench.walk, "stat", mounted.view)
        if mounted.daemons and pin is None:
            record_memory(bench, contender, mounted, before, after)
    walk_fresh(bench, contender, pin)


def walk_fresh(bench, contender, pin):
    """A new mount of a store that is in the page cache; for native no different from warm."""
    with Mounted(bench, contender, pin=pin) as mounted:
        if mounted.mount_seconds is not None and pin is None:
            bench.record("mount.warm", contender, mounted.mount_seconds)
        mounted.timed("walk.fresh", bench.walk, "stat", mounted.view)


def record_memory(bench, contender, mounted, before, after):
    nodes = bench.entries + 1
    bench.record("daemon.base", contender, before)
    bench.record("daemon.node", contender, (after - before) / nodes)
    bench.record("daemon.beyond", contender,
                 (after - before - bench.manifest["name_bytes"]) / nodes)
    if bench.cold:
        machine.drop_caches(2)
        bench.record("daemon.dropped", contender, (mounted.settled() - before) / nodes)
        # Freed memory may stay with the daemon; what it still holds as nodes would now come on
        # top of a second walk's.
        bench.walk("stat", mounted.view)
        bench.record("daemon.rewalk", contender, (mounted.settled() - before) / nodes)


def read(bench, contender, pin):
    bench.ensure_filled(contender)
    with Mounted(bench, contender, cold=bench.cold, pin=pin) as mounted:
        if bench.cold:
            mounted.timed("read.cold", bench.walk, "read", mounted.view)
        else:
            bench.walk("read", mounted.view)
        mounted.timed("read.warm", bench.walk, "read", mounted.view)
    with Mounted(bench, contender, pin=pin) as mounted:
        mounted.timed("read.fresh", bench.walk, "read", mounted.view)


def large(bench, contender, pin):
    bench.ensure_filled(contender)
    for mode in ("seq", "rand"):
        with Mounted(bench, contender, cold=bench.cold, pin=pin) as mounted:
            if bench.cold:
                mounted.timed(f"{mode}.cold", bench.large, mode, mounted.view)
            else:
                bench.large(mode, mounted.view)
            mounted.timed(f"{mode}.warm", bench.large, mode, mounted.view)


def scenario_mounted(part):
    def scenario(bench, pins):
        for pin in pins:
            for contender in bench.turn(lambda one: one.can_be_seen):
                bench.attempt(contender, part, pin)
    return scenario


SCENARIOS = {
    "import": scenario_import,
    "export": scenario_export,
    "walk": scenario_mounted(walk),
    "read": scenario_mounted(read),
    "large": scenario_mounted(large),
}


# Before the first round


def prove(bench, contender):
    """A contender that gives back something else than was put in has no figures to show."""
    bench.fresh_home(contender)
    bench.run(contender, contender.fill)
    if contender.mount:
        with Mounted(bench, contender) as mounted:
            bench.check(mounted.view)
    if contender.export:
        bench.remove(contender, "out")
        bench.run(contender, contender.export)
        bench.check(bench.places(contender)["out"])
        bench.remove(contender, "out")
    if not contender.keeps_home:
        bench.remove(contender, "home")
