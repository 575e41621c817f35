"""References denser than the key-frame: made smaller before features are taken from them.

Features are sampled at the nearest pixel, once per pixel of the key-frame: of a denser reference that would
read a few scattered pixels, and its feature maps would not fit in memory.
"""

import math
from collections import OrderedDict
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.matching import CONFIDENT
from ldip_jax.matching.coordinates import rescale
from ldip_jax.matching.dense import resize_image
from ldip_jax.matching.matcher import Match, Pair

# Sizes come in steps of 2^(1/4), so that few different programs are compiled.
STEPS_PER_OCTAVE = 4
# A median within 5 % of 1 counts as 1: a measured warp is not better known than that.
SLACK = 1.05


def median_scale(warp: Float[Array, "b h w 2"], confidence: Float[Array, "b h w 1"]) -> float:
    """Reference pixels per key-frame pixel, the median of sqrt(|det J|) over confident (> 0.5) pixels.

    J is the warp's derivative, by differences to the right and lower neighbours, which must be confident
    too. 1.0 if no pixel qualifies.
    """
    # On the host: the median's sort takes longer to compile than a network.
    places, sure = np.asarray(warp), np.asarray(confidence)[..., 0] > CONFIDENT
    along_x = places[:, :-1, 1:] - places[:, :-1, :-1]
    along_y = places[:, 1:, :-1] - places[:, :-1, :-1]
    area = np.abs(along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0])
    sure = sure[:, :-1, :-1] & sure[:, :-1, 1:] & sure[:, 1:, :-1]
    return float(np.median(np.sqrt(area[sure]))) if sure.any() else 1.0


def reduction_steps(scale: float) -> int:
    """The fewest steps of 2^(-1/4) that bring a median scale down to 1; 0 if it is there."""
    return max(0, math.ceil(STEPS_PER_OCTAVE * math.log2(max(scale, 1e-6) / SLACK)))


class ReferenceReducer:
    """Reduces references by their matches, and keeps the reduced images of the last few."""

    def __init__(self, kept: int = 8):
        """`kept`: how many reduced images are held on the device."""
        self._kept = kept
        self._images: OrderedDict[tuple, Array] = OrderedDict()

    def __call__(self, pair: Pair, match: Match) -> tuple[Pair, Match]:
        """Shrink the reference, antialiased, until the median scale is at most 1; the warp goes along.

        A reference that is no denser than the key-frame comes back as it is. Images are remembered by the
        pair's `name`.
        """
        steps = reduction_steps(median_scale(match.warp, match.confidence))
        if not steps:
            return pair, match
        h, w = pair.reference.shape[1:3]
        size = tuple(max(1, round(n * 2.0 ** (-steps / STEPS_PER_OCTAVE))) for n in (h, w))
        key = (pair.name, h, w, steps)
        if key not in self._images:
            self._images[key] = resize_image(jnp.asarray(pair.reference), size)
            if len(self._images) > self._kept:
                self._images.popitem(last=False)
        self._images.move_to_end(key)
        factor = jnp.array([size[1] / w, size[0] / h], jnp.float32)
        warp = rescale(match.warp, factor)
        return replace(pair, reference=self._images[key]), Match(warp, match.confidence)
