"""Reduces references that are denser than the key-frame, before features are extracted from them.

Features are sampled at the nearest pixel, once per pixel of the key-frame. Of a denser reference, that would
sample only scattered pixels, and its feature maps would not fit in memory.
"""

import math
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.matching import CONFIDENT
from ldip_jax.matching.dense import ImageCache, resize_image
from ldip_jax.matching.matcher import Match, Pair, rescale

# Sizes come in steps of 2^(1/4), so that few different programs are compiled.
STEPS_PER_OCTAVE = 4
# A median within 5 % of 1 counts as 1, because a measured warp is not more exact than that.
SLACK = 1.05
# Differences are taken of this many rows at a time.
ROWS = 256


def median_scale(warp: Float[Array, "b h w 2"], confidence: Float[Array, "b h w 1"]) -> float:
    """Reference pixels per key-frame pixel: the median of sqrt(|det J|) over pixels with confidence > 0.5.

    J is the derivative of the warp, from differences to the right and lower neighbours, which must be
    confident too. 1.0 if there are no such pixels.
    """
    # On the host, because the sort for the median takes longer to compile than a network.
    places, confident = np.asarray(warp), np.asarray(confidence)[..., 0] > CONFIDENT
    scales = []
    for row in range(0, places.shape[1] - 1, ROWS):
        band, known = places[:, row : row + ROWS + 1], confident[:, row : row + ROWS + 1]
        along_x = band[:, :-1, 1:] - band[:, :-1, :-1]
        along_y = band[:, 1:, :-1] - band[:, :-1, :-1]
        area = np.abs(along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0])
        scales.append(np.sqrt(area[known[:, :-1, :-1] & known[:, :-1, 1:] & known[:, 1:, :-1]]))
    found = np.concatenate([*scales, np.empty(0, np.float32)])
    return float(np.median(found, overwrite_input=True)) if found.size else 1.0


def reduction_steps(scale: float) -> int:
    """The fewest steps of 2^(-1/4) that bring a median scale down to 1; 0 if none is needed."""
    return max(0, math.ceil(STEPS_PER_OCTAVE * math.log2(max(scale, 1e-6) / SLACK)))


class ReferenceReducer:
    """Reduces references according to their matches, and keeps the last few reduced images."""

    def __init__(self, capacity: int = 8):
        """`capacity`: how many reduced images are held on the device."""
        self._resized = ImageCache(lambda image, size: resize_image(jnp.asarray(image), size), capacity)

    def __call__(self, pair: Pair, match: Match) -> tuple[Pair, Match]:
        """Reduce the reference, antialiased, until the median scale is at most 1, and its warp with it.

        A reference that is not denser than the key-frame is returned as it is.
        """
        steps = reduction_steps(median_scale(match.warp, match.confidence))
        if not steps:
            return pair, match
        h, w = pair.reference.shape[1:3]
        size = tuple(max(1, round(n * 2.0 ** (-steps / STEPS_PER_OCTAVE))) for n in (h, w))
        factor = jnp.array([size[1] / w, size[0] / h], jnp.float32)
        warp = rescale(match.warp, factor)
        return replace(pair, reference=self._resized(pair.reference, size)), Match(warp, match.confidence)
