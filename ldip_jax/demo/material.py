"""The demonstration's material: sixteen frames of a real clip, reduced, and stills of the same shot."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from ldip_jax.media.clip import Clip
from ldip_jax.media.color import quantise
from ldip_jax.ops.imresize import imresize

CLIP = "cityCC0"
# The camera moves past near and distant buildings with many windows. The shot ends with frame 116.
FIRST, COUNT = 50, 16
# Three fifths of the clip's size, which removes its compression artefacts.
SIZE = (256, 448)
SCALE = 4
# Distance in frames from a still to the nearest scored frame, before and after. Half a second is the best
# that users who take photos along with the video can expect.
BEFORE, AFTER = (12, 24), (12, 24, 36)


@dataclass(frozen=True)
class Material:
    """Images are 8-bit RGB.

    Attributes:
        truth: the ground-truth frames, `H W 3`.
        low: the frames to upscale, reduced to a quarter of that size by MATLAB's bicubic.
        stills: sharp frames of the same shot, `H W 3`, by name, nearest first; none of them is in `truth`.
    """

    truth: list[UInt8[np.ndarray, "H W 3"]]
    low: list[UInt8[np.ndarray, "h w 3"]]
    stills: dict[str, UInt8[np.ndarray, "H W 3"]]


def still_frames() -> dict[str, int]:
    """The stills' frame numbers in the clip, by name, nearest to the scored frames first."""
    places = [(distance, "before", FIRST - distance) for distance in BEFORE]
    places += [(distance, "after", FIRST + COUNT - 1 + distance) for distance in AFTER]
    return {
        f"{distance} frames {side}": frame for distance, side, frame in sorted(places, key=lambda x: x[0])
    }


def frame_name(place: int) -> str:
    """The name of a scored frame, from its place among them."""
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
    """Reduced to the height of `SIZE`, then cropped to its middle columns."""
    h, w = frame.shape[:2]
    height, width = SIZE
    image = imresize(quantise(frame, 8), size=(height, round(w * height / h)))
    left = (image.shape[1] - width) // 2
    return image[:, left : left + width]
