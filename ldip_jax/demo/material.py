"""What the demonstration works on: sixteen frames of a real clip, made small, and stills of the same shot."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from ldip_jax.media.clip import Clip
from ldip_jax.media.color import quantise
from ldip_jax.ops.imresize import imresize

CLIP = "cityCC0"
# The camera moves past buildings, near and far, that are full of windows. The shot ends with frame 116.
FIRST, COUNT = 50, 16
# Three fifths of the clip's own size: the artefacts of its compression vanish.
SIZE = (256, 448)
SCALE = 4
# Frames between a still and the nearest scored frame, either side. Half a second is what a user who takes
# photos along with the video gets at best.
BEFORE, AFTER = (12, 24), (12, 24, 36)


@dataclass(frozen=True)
class Material:
    """Images are 8-bit RGB.

    Attributes:
        truth: the frames as they should come out, `H W 3`.
        low: the frames that are upscaled, a quarter of that size: MATLAB's bicubic.
        stills: sharp frames of the same shot, `H W 3`, by name, nearest first; none is among `truth`.
    """

    truth: list[UInt8[np.ndarray, "H W 3"]]
    low: list[UInt8[np.ndarray, "h w 3"]]
    stills: dict[str, UInt8[np.ndarray, "H W 3"]]


def still_frames() -> dict[str, int]:
    """Where in the clip the stills are, by name, nearest to the scored frames first."""
    places = [(distance, "before", FIRST - distance) for distance in BEFORE]
    places += [(distance, "after", FIRST + COUNT - 1 + distance) for distance in AFTER]
    return {
        f"{distance} frames {side}": frame for distance, side, frame in sorted(places, key=lambda x: x[0])
    }


def frame_name(place: int) -> str:
    """What a scored frame is called, from its place among them."""
    return f"frame {FIRST + place} of the clip"


def prepare(clip: Clip) -> Material:
    """Cut and reduce the demonstration's clip."""
    stills = still_frames()
    wanted = {*range(FIRST, FIRST + COUNT), *stills.values()}
    frames: dict[int, np.ndarray] = {}
    for index, frame in enumerate(clip):
        if index in wanted:
            frames[index] = _reduce(frame)
        if len(frames) == len(wanted):
            break
    truth = [frames[FIRST + place] for place in range(COUNT)]
    low = [imresize(image, 1.0 / SCALE) for image in truth]
    return Material(truth, low, {name: frames[index] for name, index in stills.items()})


def _reduce(frame: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """To the height of `SIZE`, then the middle columns."""
    h, w = frame.shape[:2]
    height, width = SIZE
    image = imresize(quantise(frame, 8), size=(height, round(w * height / h)))
    left = (image.shape[1] - width) // 2
    return image[:, left : left + width]
