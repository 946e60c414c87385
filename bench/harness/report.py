"""From samples to medians, ratios, aims and tables. Needs nothing but a result file."""

from statistics import median

from harness.metrics import AGAINST_CONTENT, AIMS, GROUPS, METRICS, Base


def format_value(value, unit):
    if unit == "s":
        if value >= 10:
            return f"{value:.1f} s"
        return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"
    if unit == "B":
        return f"{value / 1e6:,.0f} MB" if abs(value) >= 100e6 else f"{value / 1e6:.1f} MB"
    if unit == "s/entry":
        return f"{value * 1e6:.2f} µs"
    return f"{value:.0f} B"


def notes_of_run(run):
    what = ", ".join(run["scenarios"])
    if not run["checked"]:
        yield f"contents were not compared (--no-check): {what}"
    busy = [f"{100 * one:.0f} %" for one in run["busy"] if one > 0.05]
    if busy:
        yield (f"the machine was busy with other things before {len(busy)} of "
               f"{len(run['busy'])} rounds ({', '.join(busy)} of its CPU time): {what}")
    if run["rounds"] < run["rounds_wanted"]:
        yield f"only {run['rounds']} of {run['rounds_wanted']} rounds are whole: {what}"


def line_of_run(run):
    return (f"{run['when']}, {run['rounds']} rounds in {run['seconds'] / 60:.0f} minutes, "
            f"{run['version']}: {', '.join(run['scenarios'])}")


class Report:
    def __init__(self, result):
        self.result = result
        self.samples = result["samples"]
        self.names = list(result["contenders"])

    # Figures

    def by_round(self, key, name):
        metric = METRICS.get(key)
        samples = self.samples.get(metric.source if metric else key, {}).get(name, ())
        return {one["round"]: one["value"] for one in samples}

    def value(self, key, name):
        values = self.by_round(key, name).values()
        return median(values) if values else None

    def base(self, metric, name):
        """What this contender's figures are divided by, for each round."""
        if metric.against == AGAINST_CONTENT:
            content = self.result["tree"]["unique_bytes"]
            return {number: content for number in self.by_round(metric.key, name)}
        if not isinstance(metric.against, Base):
            return {}
        other, key = metric.against.contender or name, metric.against.key or metric.key
        if (other, key) == (name, metric.key):
            return {}
        return self.by_round(key, other)

    def ratios(self, metric, name):
        """The ratios of rounds: what is measured in one round met the same conditions."""
        base = self.base(metric, name)
        return [value / base[number] for number, value in self.by_round(metric.key, name).items()
                if base.get(number)]

    def ratio(self, metric, name):
        ratios = self.ratios(metric, name)
        return median(ratios) if ratios else None

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
        measured = [metric for metric in metrics if metric.source in self.samples]
        names = [name for name in self.names
                 if any(self.by_round(metric.key, name) for metric in measured)]
        bases = {metric.against.contender for metric in measured
                 if isinstance(metric.against, Base)}
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
        found = []
        for aim in AIMS:
            metric = METRICS[aim.metric]
            for name in filter(aim.is_for, self.result["ours"]):
                figure = (self.ratio(metric, name) if aim.ratio
                          else self.value(metric.key, name))
                if figure is not None:
                    shown = [f"{x:.2f}" if aim.ratio else format_value(x, metric.unit)
                             for x in (figure, aim.limit)]
                    found.append((aim.title, name, shown[0], f"at most {shown[1]}",
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
        return notes + [note for run in result["runs"] for note in notes_of_run(run)]

    def tree_line(self):
        tree = self.result["tree"]
        return (f"{tree['files']:,} files, {tree['directories']:,} directories, "
                f"{tree['symlinks']:,} symlinks, {tree['bytes'] / 1e6:,.0f} MB, of which "
                f"{tree['unique_bytes'] / 1e6:,.0f} MB are different contents")

    def text(self):
        lines = [f"tree: {self.tree_line()}"]
        lines += [f"run: {line_of_run(run)}" for run in self.result["runs"]] + [""]
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
        lines = [f"Measured {line_of_run(run)}." for run in result["runs"]]
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
