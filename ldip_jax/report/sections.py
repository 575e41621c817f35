"""The parts of a report as HTML."""

from collections.abc import Sequence
from importlib.resources import files
from string import Template

from ldip_jax.report.content import (
    Crop,
    Html,
    KeyFrame,
    Method,
    Reference,
    join,
    png_url,
    section,
    tag,
    thumbnail_url,
)

Thumbnails = dict[str, int]
"""`data:` URLs of thumbnails and their numbers: an image that is shown several times is stored once."""

_NONE = "\N{EN DASH}"
_TIMES = "\N{MULTIPLICATION SIGN}"
_ZOOMS = (1, 2, 4, 8)


def packaged(name: str) -> str:
    """The text of a file in this package."""
    return files("ldip_jax.report").joinpath(name).read_text(encoding="utf-8")


def settings(rows: Sequence[tuple[str, str]]) -> Html:
    """What was run: names and values."""
    if not rows:
        return Html()
    pairs = (tag("div", tag("dt", name), tag("dd", value)) for name, value in rows)
    return section("run", "What was run", tag("dl", *pairs, class_="run"))


def results(methods: Sequence[Method], notes: Sequence[str], heading: str = "Results") -> Html:
    """A row for each method; columns without any value are left out."""
    columns = {
        "PSNR Y (dB)": [_number(method.psnr_y, 4) for method in methods],
        "SSIM Y": [_number(method.ssim_y, 4) for method in methods],
        "LPIPS": [_number(method.lpips, 4) for method in methods],
        "Time (s)": [_number(method.seconds, 1) for method in methods],
    }
    columns = {title: values for title, values in columns.items() if any(value != _NONE for value in values)}
    head = (tag("th", title, scope="col", class_="number") for title in columns)
    body = []
    for index, method in enumerate(methods):
        name = tag("th", method.name, *([" ", tag("small", method.note)] if method.note else []), scope="row")
        cells = (tag("td", values[index], class_="number") for values in columns.values())
        body.append(tag("tr", name, *cells))
    table = tag(
        "table",
        tag("thead", tag("tr", tag("th", "Method", scope="col"), *head)),
        tag("tbody", *body),
    )
    items = tag("ul", *(tag("li", note) for note in notes), class_="notes") if notes else ""
    return section("results", heading, tag("div", table, class_="wide"), items)


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"


def slider(names: Sequence[str], right: int, frames: int, encoding: str) -> Html:
    """Two methods over one another, at first number 0 and number `right`, for `frames` frames.

    It works by the page's script.
    """

    def options(chosen: int) -> Html:
        return join(tag("option", name, value=i, selected=i == chosen) for i, name in enumerate(names))

    body = Template(packaged("slider.html")).substitute(
        left=options(0),
        right=options(right),
        zooms=join(tag("option", f"{factor} {_TIMES}", value=factor) for factor in _ZOOMS),
        last=frames - 1,
        hidden="" if frames > 1 else "hidden",
        encoding=join([encoding]),
    )
    return section("slider", "Before and after", Html(body))


def crops(methods: Sequence[Method], chosen: Sequence[Crop], frame_names: Sequence[str]) -> Html:
    """Each square from each method, without resampling."""
    shown = [method for method in methods if len(method.images)]
    if not chosen or not shown:
        return Html()
    content = []
    for crop in chosen:
        size = f"{crop.side} {_TIMES} {crop.side} pixels from ({crop.x}, {crop.y})"
        where = f"{frame_names[crop.frame]}, {size}"
        figures = []
        for method in shown:
            url = png_url(crop.cut(method.images[crop.frame]))
            image = tag("img", src=url, alt=f"{method.name}: {where}")
            figures.append(tag("figure", image, tag("figcaption", method.name)))
        content += [tag("h3", where), tag("div", *figures, class_="crops")]
    hint = tag("p", "Lossless (PNG), enlarged without smoothing.", class_="hint")
    return section("crops", "Details", *content, hint)


def key_frames(rows: Sequence[KeyFrame], thumbnails: Thumbnails) -> Html:
    """Key-frames, their references and how much each reference matches; adds to `thumbnails`."""
    if not rows:
        return Html()
    body = []
    for row in rows:
        name = tag("figure", _thumbnail(row, thumbnails), tag("figcaption", row.name))
        cards = [_reference(reference, thumbnails) for reference in row.references] or ["none"]
        body.append(tag("tr", tag("th", name, scope="row"), tag("td", tag("div", *cards, class_="cards"))))
    head = tag("tr", tag("th", "Key-frame", scope="col"), tag("th", "References", scope="col"))
    table = tag("table", tag("thead", head), tag("tbody", *body), class_="keys")
    hint = "The percentage is the share of the key-frame's pixels that match with confidence above 0.5."
    return section(
        "keys",
        "Key-frames and their references",
        tag("div", table, class_="wide"),
        tag("p", hint, class_="hint"),
    )


def _reference(reference: Reference, thumbnails: Thumbnails) -> Html:
    percent = tag("b", f"{100 * reference.share:.0f}\N{NO-BREAK SPACE}%")
    note = reference.note or ("" if reference.used else "not used")
    more = [tag("br"), tag("small", note)] if note else []
    caption = tag("figcaption", reference.name, tag("br"), percent, *more)
    return tag(
        "figure", _thumbnail(reference, thumbnails), caption, class_=False if reference.used else "unused"
    )


def _thumbnail(item: KeyFrame | Reference, thumbnails: Thumbnails) -> Html:
    if item.image is None:
        return Html()
    number = thumbnails.setdefault(thumbnail_url(item.image), len(thumbnails))
    return tag("img", data_thumbnail=number, alt="")
