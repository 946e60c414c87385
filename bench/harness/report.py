"""From samples to medians, ratios, aims and tables. Needs nothing but a result file."""

from dataclasses import dataclass
from statistics import median

from harness.contenders import NATIVE, NIX, SHA256

# What a figure is compared with: the same of another contender, the same contender's first import,
# or what the tree's different contents add up to.
AGAINST_NATIVE = NATIVE
AGAINST_NIX = NIX
AGAINST_SHA256 = SHA256
AGAINST_FIRST = "first"
AGAINST_CONTENT = "content"
AGAINST_NOTHING = None


@dataclass(frozen=True)
class Metric:
    key: str
    title: str
    unit: str = "s"
    against: str | None = AGAINST_NATIVE


GROUPS = (
    ("Import, sync included", (
        Metric("import.cold", "first import, source cold"),
        Metric("import.warm", "first import, source warm"),
        Metric("import.again", "again, unchanged (ratio: to the first)", against=AGAINST_FIRST),
        Metric("import.recheck", "again, every byte read (to the first)", against=AGAINST_FIRST),
        Metric("import.rss", "peak resident memory", "B", AGAINST_NOTHING),
        Metric("import.anon", "peak memory of its own", "B", AGAINST_NOTHING),
        Metric("size.store", "size on disk (to different contents)", "B", AGAINST_CONTENT),
    )),
    ("Export, sync included", (
        Metric("export.warm", "export, source warm"),
    )),
    ("Mount", (
        Metric("mount.cold", "mount, caches dropped", against=AGAINST_NOTHING),
        Metric("mount.warm", "mount, store in the page cache", against=AGAINST_NOTHING),
    )),
    ("Every entry listed and stat'ed", (
        Metric("walk.cold", "cold"),
        Metric("walk.fresh", "new mount, warm store"),
        Metric("walk.warm", "warm"),
        Metric("walk.cold@1", "cold, one CPU"),
        Metric("walk.fresh@1", "new mount, warm store, one CPU"),
        Metric("walk.warm@1", "warm, one CPU"),
    )),
    ("The same, and every file read", (
        Metric("read.cold", "cold"),
        Metric("read.fresh", "new mount, warm store"),
        Metric("read.warm", "warm"),
        Metric("read.cold@1", "cold, one CPU"),
        Metric("read.fresh@1", "new mount, warm store, one CPU"),
        Metric("read.warm@1", "warm, one CPU"),
    )),
    ("One large file", (
        Metric("seq.cold", "from end to end, cold"),
        Metric("seq.warm", "from end to end, warm"),
        Metric("rand.cold", "20,000 random 4 KiB, cold"),
        Metric("rand.warm", "20,000 random 4 KiB, warm"),
        Metric("seq.cold@1", "from end to end, cold, one CPU"),
        Metric("seq.warm@1", "from end to end, warm, one CPU"),
        Metric("rand.cold@1", "20,000 random 4 KiB, cold, one CPU"),
        Metric("rand.warm@1", "20,000 random 4 KiB, warm, one CPU"),
    )),
    ("Memory of the daemon's own", (
        Metric("daemon.base", "after mounting", "B", AGAINST_NOTHING),
        Metric("daemon.node", "per entry, all entries known", "B/entry", AGAINST_NOTHING),
        Metric("daemon.beyond", "the same without the bytes of names", "B/entry",
               AGAINST_NOTHING),
        Metric("daemon.dropped", "per entry, the kernel has forgotten", "B/entry",
               AGAINST_NOTHING),
        Metric("daemon.rewalk", "per entry, and all are known again", "B/entry",
               AGAINST_NOTHING),
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


@dataclass(frozen=True)
class Aim:
    title: str
    metric: str
    limit: float
    ratio: bool  # of the ratio, or of the value itself


AIMS = (
    Aim("first import against cp -a", "import.warm", 0.7, True),
    Aim("second import against the first", "import.again", 0.3, True),
    Aim("peak memory of an import", "import.rss", 200e6, False),
    Aim("memory per node beyond names", "daemon.beyond", 150, False),
    Aim("NAR of small files against nix-store --dump", "nar.dump.wide", 0.5, True),
    Aim("NAR of a large file against nix-store --dump", "nar.dump.large", 0.5, True),
    Aim("NAR hash of small files against SHA-256 alone", "nar.hash.wide", 1 / 0.9, True),
    Aim("NAR hash of a large file against SHA-256 alone", "nar.hash.large", 1 / 0.9, True),
    Aim("unpacking small files against nix-store --restore", "nar.unpack.wide", 0.5, True),
    Aim("unpacking a large file against nix-store --restore", "nar.unpack.large", 0.5, True),
)


def format_value(value, unit):
    if unit == "s":
        if value >= 10:
            return f"{value:.1f} s"
        return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"
    if unit == "B":
        return f"{value / 1e6:,.0f} MB" if abs(value) >= 100e6 else f"{value / 1e6:.1f} MB"
    return f"{value:.0f} B"


class Report:
    def __init__(self, result):
        self.result = result
        self.samples = result["samples"]
        self.names = list(result["contenders"])

    # Figures

    def by_round(self, key, name):
        return {one["round"]: one["value"] for one in self.samples.get(key, {}).get(name, ())}

    def value(self, key, name):
        values = self.by_round(key, name).values()
        return median(values) if values else None

    def base(self, metric, name):
        """What this contender's figures are divided by, for each round."""
        if metric.against in self.names and name != metric.against:
            return self.by_round(metric.key, metric.against)
        if metric.against == AGAINST_FIRST:
            return self.by_round("import.warm", name)
        if metric.against == AGAINST_CONTENT:
            content = self.result["tree"]["unique_bytes"]
            return {number: content for number in self.by_round(metric.key, name)}
        return {}

    def ratios(self, metric, name):
        """The ratios of rounds: what is measured in one round met the same conditions."""
        base = self.base(metric, name)
        return [value / base[number] for number, value in self.by_round(metric.key, name).items()
                if base.get(number)]

    # Tables

    def cells(self, metric, name):
        value = self.value(metric.key, name)
        if value is None:
            return "", "", ""
        ratios = self.ratios(metric, name)
        if not ratios:
            return format_value(value, metric.unit), "", ""
        spread = f"{min(ratios):.2f}–{max(ratios):.2f}" if len(ratios) > 1 else ""
        return format_value(value, metric.unit), f"{median(ratios):.2f}", spread

    def table(self, metrics):
        """The header and a row for each metric that somebody has a figure for. Who others are
        compared with has one column, and if it has a ratio, in its cell."""
        measured = [metric for metric in metrics if metric.key in self.samples]
        names = [name for name in self.names
                 if any(self.by_round(metric.key, name) for metric in measured)]
        bases = {metric.against for metric in measured}
        header = [""]
        for name in names:
            header += [name] if name in bases else [name, "ratio", "rounds"]
        return header, [self.row(metric, names, bases) for metric in measured]

    def row(self, metric, names, bases):
        row = [metric.title]
        for name in names:
            value, ratio, spread = self.cells(metric, name)
            if name in bases:
                row.append(f"{value} ({ratio})" if ratio else value)
            else:
                row += [value, ratio, spread]
        return row

    def aims(self):
        """(title, contender, figure, limit, met) for what was measured."""
        metrics = {metric.key: metric for _, group in GROUPS for metric in group}
        found = []
        for aim in AIMS:
            metric = metrics[aim.metric]
            for name in self.result["ours"]:
                if not self.by_round(metric.key, name):
                    continue
                ratios = self.ratios(metric, name)
                if aim.ratio and not ratios:
                    continue
                figure = median(ratios) if aim.ratio else self.value(metric.key, name)
                show = (lambda x: f"{x:.2f}") if aim.ratio else (
                    lambda x, unit=metric.unit: format_value(x, unit))
                found.append((aim.title, name, show(figure), f"at most {show(aim.limit)}",
                              "met" if figure <= aim.limit else "missed"))
        return found

    def notes(self):
        """What a reader must know before believing the figures."""
        result = self.result
        notes = [f"{name} failed and is out: {text}" for name, text in result["failed"].items()]
        notes += [f"{name} could not be mounted here" for name in result["unmounted"]]
        if any(key.startswith("nar.") for key in self.samples):
            tree = result["tree"]
            notes.append(f"the small files are {tree['wide_folder']}, {tree['wide_files']:,} of "
                         f"them; the large file is {tree['large_file']}, "
                         f"{tree['large_bytes'] / 1e6:,.0f} MB")
        if not result["cold"]:
            notes.append("without root, caches cannot be dropped: no cold figures")
        if not result["checked"]:
            notes.append("contents were not compared (--no-check)")
        busy = [f"{100 * one:.0f} %" for one in result["busy"] if one > 0.05]
        if busy:
            notes.append(f"the machine was busy with other things before {len(busy)} of "
                         f"{len(result['busy'])} rounds ({', '.join(busy)} of its CPU time)")
        if result["rounds"] < result["rounds_wanted"]:
            notes.append(f"only {result['rounds']} of {result['rounds_wanted']} rounds are whole")
        return notes

    def tree_line(self):
        tree = self.result["tree"]
        return (f"{tree['files']:,} files, {tree['directories']:,} directories, "
                f"{tree['symlinks']:,} symlinks, {tree['bytes'] / 1e6:,.0f} MB, of which "
                f"{tree['unique_bytes'] / 1e6:,.0f} MB are different contents")

    def text(self):
        lines = [f"tree: {self.tree_line()}", f"rounds: {self.result['rounds']}", ""]
        for title, metrics in GROUPS:
            header, rows = self.table(metrics)
            if rows:
                table = [header, *rows]
                widths = [max(len(row[i]) for row in table) for i in range(len(header))]
                lines += [title] + [align(row, widths) for row in table] + [""]
        if self.aims():
            lines += ["Aims"]
            lines += [f"  {title}, {name}: {figure}, {limit}: {verdict}"
                      for title, name, figure, limit, verdict in self.aims()]
            lines += [""]
        lines += [f"note: {note}" for note in self.notes()]
        return "\n".join(lines).rstrip() + "\n"

    def markdown(self):
        result = self.result
        lines = [f"Measured {result['when']}, {result['rounds']} rounds, {result['version']}."]
        lines += ["", f"Tree: {self.tree_line()}.", "", "| machine | |", "|---|---|"]
        lines += [f"| {key.replace('_', ' ')} | {value} |"
                  for key, value in result["machine"].items() if value]
        for title, metrics in GROUPS:
            header, rows = self.table(metrics)
            if rows:
                header = [title] + header[1:]
                lines += ["", table_row(header),
                          table_row(["---"] + ["---:"] * (len(header) - 1))]
                lines += [table_row(row) for row in rows]
        if self.aims():
            lines += ["", "| aim | contender | measured | limit | |", "|---|---|---:|---:|---|"]
            lines += [table_row(row) for row in self.aims()]
        if self.notes():
            lines += [""] + [f"- {note}" for note in self.notes()]
        return "\n".join(lines) + "\n"


def align(row, widths):
    first = f"  {row[0]:<{widths[0]}}"
    return (first + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:]))
            ).rstrip()


def table_row(cells):
    texts = (str(cell).replace("\n", " ").replace("|", "/") for cell in cells)
    return f"| {' | '.join(texts)} |"
