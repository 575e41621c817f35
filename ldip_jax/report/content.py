"""What a report shows. Images are uint8 RGB `h w 3`; names and notes are free text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True)
class Method:
    """One way to get the frames: a row of the results, and one side of the slider.

    Attributes:
        name: such as "Bicubic"; different for each method of a report.
        images: the shown frames, the same ones and of one size in every method that has any.
        psnr_y, ssim_y, lpips: averages of the whole clip; None without ground truth.
        seconds: what it took for the whole clip; None where it was not measured.
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
    """A square of a shown frame: its number among the shown ones, left upper pixel, and side in pixels."""

    frame: int
    x: int
    y: int
    side: int

    def cut(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "side side 3"]:
        """These pixels of `image`; a ValueError where they do not all lie inside."""
        part = image[self.y : self.y + self.side, self.x : self.x + self.side]
        if min(self.x, self.y) < 0 or part.shape[:2] != (self.side, self.side):
            raise ValueError(f"{self} does not lie inside an image of {image.shape[1]}x{image.shape[0]}")
        return part


@dataclass(frozen=True)
class Reference:
    """A reference that was matched with a key-frame.

    Attributes:
        name: a still's file name, or which frame of the clip it is.
        share: the fraction of the key-frame's pixels that it matches with confidence above 0.5.
        used: whether it got a slot.
        image: the reference, any size; shown as a thumbnail.
    """

    name: str
    share: float
    used: bool = True
    image: UInt8[np.ndarray, "h w 3"] | None = None


@dataclass(frozen=True)
class KeyFrame:
    """A key-frame, by name, with the references that were matched with it."""

    name: str
    references: Sequence[Reference] = ()
    image: UInt8[np.ndarray, "h w 3"] | None = None
