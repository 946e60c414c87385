"""What is measured. A scenario is one round of something for all contenders in turn."""

import os
import time

from harness import machine, nar, process
from harness.contenders import SHA256
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
    def able(one):
        return one.fill

    for contender in bench.turn(able) if bench.cold else ():
        bench.attempt(contender, import_cold)
        bench.remove(contender, "home")
    for contender in bench.turn(able):
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


# Archives: NARs of a folder of small files and of a large file


class Archive:
    """Something that is archived, and its archive as it has to be."""

    def __init__(self, bench, part, source):
        self.warm_with = source if source.is_dir() else source.parent
        self.folder = bench.work / "archives" / part
        self.folder.mkdir(parents=True, exist_ok=True)
        self.places = {"part": part, "source": source, "nar": self.folder / "nar"}
        self.digest = nar.write(source, self.places["nar"])
        self.size = self.places["nar"].stat().st_size
        self.metrics = {action: f"nar.{action}.{part}" for action in ("dump", "hash", "unpack")}


def archives(bench):
    if bench.archives is None:
        bench.archives = [
            Archive(bench, "wide", bench.tree / bench.manifest["wide_folder"]),
            Archive(bench, "large", bench.tree / bench.manifest["large_file"])]
    return bench.archives


def nar_fill(bench, contender, archive):
    if contender.nar_fill:
        bench.run(contender, contender.nar_fill, **archive.places)
        os.sync()


def nar_warm(bench, contender, archive):
    """What is archived from is warm for everybody."""
    bench.probe("walk", "read", bench.places(contender)["home"] if contender.nar_fill
                else archive.warm_with)


def nar_dump(bench, contender, archive):
    nar_warm(bench, contender, archive)
    seen = bench.drain(contender, contender.nar_dump, **archive.places)
    if seen["bytes"] != archive.size:
        raise process.RunError(f"{contender.name}: an archive of {seen['bytes']} bytes where "
                               f"{archive.size} are right")
    bench.record(archive.metrics["dump"], contender, seen["seconds"], cpu=seen["cpu_seconds"])


def nar_hash(bench, contender, archive):
    if contender.name == SHA256:
        # It takes the time itself: reading the file into its memory does not count.
        seen = bench.tool(contender, contender.nar_hash, **archive.places)
        if seen["digest"] != archive.digest:
            raise process.RunError(f"{contender.name}: {seen['digest']} is another digest")
        bench.record(archive.metrics["hash"], contender, seen["seconds"],
                     cpu=seen["cpu_seconds"])
        return
    nar_warm(bench, contender, archive)
    done = bench.run(contender, contender.nar_hash, **archive.places)
    bench.record(archive.metrics["hash"], contender, done.seconds, cpu=done.cpu_seconds)


def nar_unpack(bench, contender, archive):
    bench.fresh_out(contender)
    bench.probe("walk", "read", archive.folder)
    timed_with_sync(bench, contender, archive.metrics["unpack"], contender.nar_unpack,
                    **archive.places)
    bench.remove(contender, "out")


def scenario_nar(bench, pins):
    for archive in archives(bench):
        for contender in bench.turn(lambda one: one.nar_fill):
            bench.attempt(contender, nar_fill, archive)
        for field, action in (("nar_dump", nar_dump), ("nar_hash", nar_hash),
                              ("nar_unpack", nar_unpack)):
            for contender in bench.turn(lambda one, field=field: getattr(one, field)):
                bench.attempt(contender, action, archive)


def prove_nar(bench, contender):
    """Archives and what was unpacked from them are right to the byte."""
    for archive in archives(bench) if contender.nar_dump else ():
        nar_fill(bench, contender, archive)
        bench.fresh_out(contender)
        bench.run(contender, contender.nar_unpack, **archive.places)
        for command in (contender.nar_dump, contender.nar_result):
            words = contender.words(command, **bench.places(contender), **archive.places)
            done = process.run(["sh", "-c", '"$0" "$@" | sha256sum', *words], bench.timeout)
            if done.output.split()[0] != archive.digest:
                raise process.RunError(f"{' '.join(map(str, words))}: not the right archive")
        bench.remove(contender, "out")


SCENARIOS = {
    "import": scenario_import,
    "export": scenario_export,
    "walk": scenario_mounted(walk),
    "read": scenario_mounted(read),
    "large": scenario_mounted(large),
    "nar": scenario_nar,
}


# Before the first round


def prove(bench, contender, names):
    """A contender that gives back something else than was put in has no figures to show."""
    if contender.fill and set(names) != {"nar"}:
        prove_tree(bench, contender)
    if "nar" in names:
        prove_nar(bench, contender)


def prove_tree(bench, contender):
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
