"""Ratios as a picture: a panel for each group of metrics, a row for each metric, a mark for each
contender, on a logarithmic scale. To the left of the line at 1 is faster than native. What was
measured on one CPU stands in the same row, hollow."""

import math
from html import escape

from harness.contenders import NATIVE
from harness.metrics import GROUPS, METRICS, Base

WIDTH = 860
LABEL = 330  # where the scale begins
RIGHT = 30
ROW = 20
TITLE = 42
GAP = 12
LOW, HIGH = 1 / 64, 64
TICKS = (1 / 64, 1 / 16, 1 / 4, 1 / 2, 1, 2, 4, 16, 64)
# Told apart by people who see colours differently, too (Okabe and Ito), and by shape.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000",
           "#994f00", "#40b0a6", "#8b0000", "#556b2f")
SHAPES = ("M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0", "M-5,-5h10v10h-10z", "M0,-6l6,10h-12z",
          "M0,-6l6,6l-6,6l-6,-6z", "M0,6l6,-10h-12z")


def place(ratio):
    """Where a ratio is; what is beyond the scale stands at its end."""
    part = math.log(min(max(ratio, LOW), HIGH) / LOW) / math.log(HIGH / LOW)
    return LABEL + part * (WIDTH - LABEL - RIGHT)


def text(x, y, words, anchor="start", weight="normal", colour="#222"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="{colour}">{escape(words)}</text>')


def mark(x, y, number, title, hollow=False):
    shape, colour = SHAPES[number % len(SHAPES)], COLOURS[number % len(COLOURS)]
    return (f'<path transform="translate({x:.1f},{y:.1f})" d="{shape}" stroke="{colour}" '
            f'fill="{"none" if hollow else colour}" fill-opacity="0.85" stroke-width="1.3">'
            f'<title>{escape(title)}</title></path>')


def tick_name(value):
    return f"{value:g}×" if value >= 1 else f"1/{1 / value:g}×"


def panels(report):
    """(title, [(metric, {(contender, one CPU): ratio})]) of what was measured against native."""
    for title, metrics in GROUPS:
        rows = {}
        for metric in metrics:
            if not isinstance(metric.against, Base) or metric.against.contender != NATIVE:
                continue
            key, _, pinned = metric.key.partition("@")
            for name in report.names:
                ratio = report.ratio(metric, name)
                if ratio:
                    rows.setdefault(key, {})[name, bool(pinned)] = ratio
        if rows:
            yield title, [(METRICS[key], found) for key, found in rows.items()]


def legend(names):
    x, y = LABEL, 24
    parts = []
    for number, name in enumerate(names):
        width = 26 + 7.5 * len(name)
        if x + width > WIDTH:
            x, y = LABEL, y + 18
        parts += [mark(x + 6, y - 4, number, name), text(x + 16, y, name)]
        x += width
    parts += [text(10, 24, "time, native = 1 (less is better)", colour="#666"),
              text(10, 42, "hollow: client and daemon on one CPU", colour="#666")]
    return parts, max(y, 42)


def scale(top, bottom):
    parts = []
    for tick in TICKS:
        x = place(tick)
        colour, width = ("#444", 1.5) if tick == 1 else ("#ddd", 1)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" '
                     f'stroke="{colour}" stroke-width="{width}"/>')
    return parts


def panel(title, rows, names, top):
    bottom = top + TITLE + ROW * len(rows)
    parts = [text(10, top + 16, title, weight="bold")]
    parts += [text(place(tick), top + 32, tick_name(tick), "middle", colour="#666")
              for tick in TICKS]
    parts += scale(top + TITLE - 4, bottom)
    for number, (metric, found) in enumerate(rows):
        y = top + TITLE + ROW * number + ROW / 2
        label = metric.title.split(" (ratio")[0]
        parts.append(text(LABEL - 14, y + 4, label, "end"))
        parts += [mark(place(ratio), y, names.index(name), f"{name}: {ratio:.2f}", pinned)
                  for (name, pinned), ratio in found.items()]
    return parts, bottom + GAP


def draw(report):
    """The picture, as SVG."""
    shown = list(panels(report))
    names = [name for name in report.names
             if any((name, False) in found or (name, True) in found
                    for _, rows in shown for _, found in rows)]
    parts, y = legend(names)
    y += GAP
    for title, rows in shown:
        made, y = panel(title, rows, names, y)
        parts += made
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y:.0f}" '
            f'viewBox="0 0 {WIDTH} {y:.0f}" font-family="sans-serif" font-size="12">\n'
            f'<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n")
