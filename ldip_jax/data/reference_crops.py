"""Training samples of one frame with reference images, as MRefSR is trained on: crops of the same size.

All randomness comes from the generator that is passed in.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from ldip_jax.data.clips import ClipSample, Footage, SamplingSpec, draw_sample
from ldip_jax.errors import InputError


class ReferenceSample(NamedTuple):
    """A sample; a batch stacks samples along a new first axis. uint8 RGB, H = 4 h, W = 4 w.

    Attributes:
        lr, hr: a crop of a frame.
        references: crops of other frames of the clip, at nearly the same place.
    """

    lr: UInt8[np.ndarray, "h w 3"]
    hr: UInt8[np.ndarray, "H W 3"]
    references: UInt8[np.ndarray, "n H W 3"]


def draw_reference_sample(
    spec: SamplingSpec, side: int, jitter: int, clip: Footage, rng: np.random.Generator
) -> ReferenceSample:
    """Draw a frame of a clip, with as many references as `spec` says, and crop them.

    Args:
        spec: at x4, with one key-frame, which is the frame that is restored.
        side: of the crops, HR pixels, a multiple of 4.
        jitter: the largest distance between the crops of frame and reference on each axis, HR pixels.

    Raises:
        InputError: the clip is too short, its frames are too small, or one of them is damaged.
    """
    return crop_references(draw_sample(spec, clip, rng), spec.max_references, side, jitter, rng)


def crop_references(
    sample: ClipSample, count: int, side: int, jitter: int, rng: np.random.Generator
) -> ReferenceSample:
    """Crop the first key-frame of a sample, and `count` references of it.

    References are other frames than the key-frame, if there are any. Some are used twice if too few were
    drawn.
    """
    height, width = (4 * length for length in sample.lr.shape[1:3])
    if min(height, width) < side:
        raise InputError(f"{sample.name}: frames of {width}x{height} are smaller than data.crop, {side}")
    key = sample.first + int(sample.key_frames[0])
    candidates = [place for place in dict.fromkeys(sample.candidates[0].tolist()) if place not in (-1, key)]
    candidates = candidates or [place for place in range(len(sample.hr)) if place != key] or [key]
    places = [candidates[i % len(candidates)] for i in range(count)]
    y, x = (4 * int(rng.integers((length - side) // 4 + 1)) for length in (height, width))
    images = sample.hr if sample.references is None else sample.references

    def crop_near(place: int) -> UInt8[np.ndarray, "H W 3"]:
        shift: Int[np.ndarray, 2] = rng.integers(-jitter, jitter + 1, size=2)
        top, left = np.clip(np.array([y, x]) + shift, 0, [height - side, width - side])
        return images[place, top : top + side, left : left + side]

    return ReferenceSample(
        lr=sample.lr[key, y // 4 : (y + side) // 4, x // 4 : (x + side) // 4],
        hr=sample.hr[key, y : y + side, x : x + side],
        references=np.stack([crop_near(place) for place in places]),
    )
