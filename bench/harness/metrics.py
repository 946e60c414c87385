"""What the figures are called, what each is compared with, and the limits that are aimed at."""

from dataclasses import dataclass

from harness.contenders import CACHED, NATIVE, NIX, PASSED, SHA256


@dataclass(frozen=True)
class Base:
    """What a figure is divided by: the figure of a contender (None: its own) for a metric (None:
    the same one)."""
    contender: str | None = None
    key: str | None = None


AGAINST_NATIVE = Base(NATIVE)
AGAINST_NIX = Base(NIX)
AGAINST_SHA256 = Base(SHA256)
AGAINST_FIRST = Base(key="import.warm")
AGAINST_COPY = Base(NATIVE, "import.warm")
# What the tree's different contents add up to.
AGAINST_CONTENT = "content"


@dataclass(frozen=True)
class Metric:
    key: str
    title: str
    unit: str = "s"
    against: Base | str | None = AGAINST_NATIVE
    sample: str = ""  # the key of its samples, where it is not the same

    @property
    def source(self):
        return self.sample or self.key


def both(*metrics):
    """For each also the one that is measured with client and daemon on one CPU."""
    return metrics + tuple(Metric(f"{one.key}@1", f"{one.title}, one CPU", one.unit, one.against)
                           for one in metrics)


GROUPS = (
    ("Import, sync included", (
        Metric("import.cold", "first import, source cold"),
        Metric("import.warm", "first import, source warm"),
        Metric("import.again", "again, unchanged (ratio: to cp -a)", against=AGAINST_COPY),
        Metric("import.again.first", "the same (to the first)", against=AGAINST_FIRST,
               sample="import.again"),
        Metric("import.recheck", "again, every byte read (to the first)",
               against=AGAINST_FIRST),
        Metric("import.rss", "peak resident memory", "B", None),
        Metric("import.anon", "peak memory of its own", "B", None),
        Metric("size.store", "size on disk (to different contents)", "B", AGAINST_CONTENT),
    )),
    ("Export, sync included", (
        Metric("export.warm", "export, source warm"),
    )),
    ("Mount", (
        Metric("mount.cold", "mount, caches dropped", against=None),
        Metric("mount.warm", "mount, store in the page cache", against=None),
    )),
    ("Every entry listed and stat'ed", both(
        Metric("walk.cold", "cold"),
        Metric("walk.fresh", "new mount, warm store"),
        Metric("walk.warm", "warm"),
    )),
    ("Every name listed, nothing stat'ed", both(
        Metric("names.cold", "cold"),
        Metric("names.fresh", "new mount, warm store"),
        Metric("names.warm", "warm"),
    )),
    ("Every entry stat'ed, files of at most 4 KiB read", both(
        Metric("small.cold", "cold"),
        Metric("small.fresh", "new mount, warm store"),
        Metric("small.warm", "warm"),
    )),
    ("Every entry stat'ed, every file read", both(
        Metric("read.cold", "cold"),
        Metric("read.fresh", "new mount, warm store"),
        Metric("read.warm", "warm"),
    )),
    ("Every file read by 8 threads", (
        Metric("parallel.cold", "cold"),
        Metric("parallel.fresh", "new mount, warm store"),
        Metric("parallel.warm", "warm"),
    )),
    ("One large file", both(
        Metric("seq.cold", "from end to end, cold"),
        Metric("seq.second", "from end to end, the second time"),
        Metric("seq.warm", "from end to end, warm"),
        Metric("rand.cold", "20,000 random 4 KiB, cold"),
        Metric("rand.warm", "20,000 random 4 KiB, warm"),
        Metric("mmap.cold", "the same by mmap, cold"),
        Metric("mmap.warm", "the same by mmap, warm"),
    )),
    ("Work with a source tree", (
        Metric("build.cold", "build, cold"),
        Metric("build.warm", "build, warm"),
        Metric("build.warm@1", "build, warm, one CPU"),
        Metric("git.first", "git status, everything read"),
        Metric("git.cold", "git status, cold"),
        Metric("git.warm", "git status, warm"),
        Metric("exec.cold", "a program of 30 MB started, cold"),
        Metric("exec.warm", "a program of 30 MB started, warm"),
        Metric("exec.warm@1", "a program of 30 MB started, warm, one CPU"),
    )),
    ("Memory of the daemon's own", (
        Metric("daemon.base", "after mounting", "B", None),
        Metric("daemon.node", "per entry, all entries known", "B/entry", None),
        Metric("daemon.beyond", "the same without the bytes of names", "B/entry", None),
        Metric("daemon.dropped", "per entry, the kernel has forgotten", "B/entry", None),
        Metric("daemon.rewalk", "per entry, and all are known again", "B/entry", None),
    )),
    ("Many entries, many roots", (
        Metric("scale.walk.less", "walk, per entry of 10,000", "s/entry", None),
        Metric("scale.walk", "walk, per entry of 1,000,000 (ratio: to 10,000)", "s/entry",
               Base(key="scale.walk.less")),
        Metric("scale.lookup.less", "lookup, per entry of 10,000", "s/entry", None),
        Metric("scale.lookup", "lookup, per entry of 1,000,000 (to 10,000)", "s/entry",
               Base(key="scale.lookup.less")),
        Metric("scale.folder", "one directory of 1,000,000 walked, per entry (to 10,000)",
               "s/entry", Base(key="scale.walk.less")),
        Metric("scale.mount", "mount: 1,000,000 objects, 100,000 roots", against=None),
        Metric("scale.mount.cold", "the same, caches dropped", against=None),
        Metric("scale.memory", "the daemon's own memory, 1,000,000 entries walked", "B", None),
        Metric("scale.forgotten", "the same, the kernel has forgotten", "B", None),
    )),
    ("NARs, the archives of Nix", (
        Metric("nar.dump.wide", "small files, dumped into a pipe", against=AGAINST_NIX),
        Metric("nar.dump.large", "a large file, dumped into a pipe", against=AGAINST_NIX),
        Metric("nar.hash.wide", "small files, hashed", against=AGAINST_SHA256),
        Metric("nar.hash.large", "a large file, hashed", against=AGAINST_SHA256),
        Metric("nar.unpack.wide", "small files, unpacked, sync included", against=AGAINST_NIX),
        Metric("nar.unpack.large", "a large file, unpacked, sync included",
               against=AGAINST_NIX),
    )),
)

METRICS = {metric.key: metric for _, group in GROUPS for metric in group}


@dataclass(frozen=True)
class Aim:
    title: str
    metric: str
    limit: float
    ratio: bool = True  # of the ratio, or of the value itself
    only: tuple = ()  # the contenders that it is for; none: ours, as they come

    def is_for(self, name):
        return name in self.only if self.only else name != PASSED


def pinned(*aims):
    """Those that hold with client and daemon on one CPU as well."""
    return tuple(one for aim in aims for one in (
        aim, Aim(f"{aim.title}, one CPU", f"{aim.metric}@1", aim.limit, aim.ratio, aim.only)))


AIMS = (
    *pinned(
        Aim("walk, warm", "walk.warm", 1.05),
        Aim("small files, warm", "small.warm", 1.4),
        Aim("large file, warm, passed through", "seq.warm", 1.05, only=(PASSED,)),
        Aim("large file, warm, cached", "seq.warm", 1.5, only=(CACHED,)),
        Aim("random 4 KiB, warm, passed through", "rand.warm", 1.05, only=(PASSED,)),
        Aim("random 4 KiB, warm, cached", "rand.warm", 1.5, only=(CACHED,)),
        Aim("build, warm", "build.warm", 1.05),
        Aim("walk, cold", "walk.cold", 0.6),
        Aim("small files, cold", "small.cold", 0.6),
        Aim("large file, cold", "seq.cold", 1.05),
        Aim("every file once, cold", "read.cold", 0.7),
    ),
    Aim("first import against cp -a", "import.warm", 0.35),
    Aim("import again, unchanged, against cp -a", "import.again", 0.05),
    Aim("size on disk against different contents", "size.store", 1.03),
    Aim("peak memory of an import", "import.rss", 200e6, False),
    Aim("memory per node beyond names", "daemon.beyond", 150, False),
    Aim("memory after 1,000,000 entries", "scale.memory", 250e6, False),
    Aim("memory after they are forgotten", "scale.forgotten", 60e6, False),
    Aim("walk per entry, 1,000,000 against 10,000", "scale.walk", 1.3),
    Aim("lookup per entry, 1,000,000 against 10,000", "scale.lookup", 1.3),
    Aim("mount of 1,000,000 objects, 100,000 roots", "scale.mount", 0.020, False),
    Aim("NAR of small files against nix-store --dump", "nar.dump.wide", 0.5),
    Aim("NAR of a large file against nix-store --dump", "nar.dump.large", 0.5),
    Aim("NAR hash of small files against SHA-256 alone", "nar.hash.wide", 1 / 0.9),
    Aim("NAR hash of a large file against SHA-256 alone", "nar.hash.large", 1 / 0.9),
    Aim("unpacking small files against nix-store --restore", "nar.unpack.wide", 0.5),
    Aim("unpacking a large file against nix-store --restore", "nar.unpack.large", 0.5),
)
