"""The tables of bench/rpc. Needs nothing but a result file."""

from statistics import median

from harness.report import align, format_value, table_row

# (title of the table, what ratios are to, [(metric, title)])
GROUPS = (
    ("One large blob", "plain tcp", (("large.up", "upload"), ("large.down", "download"))),
    ("Many small blobs", "naive", (("small.put", "put"), ("small.get", "get"))),
    ("A tree that is far away", "local", (("lazy.first", "mount, and the first file"),
                                          ("lazy.walk", "every entry listed and stat'ed"))),
)
# (title, metric, contender, at most: a part of what ratios are to, or seconds)
AIMS = (
    ("upload of a large blob over TCP against a plain socket", "large.up", "cairn tcp", 1 / 0.6,
     None),
    ("download of a large blob over TCP against a plain socket", "large.down", "cairn tcp",
     1 / 0.6, None),
    ("small blobs imported against one call each", "small.put", "import", 0.2, None),
    ("small blobs pushed against one call each", "small.put", "push", 0.2, None),
    ("small blobs exported against one call each", "small.get", "export", 0.2, None),
    ("small blobs pulled against one call each", "small.get", "pull", 0.2, None),
    ("first file of a cold lazy mount", "lazy.first", "lazy", None, 0.1),
    ("walk of a cold lazy mount against a local one", "lazy.walk", "lazy", 3.0, None),
)


class Report:
    def __init__(self, result):
        self.result = result
        self.samples = result["samples"]

    def values(self, key, name):
        return {one["round"]: one["value"] for one in self.samples.get(key, {}).get(name, ())}

    def ratios(self, key, name):
        """Of rounds: what is measured in one round met the same conditions."""
        base = next(base for _, base, metrics in GROUPS for metric, _ in metrics if metric == key)
        theirs = self.values(key, base)
        return [value / theirs[number] for number, value in self.values(key, name).items()
                if theirs.get(number)]

    def table(self, title, base, metrics):
        """(header, rows), with a line for each contender."""
        header = [title, "who", "median", f"to {base}", "rounds"]
        rows = []
        for key, what in metrics:
            names = sorted(self.samples.get(key, ()), key=lambda name: (name != base, name))
            for name in names:
                values, ratios = self.values(key, name).values(), self.ratios(key, name)
                spread = f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else ""
                rows.append([what, name, format_value(median(values), "s"),
                             f"{median(ratios):.2f}" if ratios else "", spread])
                what = ""
        return header, rows

    def tables(self):
        return [made for made in (self.table(*group) for group in GROUPS) if made[1]]

    def aims(self):
        found = []
        for title, key, name, ratio, seconds in AIMS:
            values = self.ratios(key, name) if ratio else list(self.values(key, name).values())
            if not values:
                continue
            limit = ratio or seconds
            shown = ((lambda v: f"{v:.2f}") if ratio else (lambda v: format_value(v, "s")))
            found.append([title, shown(median(values)), f"at most {shown(limit)}",
                          "met" if median(values) <= limit else "missed"])
        return found

    def facts(self):
        result = self.result
        tree = result["tree"]
        lines = [result["program"],
                 f"the large blob has {result['large_bytes'] >> 20} MiB; there are "
                 f"{result['small_count']:,} small ones; the tree has {tree['files']:,} files in "
                 f"{tree['directories']:,} directories",
                 f"{result['rounds']} of {result['rounds_wanted']} rounds"]
        busy = [f"{100 * one:.0f} %" for one in result["busy"] if one > 0.05]
        if busy:
            lines.append(f"the machine was busy with other things before {len(busy)} rounds "
                         f"({', '.join(busy)} of its CPU time)")
        return lines

    def text(self):
        lines = self.facts()
        for header, rows in self.tables():
            every = [header, *rows]
            widths = [max(len(row[i]) for row in every) for i in range(len(header))]
            lines += [""] + [align(row, widths) for row in every]
        lines += [""] + [f"aim: {title}: {figure}, {limit}: {verdict}"
                         for title, figure, limit, verdict in self.aims()]
        return "\n".join(lines).rstrip() + "\n"

    def markdown(self):
        result = self.result
        lines = [f"Measured {result['when']}.", ""] + [f"- {fact}" for fact in self.facts()]
        lines += [f"- {key.replace('_', ' ')}: {value}"
                  for key, value in result["machine"].items() if value]
        for header, rows in self.tables():
            lines += ["", table_row(header), table_row(["---", "---", "---:", "---:", "---:"])]
            lines += [table_row(row) for row in rows]
        lines += ["", table_row(["aim", "measured", "limit", ""]),
                  table_row(["---", "---:", "---:", "---"])]
        lines += [table_row(row) for row in self.aims()]
        return "\n".join(lines).rstrip() + "\n"
