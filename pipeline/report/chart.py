"""Charts as inline SVG: a frame that maps figures to pixels, with grid, ticks and labels of its axes.

Colours and line styles are classes (s0, s1, ...), so that the page's style has them, in light and dark.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.report.markup import Markup, element

LEFT, RIGHT, TOP, BOTTOM = 54, 14, 12, 42
SERIES = 8
"""Styles of lines that can be told apart."""


class Frame(NamedTuple):
    """A chart's size in pixels, and the figures at the ends of its axes."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int = 540
    height: int = 320

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Figures → pixels."""
        (x0, x1), (y0, y1) = self.x, self.y
        across = (self.width - LEFT - RIGHT) * (x - x0) / (x1 - x0)
        up = (self.height - TOP - BOTTOM) * (y - y0) / (y1 - y0)
        return round(LEFT + across, 1), round(self.height - BOTTOM - up, 1)

    def line(self, points: Iterable[tuple[float, float]], **attributes: str) -> Markup:
        """A line through points."""
        path = " ".join(f"{x},{y}" for x, y in (self.at(*point) for point in points))
        return element("polyline", points=path, fill="none", **attributes)

    def dot(self, x: float, y: float, title: str, radius: float = 3.5, **attributes: str) -> Markup:
        """A point with a text that is shown when it is pointed at."""
        across, down = self.at(x, y)
        return element("circle", element("title", title), cx=across, cy=down, r=radius, **attributes)

    def drawn(self, *children: Markup, title: str, x_label: str, y_label: str) -> Markup:
        """The chart: grid and labels below, children on top. `title` is what a screen reader says of it."""
        middle = (self.height - BOTTOM + TOP) / 2
        labels = [
            element("text", x_label, x=(self.width + LEFT - RIGHT) / 2, y=self.height - 6, class_="axis"),
            element("text", y_label, class_="axis", transform=f"translate(13 {middle}) rotate(-90)"),
        ]
        return element(
            "svg",
            *(self._x_ticks(), self._y_ticks(), labels, children),
            viewBox=f"0 0 {self.width} {self.height}",
            role="img",
            aria_label=title,
            class_="chart",
        )

    def _x_ticks(self) -> list[Markup]:
        bottom = self.height - BOTTOM
        places = [(value, self.at(value, self.y[0])[0]) for value in ticks(*self.x, 6)]
        return [element("text", figure(v), x=x, y=bottom + 16, class_="tick middle") for v, x in places]

    def _y_ticks(self) -> list[Markup]:
        found = []
        for value in ticks(*self.y, 5):
            y, right = self.at(self.x[0], value)[1], self.width - RIGHT
            found.append(element("line", x1=LEFT, x2=right, y1=y, y2=y, class_="grid"))
            found.append(element("text", figure(value), x=LEFT - 7, y=y + 4, class_="tick end"))
        return found


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round figures between two, about so many."""
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def figure(value: float) -> str:
    """A tick in few characters, with a true minus sign."""
    return f"{value:.6g}".replace("-", "−")


def spread(values: Sequence[float], pad: float = 0.06) -> tuple[float, float]:
    """The ends of an axis that holds some figures, with a margin."""
    low, high = min(values), max(values)
    margin = pad * (high - low) or max(abs(high) * pad, 0.5)
    return low - margin, high + margin


def swatch(series: int) -> Markup:
    """The sign of a line in a legend."""
    line = element("line", x1=0, x2=26, y1=6, y2=6, class_=f"series s{series % SERIES}")
    return element("svg", line, viewBox="0 0 26 12", class_="swatch", aria_hidden="true")
