"""Parts of an evaluation's report: tables, curves over the frames, and rows of labelled pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from ldip_jax.report.encoding import jpeg_url
from ldip_jax.report.markup import Html, join, section, tag

_WIDTH, _HEIGHT = 760, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 34
_QUALITY = 88
_HEAT = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], np.float32)


@dataclass(frozen=True)
class Table:
    """A table of text: the first column names its row, the others are numbers."""

    heading: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Curves:
    """A score of each frame, a curve for each way to get the frames; None where there is no score."""

    heading: str
    score: str
    frames: Sequence[int]
    series: Sequence[tuple[str, Sequence[float | None]]]


@dataclass(frozen=True)
class Figures:
    """Pictures under captions, in rows with a title each; `wide` ones take a line of their own."""

    heading: str
    hint: str
    # Of any size, and of another one each: no axis has a name.
    rows: Sequence[tuple[str, Sequence[tuple[str, UInt8[np.ndarray, "_ _ 3"]]]]]
    wide: bool = False


def heat(error: Float[np.ndarray, "h w"], most: float) -> UInt8[np.ndarray, "h w 3"]:
    """Errors as colours from black through red to light yellow, which stands for `most` and above."""
    place = np.clip(error / max(most, 1e-6), 0.0, 1.0) * (len(_HEAT) - 1)
    low = np.minimum(place.astype(int), len(_HEAT) - 2)
    part = (place - low)[..., None].astype(np.float32)
    return np.round(_HEAT[low] * (1 - part) + _HEAT[low + 1] * part).astype(np.uint8)


def table(name: str, content: Table) -> Html:
    """The table; rows that are all of a piece with others, such as published figures, are for the caller."""
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
    """Where values lie in the drawing."""

    def __init__(self, content: Curves):
        known = [value for _, values in content.series for value in values if value is not None]
        low, high = min(known), max(known)
        margin = 0.06 * (high - low) or 0.5
        self.low, self.high = low - margin, high + margin
        self.first, self.last = content.frames[0], max(content.frames[-1], content.frames[0] + 1)

    def x(self, frame: float | int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (frame - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (self.high - value) / (self.high - self.low)


def _line(
    x1: float | int, x2: float | int, y1: float | int, y2: float | int, class_: str, **more: str
) -> Html:
    places = {"x1": x1, "x2": x2, "y1": y1, "y2": y2}
    return tag("line", class_=class_, **more, **{name: f"{place:.1f}" for name, place in places.items()})


def _text(x: float | int, y: float | int, text: str, anchor: str) -> Html:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def curves(content: Curves, data: dict[str, object]) -> Html:
    """The chart, with a cursor that pointer and arrow keys move; adds what its script needs to `data`."""
    if not any(value is not None for _, values in content.series for value in values):
        return Html()
    chart = _Chart(content)
    parts = []
    for value in _ticks(chart.low, chart.high, 6):
        parts.append(_line(_LEFT, _WIDTH - _RIGHT, chart.y(value), chart.y(value), "grid"))
        parts.append(_text(_LEFT - 6, chart.y(value) + 4, f"{value:g}", "end"))
    for value in _ticks(chart.first, chart.last, 10):
        if value == int(value):
            parts.append(_text(chart.x(value), _HEIGHT - _BOTTOM + 18, f"{int(value)}", "middle"))
    for number, (_, values) in enumerate(content.series):
        points = [
            f"{chart.x(frame):.1f},{chart.y(value):.1f}"
            for frame, value in zip(content.frames, values, strict=True)
            if value is not None
        ]
        parts.append(tag("polyline", points=" ".join(points), class_=f"curve c{number % 6}"))
    parts.append(_line(0, 0, _TOP, _HEIGHT - _BOTTOM, "cursor", id="curve-cursor", visibility="hidden"))
    label = f"{content.score} of each frame; the arrow keys move from frame to frame"
    drawing = tag(
        "svg",
        *parts,
        id="curves",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="slider",
        tabindex=0,
        aria_label=label,
        aria_valuemin=content.frames[0],
        aria_valuemax=content.frames[-1],
        aria_valuenow=content.frames[0],
    )
    legend = (
        tag(
            "li", tag("span", class_=f"swatch c{number % 6}"), name, " ", tag("b", id=f"curve-value-{number}")
        )
        for number, (name, _) in enumerate(content.series)
    )
    data["curves"] = {
        "frames": list(content.frames),
        "values": [list(values) for _, values in content.series],
        "x": [round(chart.x(frame), 1) for frame in content.frames],
        "width": _WIDTH,
        "score": content.score,
    }
    where = tag("p", tag("output", id="curve-frame"), class_="hint")
    return section("curves", content.heading, drawing, tag("ul", *legend, class_="legend"), where)


def figures(name: str, content: Figures) -> Html:
    """The pictures; nothing where there are none."""
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
