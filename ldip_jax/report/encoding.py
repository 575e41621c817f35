"""Images as text that a page can hold, within a given number of bytes."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

_QUALITIES = (95, 90, 85, 75, 60)
_THUMBNAIL = 160


def png_url(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """`data:` URL of the very pixels."""
    return _url(Image.fromarray(image), "PNG", optimize=True)


def jpeg_url(image: UInt8[np.ndarray, "h w 3"], quality: int) -> str:
    """`data:` URL, colour at full resolution."""
    return _url(Image.fromarray(image), "JPEG", quality=quality, subsampling=0)


def thumbnail_url(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """`data:` URL of a small copy, longest side 160."""
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
    """Rows of frames (a row a method) as JPEG, the best quality of which all of them fit.

    Where even the lowest quality does not fit, every second frame is left out, again and again; one frame is
    always kept.

    Returns:
        The URLs by row; the numbers of the frames that are kept; the JPEG quality.
    """
    kept = list(range(len(rows[0])))
    while True:
        for quality in _QUALITIES:
            urls = []
            room = most_bytes
            for row in rows:
                urls.append([jpeg_url(row[index], quality) for index in kept])
                room -= sum(map(len, urls[-1]))
                if room < 0:
                    break
            if room >= 0:
                return urls, kept, quality
        if len(kept) == 1:
            return [[jpeg_url(row[kept[0]], _QUALITIES[-1])] for row in rows], kept, _QUALITIES[-1]
        kept = kept[::2]
