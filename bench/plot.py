"""Latency over throughput as an SVG picture, on logarithmic axes. Pure: text out, no library, opens in any browser."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WIDTH, HEIGHT = 1000, 600
LEFT, RIGHT, TOP, BOTTOM = 70, 290, 50, 60
# Okabe and Ito's colours, which people who see colours differently can tell apart too.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
_STYLE = "text { font: 13px sans-serif; fill: #222 } .small { font-size: 11px } .title { font-size: 16px }"


@dataclass(frozen=True)
class Point:
    """One load: how much was done in a second, and how long it took, at the median and at the 99th percentile."""

    load: str
    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class _Axis:
    """A logarithmic axis from ``low`` to ``high``, drawn from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float) -> _Axis:
        """Return an axis whose ends are powers of ten around the values."""
        found = [value for value in values if value > 0] or [1.0]
        low = 10.0 ** math.floor(math.log10(min(found)))
        high = 10.0 ** math.ceil(math.log10(max(found)))
        return cls(low, high if high > low else low * 10, start, end)

    def place(self, value: float) -> float:
        """Return where a value lies; one that is not positive lies at the axis' low end."""
        part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.start + part * (self.end - self.start)

    def marks(self) -> list[float]:
        """Return the powers of ten, both ends included."""
        first, last = round(math.log10(self.low)), round(math.log10(self.high))
        return [10.0**exponent for exponent in range(first, last + 1)]


def latency_plot(title: str, series: Mapping[str, Sequence[Point]]) -> str:
    """Return the picture: for each name a line through its loads, and a thinner, dashed one for the 99th percentile.

    Args:
        title: What stands above it.
        series: The points of each line by its name, in the order in which they are joined.
    """
    points = [point for line in series.values() for point in line]
    across = _Axis.over((point.per_second for point in points), LEFT, WIDTH - RIGHT)
    up = _Axis.over((each for point in points for each in (point.p50_ms, point.p99_ms)), HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text class="title" x="{LEFT}" y="28">{escape(title)}</text>',
        *_grid(across, up),
    ]
    for number, (name, line) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        parts += _line(line, across, up, colour)
        parts += _legend(name, number, colour)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _grid(across: _Axis, up: _Axis) -> list[str]:
    parts = []
    for value in across.marks():
        x = across.place(value)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        parts.append(
            f'<text class="small" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:,g}</text>'
        )
    for value in up.marks():
        y = up.place(value)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text class="small" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,g} ms</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 18}" text-anchor="middle">a second</text>')
    parts.append(f'<text class="small" x="{WIDTH - RIGHT + 16}" y="{HEIGHT - BOTTOM}">solid: p50; dashed: p99</text>')
    return parts


def _line(line: Sequence[Point], across: _Axis, up: _Axis, colour: str) -> list[str]:
    parts = []
    for latency, look in (("p50_ms", 'stroke-width="2"'), ("p99_ms", 'stroke-width="1" stroke-dasharray="4 3"')):
        places = [(across.place(point.per_second), up.place(getattr(point, latency))) for point in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" {look}/>')
        if latency == "p50_ms":
            for point, (x, y) in zip(line, places, strict=True):
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
                parts.append(f'<text class="small" x="{x + 5:.1f}" y="{y - 5:.1f}">{escape(point.load)}</text>')
    return parts


def _legend(name: str, number: int, colour: str) -> list[str]:
    x, y = WIDTH - RIGHT + 16, TOP + 10 + number * 22
    return [
        f'<line x1="{x}" y1="{y}" x2="{x + 24}" y2="{y}" stroke="{colour}" stroke-width="2"/>',
        f'<text x="{x + 32}" y="{y + 4}">{escape(name)}</text>',
    ]
