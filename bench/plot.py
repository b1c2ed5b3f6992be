"""The record as a picture: a row a case, its median and quartiles of server CPU a request on one logarithmic axis."""

import math
from xml.sax.saxutils import escape

from targets import spread
from workloads import FLASK, HAPROXY, HYPER, LUA, NGINX, NOOP, OURS, REDIS, VALKEY

# Told apart also by those who see few colours (the palette of Okabe and Ito).
COLOURS = {OURS: "#d55e00", NOOP: "#000000", NGINX: "#009e73", LUA: "#0072b2", FLASK: "#cc79a7",
           HYPER: "#56b4e9", HAPROXY: "#e69f00", REDIS: "#7a0000", VALKEY: "#5b3a8c"}
LEFT, RIGHT, AXIS_WIDTH = 300, 110, 620
ROW, HEADING, TOP = 17, 34, 64


def svg(results):
    """All workloads of a record, in their order, as the text of an SVG file."""
    workloads = {name: workload for name, workload in results["workloads"].items() if workload["cases"]}
    costs = [figures["cpu_us"] for workload in workloads.values() for case in workload["cases"].values()
             for figures in case["rounds"]]
    axis = _Axis(min(costs), max(costs))
    marks, y = [], TOP
    for name, workload in workloads.items():
        y += HEADING
        marks.append(_text(12, y - 8, f"{name}: {workload['title']}", weight="bold"))
        for label, case in workload["cases"].items():
            marks += _row(axis, y, label, case)
            y += ROW
    width, height = LEFT + AXIS_WIDTH + RIGHT, y + 16
    machine = results["machine"]
    title = f"Server CPU a request, us (log): median and quartiles. {machine['date']}, {machine['cores']} cores"
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(12, 22, title, weight="bold", size=14),
        *axis.grid(height), *marks, "</svg>",
    ]) + "\n"


class _Axis:
    def __init__(self, least, most):
        self.low, self.high = math.floor(math.log10(least)), math.ceil(math.log10(most))
        self.high = max(self.high, self.low + 1)

    def x(self, value):
        return LEFT + AXIS_WIDTH * (math.log10(value) - self.low) / (self.high - self.low)

    def grid(self, height):
        for decade in range(self.low, self.high + 1):
            for digit in (1, 2, 5) if decade < self.high else (1,):
                value = digit * 10.0**decade
                x = self.x(value)
                yield (f'<line x1="{x:.1f}" y1="{TOP - 10}" x2="{x:.1f}" y2="{height - 10}" '
                       f'stroke="{"#bbbbbb" if digit == 1 else "#e8e8e8"}"/>')
                yield _text(x, TOP - 16, f"{value:g}", anchor="middle", size=11)


def _row(axis, y, label, case):
    median, low, high = spread([figures["cpu_us"] for figures in case["rounds"]])
    colour = COLOURS[case["contender"]]
    middle = y + ROW / 2
    return [
        _text(LEFT - 10, middle + 4, label, anchor="end"),
        f'<line x1="{axis.x(low):.1f}" y1="{middle}" x2="{axis.x(high):.1f}" y2="{middle}" '
        f'stroke="{colour}" stroke-width="3" stroke-opacity="0.45"/>',
        f'<circle cx="{axis.x(median):.1f}" cy="{middle}" r="4.5" fill="{colour}"/>',
        _text(axis.x(high) + 9, middle + 4, f"{median:,.2f}", size=11, colour=colour),
    ]


def _text(x, y, text, anchor="start", weight="normal", size=12, colour="#000000"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}" '
            f'fill="{colour}">{escape(text)}</text>')
