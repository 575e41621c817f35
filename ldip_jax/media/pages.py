"""Image files of several pictures that no demuxer reads, as clips: animated WebP and AVIF, pages of TIFF."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from ldip_jax.errors import InputError
from ldip_jax.media.clip import Clip
from ldip_jax.media.color import SRGB
from ldip_jax.media.images import ImageInfo, page_seconds, read_pages
from ldip_jax.media.timing import rate_of


def open_pages(path: Path, info: ImageInfo) -> Clip:
    """All pictures of an image file as a clip; decodes them once, to count and time them.

    Pages of TIFF have no times.

    Raises:
        InputError: a picture is damaged, or of another size.
    """
    seconds = page_seconds(path)
    fps, times, hold = None, None, None
    if seconds[0]:
        # Pictures of no duration show as long as browsers show them.
        lasting = [length or Fraction(1, 10) for length in seconds]
        ends = np.cumsum([round(length * 1000) for length in lasting]).tolist()
        fps, times = rate_of([0, *ends[:-1]], Fraction(1, 1000), [1 / lasting[0]])
        hold = lasting[-1] if times is not None else None
    count = len(seconds)
    notes = [*info.notes, f"its {count} pictures are the frames"]
    if times is not None:
        notes.append(f"variable frame rate, {float(fps or 0):.3f} on average: all times are kept")
    return Clip(
        path=path,
        kind="images",
        height=info.height,
        width=info.width,
        count=count,
        fps=fps,
        names=[f"{number:08d}.png" for number in range(count)],
        notes=notes,
        color=replace(SRGB, bits=info.bits),
        decode=lambda first: islice(_frames(path, (info.height, info.width)), first, None),
        times=times,
        hold=hold,
    )


def _frames(path: Path, size: tuple[int, int]) -> Iterator[np.ndarray]:
    for number, frame in enumerate(read_pages(path)):
        if frame.shape[:2] != size:
            raise InputError(
                f"{path}: changes from {size[1]}x{size[0]} to {frame.shape[1]}x{frame.shape[0]} at picture"
                f" {number}; split it there"
            )
        yield frame
