"""Archives: NARs of a folder of small files and of a large file."""

import os

from harness import nar, process
from harness.contenders import SHA256
from harness.scenarios.common import timed_with_sync


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


def prove(bench, contender):
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
