"""Measures whether a match is genuine, and whether a reference has detail to give.

Only pixels with a confident match count.

A matching network returns a match everywhere, and is sometimes confident on a plain wall. Below the bandwidth
of the input video, the likeness of both images shows whether they show the same thing. Far above it, the
energy of a reference shows whether it is sharper than what the backbone has already made.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.matching import CONFIDENT
from ldip_jax.matching.matcher import Match
from ldip_jax.models.carry import BAND_PIXELS, BANDWIDTH, sample_image, structure
from ldip_jax.ops.bands import sum_bands
from ldip_jax.ops.blur import blur_reach, gaussian_blur

# Standard deviation, in LR pixels, of the blurred image that is subtracted: STRUCTURE to get structure below
# the bandwidth, FINE to get fine detail, of which true stills have clearly more than a backbone makes.
STRUCTURE, FINE = 2.0, 0.25
# Mean square of luma that counts as noise.
NOISE = 1e-7


class Evidence(NamedTuple):
    """Measured for one reference at one key-frame.

    Attributes:
        likeness: correlation of the structure that the input video can show, -1 to 1; 0 if one is plain.
        sharpness: energy of fine detail divided by that of the key-frame's image; 1: equally sharp.
    """

    likeness: float
    sharpness: float


warp_reference = jax.jit(sample_image)
"""A reference sampled at the key-frame's pixels, bilinear, float32."""


def measure_evidence(
    anchor: Float[Array, "b H W 3"] | Float[np.ndarray, "b H W 3"],
    warped_reference: Float[Array, "b H W 3"],
    match: Match,
    scale: tuple[float, float],
) -> Evidence:
    """The evidence for a reference.

    Args:
        anchor: the backbone's image of the key-frame, in [0, 1].
        warped_reference: the reference, sampled by `warped` at the key-frame's pixels.
        match: its match; only pixels with confidence above 0.5 count.
        scale: (H, W) divided by the size of the input video's frames.
    """
    likeness, sharpness = _evidence(jnp.asarray(anchor), warped_reference, match.confidence, scale)
    return Evidence(float(likeness), float(sharpness))


@partial(jax.jit, static_argnums=3)
def _evidence(
    anchor: Float[Array, "b H W 3"],
    warped_reference: Float[Array, "b H W 3"],
    confidence: Float[Array, "b H W 1"],
    scale: tuple[float, float],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    def blur(x: Array, reach: float) -> Array:
        return gaussian_blur(x, (reach * scale[0], reach * scale[1]))

    def measures(anchor: Array, warped_reference: Array, confidence: Array) -> Float[Array, "b r w 6"]:
        confident = (confidence > CONFIDENT).astype(jnp.float32)
        lumas = [jnp.mean(x.astype(jnp.float32), axis=-1, keepdims=True) for x in (anchor, warped_reference)]
        a, b = (structure(x, STRUCTURE, scale) for x in (anchor, warped_reference))
        fine = [jnp.square(luma - blur(luma, FINE)) for luma in lumas]
        one = jnp.ones_like(a)
        return confident * jnp.concatenate([one, a * b, jnp.square(a), jnp.square(b), *fine], axis=-1)

    halo = sum(blur_reach(reach * scale[0]) for reach in (BANDWIDTH, STRUCTURE))
    count, *sums = sum_bands(measures, (anchor, warped_reference, confidence), BAND_PIXELS, halo)
    product, *power = (x / jnp.maximum(count, 1.0) for x in sums)
    a, b, of_anchor, of_reference = (x + NOISE for x in power)
    return product / jnp.sqrt(a * b), of_reference / of_anchor
