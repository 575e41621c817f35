"""Softens clips that are sharper than what the backbone was trained on.

This is ours, not the paper's. Backbones are trained on bicubic reduction, which leaves little above the
bandwidth of an LR frame. Frames that were averaged over blocks of pixels, or subsampled, contain more. The
backbone takes that for detail, from frame to frame more, and its images become worse than bicubic
interpolation. So a small part of the clip is upscaled first. On clips like those of the training, its images
reduced again are the input; on others, what remains is larger than one hundredth of the input's texture.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ldip_jax.ops.blur import gaussian_blur
from ldip_jax.ops.box import box_sums
from ldip_jax.ops.imresize import imresize

Frame = Float[np.ndarray, "h w 3"]
Upscale = Callable[[Sequence[Frame]], Iterable[Float[np.ndarray, "H W 3"]]]

# Backbones on which this was measured. Those trained on other reductions leave more on their own clips.
MEASURED = ("basicvsr-reds4",)
# The part that is upscaled: frames in a row, and the side of a square of LR pixels. A clip with fewer than
# LEAST_FRAMES is left as it is, because the error grows with the number of frames.
FRAMES, SIDE, LEAST_FRAMES = 10, 64, 4
# Standard deviations of the blur, in LR pixels: the first with which at most MOST_REMAINDER is left (see
# `remainder`), or else the last. On clips for tuning, 0.008 to 0.012 was left of frames reduced bicubically
# or by Lanczos' kernel, also after H.264; 0.015 to 0.021 of frames reduced by averaging; 0.013 to 0.022 with
# noise of 4 steps of 8 bits, which a little blur improves too.
BLURS, MOST_REMAINDER = (0.0, 0.4, 0.45), 0.0135
# The least squared Laplacian that counts: in plain frames, the rounding to 8 bits is most of it.
LEAST_TEXTURE = 4e-3


def soften(frame: Frame, sigma: float) -> Frame:
    """A frame after a Gaussian low-pass, `sigma` in pixels; borders are replicated."""
    return np.asarray(gaussian_blur(jnp.asarray(frame)[None], (sigma, sigma)))[0]


def find_softening(frames: Sequence[Frame], upscale: Upscale) -> float:
    """The blur that a clip needs so that the backbone takes nothing in it for detail, in LR pixels.

    Args:
        frames: some consecutive frames of the clip, RGB in [0, 1].
        upscale: the backbone.

    Returns:
        The standard deviation of a Gaussian; 0 if the frames are best left as they are.
    """
    if len(frames) < LEAST_FRAMES:
        return 0.0
    part = busiest_part(frames)
    for sigma in BLURS[:-1]:
        tried = part if not sigma else [soften(frame, sigma) for frame in part]
        if remainder(tried, upscale(tried)) <= MOST_REMAINDER:
            return sigma
    return BLURS[-1]


def remainder(frames: Sequence[Frame], upscaled: Iterable[Float[np.ndarray, "H W 3"]]) -> float:
    """What upscaled frames, reduced again, leave of the input, relative to the input's Laplacian."""
    left = texture = least = 0.0
    for frame, image in zip(frames, upscaled, strict=True):
        reduced = imresize(np.clip(image, 0.0, 1.0), size=frame.shape[:2])
        left += float(np.square((frame - reduced).mean(-1)).sum())
        texture += float(_texture(frame).sum())
        least += LEAST_TEXTURE * frame.shape[0] * frame.shape[1]
    return (left / max(texture, least)) ** 0.5


def busiest_part(frames: Sequence[Frame]) -> list[Float[np.ndarray, "_ _ 3"]]:
    """Up to `FRAMES` consecutive frames, cut to a square of `SIDE` pixels: those with the most texture."""
    energies = [float(_texture(frame).mean()) for frame in frames]
    count = min(FRAMES, len(frames))
    sums = np.convolve(energies, np.ones(count), "valid")
    first = int(sums.argmax())
    h, w = frames[0].shape[:2]
    size = min(h, SIDE), min(w, SIDE)
    sums = box_sums(_texture(frames[first + count // 2]).astype(np.float64), size)
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return [frame[top : top + size[0], left : left + size[1]] for frame in frames[first : first + count]]


def _texture(frame: Frame) -> Float[np.ndarray, "h w"]:
    """The squared Laplacian of luma, borders replicated."""
    luma = np.pad(frame.mean(-1), 1, "edge")
    sides = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return np.square(sides - 4.0 * luma[1:-1, 1:-1])


def read_ahead(frames: Iterable[Frame], count: int) -> tuple[list[Frame], Iterator[Frame]]:
    """The first `count` frames, and all frames."""
    rest = iter(frames)
    first = list(islice(rest, count))
    return first, chain(first, rest)
