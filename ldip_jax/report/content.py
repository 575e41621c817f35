"""What a report shows, and its parts as HTML and as images inside it."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import UInt8
from PIL import Image


@dataclass(frozen=True)
class Method:
    """A method that makes the frames: a row of the results, and one side of the slider.

    Attributes:
        name: such as "Bicubic"; different for each method of a report.
        images: the shown frames; every method that has images shows the same frames at the same size.
        psnr_y, ssim_y, lpips: averages over the whole clip; None without ground truth.
        seconds: time for the whole clip; None if it was not measured.
        note: a word or sentence, such as "untrained".
    """

    name: str
    images: Sequence[UInt8[np.ndarray, "h w 3"]] = ()
    psnr_y: float | None = None
    ssim_y: float | None = None
    seconds: float | None = None
    note: str = ""
    lpips: float | None = None


@dataclass(frozen=True)
class Crop:
    """A square of a shown frame: number of the frame among those shown, upper left pixel, side in pixels."""

    frame: int
    x: int
    y: int
    side: int

    def cut(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "side side 3"]:
        """These pixels of `image`; raises ValueError if they do not all lie inside."""
        part = image[self.y : self.y + self.side, self.x : self.x + self.side]
        if min(self.x, self.y) < 0 or part.shape[:2] != (self.side, self.side):
            raise ValueError(f"{self} does not lie inside an image of {image.shape[1]}x{image.shape[0]}")
        return part


@dataclass(frozen=True)
class Reference:
    """A reference that was matched with a key-frame.

    Attributes:
        name: a still's file name, or the frame's name if it is a frame of the clip.
        share: the fraction of the key-frame's pixels that it matches with confidence above 0.5.
        used: whether the key-frame uses it.
        image: the reference, of any size; shown as a thumbnail.
        note: how it was calibrated, or why it is not used.
    """

    name: str
    share: float
    used: bool = True
    image: UInt8[np.ndarray, "h w 3"] | None = None
    note: str = ""


@dataclass(frozen=True)
class KeyFrame:
    """A key-frame, by name, with the references that were matched with it."""

    name: str
    references: Sequence[Reference] = ()
    image: UInt8[np.ndarray, "h w 3"] | None = None


_EMPTY = frozenset({"br", "img"})


class Html(str):
    """Text that is already HTML; any other text is escaped when it is put into HTML."""


def join(parts: Iterable[str]) -> Html:
    """The parts concatenated, each escaped unless it is `Html`."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts))


def tag(name: str, *content: str, **attributes: str | int | bool) -> Html:
    """An element. `class_` means `class`, and `data_x` means `data-x`.

    An attribute that is True has no value; one that is False is left out.
    """
    start = name
    for key, value in attributes.items():
        if value is not False:
            start += f" {key.rstrip('_').replace('_', '-')}"
            start += "" if value is True else f'="{escape(str(value))}"'
    return Html(f"<{start}>" if name in _EMPTY else f"<{start}>{join(content)}</{name}>")


def section(name: str, heading: str, *content: str) -> Html:
    """A part of the page with its heading; `name` must be unique."""
    title = tag("h2", heading, id=f"h-{name}")
    return tag("section", title, *content, aria_labelledby=f"h-{name}")


_QUALITIES = (95, 90, 85, 75, 60)
_THUMBNAIL = 160


def png_url(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """`data:` URL of exactly these pixels."""
    return _url(Image.fromarray(image), "PNG", optimize=True)


def jpeg_url(image: UInt8[np.ndarray, "h w 3"], quality: int) -> str:
    """`data:` URL, with colour at full resolution."""
    return _url(Image.fromarray(image), "JPEG", quality=quality, subsampling=0)


def thumbnail_url(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """`data:` URL of a small copy, whose longer side is 160 pixels."""
    small = Image.fromarray(image)
    small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    return _url(small, "JPEG", quality=80)


def _url(image: Image.Image, kind: str, **options: int | bool) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def frame_urls(
    rows: Sequence[Sequence[UInt8[np.ndarray, "h w 3"]]], most_bytes: int
) -> tuple[list[list[str]], list[int], int]:
    """Rows of frames (one row per method) as JPEG, at the best quality at which all of them fit.

    If even the lowest quality does not fit, every second frame is left out, repeatedly; one frame is always
    kept.

    Returns:
        The URLs by row; the numbers of the frames that are kept; the JPEG quality.
    """
    kept = list(range(len(rows[0])))
    while True:
        for quality in _QUALITIES:
            urls = []
            bytes_left = most_bytes
            for row in rows:
                urls.append([jpeg_url(row[index], quality) for index in kept])
                bytes_left -= sum(map(len, urls[-1]))
                if bytes_left < 0:
                    break
            if bytes_left >= 0:
                return urls, kept, quality
        if len(kept) == 1:
            return [[jpeg_url(row[kept[0]], _QUALITIES[-1])] for row in rows], kept, _QUALITIES[-1]
        kept = kept[::2]
