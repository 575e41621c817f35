"""A clip: frames that are decoded one at a time, and what is known about them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from jaxtyping import Float

from ldip_jax.media.color import Color


@dataclass(frozen=True)
class Clip:
    """Frames in order, float32 R'G'B' `h w 3` in [0, 1]; every iteration decodes anew, frame by frame.

    A context manager, for symmetry with writers; files are open only while frames are taken.

    Attributes:
        path: the file or folder.
        kind: "video", "images" (a folder) or "image" (one still).
        height, width: of a frame, upright.
        count: number of frames; None where only decoding can tell.
        fps: frames per second, the mean where `times` are given; None for images.
        names: a PNG name for each frame: the inputs' own, or `00000000.png` ...; empty while `count` is None.
        notes: what was assumed or changed, one sentence each.
        color: how the file codes colour.
        has_audio: there is sound.
        sample_aspect: width of a pixel by its height.
        start: when the first frame shows, in seconds of the file's clock.
        times: seconds of each frame after the first one, where the frame rate varies; else None.
        hold: seconds for which the last frame shows, where the file says so; None: as long as the others.
    """

    path: Path
    kind: Literal["video", "images", "image"]
    height: int
    width: int
    count: int | None
    fps: Fraction | None
    names: list[str]
    notes: list[str]
    color: Color
    decode: Callable[[], Iterator[np.ndarray]] = field(repr=False)
    has_audio: bool = False
    sample_aspect: Fraction = Fraction(1)
    start: Fraction = Fraction(0)
    times: list[Fraction] | None = field(default=None, repr=False)
    hold: Fraction | None = None

    def frames(self) -> Iterator[Float[np.ndarray, "h w 3"]]:
        """The frames, from the first one.

        Raises:
            InputError: a frame is damaged, or missing; the message names it.
        """
        return self.decode()

    def __iter__(self) -> Iterator[Float[np.ndarray, "h w 3"]]:
        return self.frames()

    def __enter__(self) -> "Clip":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
