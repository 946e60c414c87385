"""The tree through the file system: walked, and read."""

from harness import machine
from harness.session import Mounted


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
    nodes = bench.main.entries + 1
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


def sweep(bench, contender, pin, name, probe, *arguments):
    """The same over and over: cold, warm, and on a new mount of a warm store."""
    bench.ensure_filled(contender)
    with Mounted(bench, contender, cold=bench.cold, pin=pin) as mounted:
        if bench.cold:
            mounted.timed(f"{name}.cold", probe, *arguments, mounted.view)
        else:
            probe(*arguments, mounted.view)
        mounted.timed(f"{name}.warm", probe, *arguments, mounted.view)
    with Mounted(bench, contender, pin=pin) as mounted:
        mounted.timed(f"{name}.fresh", probe, *arguments, mounted.view)


def names(bench, contender, pin):
    sweep(bench, contender, pin, "names", bench.walk, "names")


def small(bench, contender, pin):
    sweep(bench, contender, pin, "small", bench.walk, "small")


def read(bench, contender, pin):
    sweep(bench, contender, pin, "read", bench.walk, "read")


def parallel(bench, contender, pin):
    # Several readers on one processor would measure its scheduler.
    if pin is None:
        sweep(bench, contender, pin, "parallel", bench.readers)


def large(bench, contender, pin):
    bench.ensure_filled(contender)
    for mode in ("seq", "rand", "mmap"):
        with Mounted(bench, contender, cold=bench.cold, pin=pin) as mounted:
            if bench.cold:
                mounted.timed(f"{mode}.cold", bench.large, mode, mounted.view)
            else:
                bench.large(mode, mounted.view)
            if mode == "seq":
                # The second use of a page makes the kernel move it to where it is kept longer.
                mounted.timed("seq.second", bench.large, mode, mounted.view)
            mounted.timed(f"{mode}.warm", bench.large, mode, mounted.view)
