"""The table of bench/virtiofs. Needs nothing but a result file."""

from statistics import median

from harness.report import align, format_value, table_row

OTHER = "virtiofsd"
TITLES = {
    "walk.cold": "every entry listed and stat'ed, cold",
    "walk.warm": "every entry listed and stat'ed, again",
    "small.cold": "small files read, cold",
    "small.warm": "small files read, again",
    "read.cold": "every file read, cold",
    "seq.cold": "one large file, cold",
    "memory": "memory of the daemon's own, at the end",
}
# (metric, at most this part of virtiofsd's)
AIMS = [(key, 1.0) for key in ("walk.warm", "small.warm", "read.cold", "seq.cold")]
AIMS += [("walk.cold", 0.5), ("small.cold", 0.5)]


class Report:
    def __init__(self, result):
        self.result = result
        self.samples = result["samples"]
        self.names = [name for name in result["contenders"] if name != OTHER]

    def values(self, key, name, part="value"):
        return {sample["round"]: sample[part] for sample in self.samples[key].get(name, [])}

    def ratios(self, key, name):
        ours, theirs = self.values(key, name), self.values(key, OTHER)
        return [ours[number] / theirs[number] for number in ours if theirs.get(number)]

    def header(self):
        return ["", OTHER] + [word for name in self.names for word in (name, "ratio", "rounds")]

    def rows(self):
        rows = []
        for key, title in TITLES.items():
            if not self.samples.get(key, {}).get(OTHER):
                continue
            unit = "B" if key == "memory" else "s"
            row = [title, format_value(median(self.values(key, OTHER).values()), unit)]
            for name in self.names:
                row += self.cells(key, name, unit)
            rows.append(row)
        return rows

    def cells(self, key, name, unit):
        ratios = self.ratios(key, name)
        if not ratios:
            return ["-", "", ""]
        return [format_value(median(self.values(key, name).values()), unit),
                f"{median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"]

    def cpu_rows(self):
        rows = []
        for key, title in TITLES.items():
            if key == "memory" or not self.samples.get(key, {}).get(OTHER):
                continue
            row = [title]
            for name in [OTHER, *self.names]:
                used = self.values(key, name, "daemon_cpu").values()
                row.append(format_value(median(used), "s") if used else "-")
            rows.append(row)
        return rows

    def units(self, key):
        """What requests are counted per: (how many, of what)."""
        tree = self.result["tree"]
        if key.startswith("walk"):
            return tree["files"] + tree["directories"], "entry"
        if key.startswith("seq"):
            return tree["large_bytes"] >> 20, "MiB"
        return tree["small" if key.startswith("small") else "files"], "file"

    def request_rows(self):
        rows = []
        for key, counts in self.result["requests"].items():
            many, unit = self.units(key)
            row = [f"{TITLES[key]}, per {unit}"]
            for name in [OTHER, *self.names]:
                own = counts.get(name)
                row.append("-" if own is None else f"{sum(own.values()) / many:.2f}")
            rows.append(row)
        return rows

    def request_details(self):
        lines = []
        for key, counts in self.result["requests"].items():
            for name, own in counts.items():
                kinds = ", ".join(f"{kind} {count:,}" for kind, count in
                                  sorted(own.items(), key=lambda item: -item[1])) or "none"
                lines.append(f"{TITLES[key]}, {name}: {kinds}")
        return lines

    def aims(self):
        found = []
        for key, limit in AIMS:
            for name in self.names:
                ratios = self.ratios(key, name) if key in self.samples else []
                if ratios:
                    verdict = "met" if median(ratios) <= limit else "missed"
                    found.append((TITLES[key], name, f"{median(ratios):.2f}",
                                  f"at most {limit:.2f}", verdict))
        return found

    def facts(self):
        result, tree = self.result, self.result["tree"]
        lines = [f"{tree['files']:,} files in {tree['directories']:,} directories, "
                 f"{tree['small']:,} small files of 1 KiB, one file of "
                 f"{tree['large_bytes'] >> 20} MiB", f"guest: {result['guest']}"]
        lines += [f"{name}: {about}" for name, about in result["contenders"].items()]
        lines += [f"{result['rounds']} of {result['rounds_wanted']} rounds"]
        busy = [f"{100 * one:.0f} %" for one in result["busy"] if one > 0.05]
        if busy:
            lines += [f"the machine was busy with other things before {len(busy)} rounds "
                      f"({', '.join(busy)} of its CPU time)"]
        return lines

    def tables(self):
        """(header, rows)"""
        names = [OTHER, *self.names]
        return [(self.header(), self.rows()), (["daemon's processor time", *names],
                                               self.cpu_rows()),
                (["requests", *names], self.request_rows())]

    def text(self):
        lines = self.facts()
        for header, rows in self.tables():
            if rows:
                every = [header, *rows]
                widths = [max(len(row[i]) for row in every) for i in range(len(header))]
                lines += [""] + [align(row, widths) for row in every]
        lines += [""] + self.request_details()
        lines += [""] + [f"aim: {title}, {name}: {figure}, {limit}: {verdict}"
                         for title, name, figure, limit, verdict in self.aims()]
        return "\n".join(lines).rstrip() + "\n"

    def markdown(self):
        result = self.result
        lines = [f"Measured {result['when']}.", ""] + [f"- {fact}" for fact in self.facts()]
        lines += [f"- {key.replace('_', ' ')}: {value}"
                  for key, value in result["machine"].items() if value]
        tables = self.tables() + [(["aim", "contender", "measured", "limit", ""], self.aims())]
        for header, rows in tables:
            if rows:
                lines += ["", table_row(header),
                          table_row(["---"] + ["---:"] * (len(header) - 1))]
                lines += [table_row(row) for row in rows]
        lines += [""] + [f"- {line}" for line in self.request_details()]
        return "\n".join(lines).rstrip() + "\n"
