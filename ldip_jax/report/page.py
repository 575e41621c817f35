"""A report as one HTML file that needs nothing else: no network and no other files."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import ldip_jax
from ldip_jax.atomic import atomic_open
from ldip_jax.report import figures as figure_html
from ldip_jax.report import sections
from ldip_jax.report.content import Crop, KeyFrame, Method, frame_urls, join
from ldip_jax.report.figures import Curves, Figures, Table

MOST_BYTES = 8_000_000
"""Default limit of a page's size."""


def write_report(
    path: str | Path,
    *,
    title: str,
    frame_names: Sequence[str],
    methods: Sequence[Method],
    settings: Sequence[tuple[str, str]] = (),
    crops: Sequence[Crop] = (),
    key_frames: Sequence[KeyFrame] = (),
    notes: Sequence[str] = (),
    results_heading: str = "Results",
    tables: Sequence[Table | Curves] = (),
    curves: Curves | None = None,
    figures: Sequence[Figures] = (),
    most_bytes: int = MOST_BYTES,
) -> None:
    """Write the report: settings, results, before/after slider, details, key-frames with references.

    An evaluation report has more: tables and their curves before the results, curves by frame after them, and
    figures after the slider.

    Parts without content are left out; the slider needs two methods with images. Whole frames are JPEG at the
    best quality that keeps the page within `most_bytes`, with fewer frames if no quality does. Details are
    PNG.

    Args:
        path: the file, replaced if it exists.
        frame_names: one for each shown frame, in the order of `Method.images`.
        methods: rows of the table. The slider starts with the first one on the left, and on the right the one
            with the highest PSNR, or the last one if none has a PSNR.
        settings: pairs of name and value.
        crops: places to show enlarged; see `choose_crops`.
        notes: sentences below the results.

    Raises:
        ValueError: two methods have the same name, or images differ between methods in number or size.
        InputError: the file cannot be written.
    """
    shown = [method for method in methods if len(method.images)]
    _check(methods, shown, frame_names)
    thumbnails: sections.Thumbnails = {}
    data: dict[str, Any] = {}
    before = sections.settings(settings)
    for number, part in enumerate(tables):
        name = f"table-{number}"
        before += (
            figure_html.table(name, part) if isinstance(part, Table) else figure_html.curves(name, part, data)
        )
    before += sections.results(methods, notes, results_heading) if methods else ""
    before += figure_html.curves("curves", curves, data) if curves is not None else ""
    after = sections.crops(methods, crops, frame_names)
    after += "".join(figure_html.figures(f"figures-{number}", part) for number, part in enumerate(figures))
    after += sections.key_frames(key_frames, thumbnails)
    data["thumbnails"] = list(thumbnails)
    slider = ""
    names = [method.name for method in shown]
    if len(shown) > 1:
        bytes_left = most_bytes - len(before) - len(after) - sum(map(len, thumbnails)) - 30_000
        urls, shown_frames, quality = frame_urls([method.images for method in shown], bytes_left)
        height, width = shown[0].images[0].shape[:2]
        data |= {"names": names, "frames": [frame_names[index] for index in shown_frames]}
        data |= {"images": urls, "width": width, "height": height}
        encoding = _encoding(quality, shown_frames, frame_names)
        slider = sections.slider(names, _best(shown), len(shown_frames), encoding)
    page = _page(title, before + slider + after, data)
    with atomic_open(path) as file:
        # File names may not be Unicode; what cannot be encoded becomes a question mark.
        file.write(page.encode("utf-8", "replace"))


def _best(methods: Sequence[Method]) -> int:
    """The index of the highest PSNR; the last of equal ones, or of all if there is no PSNR."""
    return max(range(len(methods)), key=lambda i: (methods[i].psnr_y or 0.0, i))


def _encoding(quality: int, shown_frames: Sequence[int], frame_names: Sequence[str]) -> str:
    text = f"Frames are stored as JPEG of quality {quality}, colour at full resolution."
    if len(shown_frames) < len(frame_names):
        text += f" {len(shown_frames)} of {len(frame_names)} frames are shown, to keep the page small."
    return text


def _page(title: str, body: str, data: dict[str, Any]) -> str:
    script = sections.packaged("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(sections.packaged("template.html")).substitute(
        title=join([title]),
        # Only this script may run, and nothing may be loaded, whatever text the page contains.
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        style=sections.packaged("report.css"),
        body=body,
        data=json.dumps(data).replace("<", "\\u003c"),
        script=script,
        version=ldip_jax.__version__,
    )


def _check(methods: Sequence[Method], shown: Sequence[Method], frame_names: Sequence[str]) -> None:
    if len({method.name for method in methods}) < len(methods):
        raise ValueError("every method of a report needs its own name")
    for method in shown:
        count = len(method.images)
        if count != len(frame_names):
            raise ValueError(f"{method.name} has {count} images for {len(frame_names)} frame names")
    if len({image.shape for method in shown for image in method.images}) > 1:
        raise ValueError("the images of a report must all have the same size")
