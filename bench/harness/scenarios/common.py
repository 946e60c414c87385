"""What the scenarios share."""

import os
import time


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


def scenario_mounted(part):
    """For each contender whose tree can be seen, with and without one CPU for all."""
    def scenario(bench, pins):
        for pin in pins:
            for contender in bench.turn(lambda one: one.can_be_seen):
                bench.attempt(contender, part, pin)
    return scenario
