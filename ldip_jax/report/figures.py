"""Parts of an evaluation report: tables, curves over the frames, and rows of labelled pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from ldip_jax.report.content import Html, join, jpeg_url, section, tag

_WIDTH, _HEIGHT = 760, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 34
# Curves with at most this many points have a dot at each.
_MOST_DOTS = 16
_QUALITY = 88
_HEAT = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], np.float32)


@dataclass(frozen=True)
class Table:
    """A table of text: the first column names the row, the others are numbers."""

    heading: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Curves:
    """A score by frame or by another whole number, with one curve for each method.

    Attributes:
        score: what the values are.
        places: numbers on the horizontal axis, ascending.
        series: names and values; None for a missing value. A series without any value is left out, and the
            others keep their colours.
        axis: what the numbers on the horizontal axis are.
    """

    heading: str
    score: str
    places: Sequence[int]
    series: Sequence[tuple[str, Sequence[float | None]]]
    axis: str = "frame"


@dataclass(frozen=True)
class Figures:
    """Pictures with captions, in titled rows; if `wide`, each picture has its own line."""

    heading: str
    hint: str
    # Each picture may have a different size, so no axis has a name.
    rows: Sequence[tuple[str, Sequence[tuple[str, UInt8[np.ndarray, "_ _ 3"]]]]]
    wide: bool = False


def heat(error: Float[np.ndarray, "h w"], maximum: float) -> UInt8[np.ndarray, "h w 3"]:
    """Errors as colours from black through red to light yellow, which means `maximum` or more."""
    place = np.clip(error / max(maximum, 1e-6), 0.0, 1.0) * (len(_HEAT) - 1)
    low = np.minimum(place.astype(int), len(_HEAT) - 2)
    part = (place - low)[..., None].astype(np.float32)
    return np.round(_HEAT[low] * (1 - part) + _HEAT[low + 1] * part).astype(np.uint8)


def table(name: str, content: Table) -> Html:
    """The table as HTML."""
    head = (
        tag("th", text, scope="col", class_="number" if i else False) for i, text in enumerate(content.head)
    )
    body = []
    for row in content.rows:
        cells = (tag("td", text, class_="number") for text in row[1:])
        body.append(tag("tr", tag("th", row[0], scope="row"), *cells))
    element = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body))
    notes = [tag("ul", *(tag("li", note) for note in content.notes), class_="notes")] if content.notes else []
    return section(name, content.heading, tag("div", element, class_="wide"), *notes)


def _ticks(low: float | int, high: float | int, count: int) -> list[float]:
    """Round numbers between two values."""
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-9) / count))
    step *= next(m for m in (1, 2, 5, 10, 20) if (high - low) / (step * m) <= count)
    return [float(i * step) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


class _Chart:
    """Maps values to places in the drawing."""

    def __init__(self, content: Curves):
        known = [value for _, values in content.series for value in values if value is not None]
        low, high = min(known), max(known)
        margin = 0.06 * (high - low) or 0.5
        self.low, self.high = low - margin, high + margin
        self.first, self.last = content.places[0], max(content.places[-1], content.places[0] + 1)

    def x(self, place: float | int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (place - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (self.high - value) / (self.high - self.low)


def _line(
    x1: float | int, x2: float | int, y1: float | int, y2: float | int, class_: str, **more: str
) -> Html:
    places = {"x1": x1, "x2": x2, "y1": y1, "y2": y2}
    return tag("line", class_=class_, **more, **{name: f"{place:.1f}" for name, place in places.items()})


def _text(x: float | int, y: float | int, text: str, anchor: str) -> Html:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def curves(name: str, content: Curves, data: dict[str, Any]) -> Html:
    """The chart, with a cursor for pointer and arrow keys; adds what the page's script needs to `data`."""
    shown = [
        (number, label, values)
        for number, (label, values) in enumerate(content.series)
        if any(value is not None for value in values)
    ]
    if not shown:
        return Html()
    chart = _Chart(content)
    parts = []
    for value in _ticks(chart.low, chart.high, 6):
        parts.append(_line(_LEFT, _WIDTH - _RIGHT, chart.y(value), chart.y(value), "grid"))
        parts.append(_text(_LEFT - 6, chart.y(value) + 4, f"{value:g}", "end"))
    for value in _ticks(chart.first, chart.last, 10):
        if value == int(value):
            parts.append(_text(chart.x(value), _HEIGHT - _BOTTOM + 18, f"{int(value)}", "middle"))
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 2, content.axis, "end"))
    for number, _, values in shown:
        points = [
            (f"{chart.x(place):.1f}", f"{chart.y(value):.1f}")
            for place, value in zip(content.places, values, strict=True)
            if value is not None
        ]
        color = f"c{number % 6}"
        parts.append(tag("polyline", points=" ".join(map(",".join, points)), class_=f"curve {color}"))
        if len(points) <= _MOST_DOTS:
            parts += [tag("circle", cx=x, cy=y, r=3, class_=f"dot {color}") for x, y in points]
    cursor = f"{name}-cursor"
    parts.append(_line(0, 0, _TOP, _HEIGHT - _BOTTOM, "cursor", id=cursor, visibility="hidden"))
    label = f"{content.score} by {content.axis}; move along it with the arrow keys"
    drawing = tag(
        "svg",
        *parts,
        id=name,
        class_="curves",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="slider",
        tabindex=0,
        aria_label=label,
        aria_valuemin=content.places[0],
        aria_valuemax=content.places[-1],
        aria_valuenow=content.places[0],
    )
    legend = (
        tag(
            "li",
            tag("span", class_=f"swatch c{number % 6}"),
            label,
            " ",
            tag("b", id=f"{name}-value-{number}"),
        )
        for number, label, _ in shown
    )
    data.setdefault("curves", {})[name] = {
        "places": list(content.places),
        "values": {number: list(values) for number, _, values in shown},
        "x": [round(chart.x(place), 1) for place in content.places],
        "width": _WIDTH,
        "score": content.score,
        "axis": content.axis,
    }
    where = tag("p", tag("output", id=f"{name}-at"), class_="hint")
    return section(name, content.heading, drawing, tag("ul", *legend, class_="legend"), where)


def figures(name: str, content: Figures) -> Html:
    """The pictures; empty if there are none."""
    if not content.rows:
        return Html()
    parts = []
    for title, pictures in content.rows:
        shown = []
        for caption, image in pictures:
            picture = tag("img", src=jpeg_url(image, _QUALITY), alt=f"{caption}: {title}".removesuffix(": "))
            shown.append(tag("figure", picture, tag("figcaption", caption)))
        parts += [tag("h3", title)] if title else []
        parts.append(tag("div", *shown, class_="strips" if content.wide else "pictures"))
    return section(name, content.heading, join(parts), tag("p", content.hint, class_="hint"))
