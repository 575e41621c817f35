"""A second look at a match: optical flow between the key-frame and the reference as already warped.

The input video holds nothing above its own bandwidth, so what the anchor shows there is invented; both images
are low-passed first, or the flow locks onto false detail.
"""

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.matching.confidence import inside
from ldip_jax.matching.matcher import Match, Pair
from ldip_jax.models.backbone.spynet import SPyNet
from ldip_jax.ops.blur import gaussian_blur
from ldip_jax.ops.warp import bilinear, flow_warp

# Standard deviation of the low-pass in pixels of the input video.
BANDWIDTH = 0.4


@jax.jit
def _warped(reference: Float[Array, "b h w 3"], warp: Float[Array, "b H W 2"]) -> Float[Array, "b H W 3"]:
    return bilinear(reference.astype(jnp.float32), warp, padding="border")


@partial(jax.jit, static_argnums=5)
def _refined(
    params: dict[str, Any],
    anchor: Float[Array, "b H W 3"],
    warped: Float[Array, "b H W 3"],
    match: Match,
    reference_size: Float[Array, "2"],
    sigma: tuple[float, float],
) -> Match:
    with jax.default_matmul_precision("highest"):
        anchor, warped = (gaussian_blur(image, sigma) for image in (anchor, warped))
        correction = cast(Array, SPyNet().apply({"params": params}, anchor, warped))
        warp = flow_warp(match.warp, correction, padding="border")
        return Match(warp, match.confidence * inside(warp, reference_size))


class Refiner:
    """W'(x) = W(x + r(x)), r the flow from anchor to warped reference.

    Confidence is kept, and becomes 0 where the new place is outside.
    """

    def __init__(self, params: dict[str, Any]):
        """`params`: SPyNet's, from the backbone's checkpoint."""
        self._params = jax.device_put(params)

    def __call__(self, pair: Pair, match: Match, scale: tuple[float, float]) -> Match:
        """`scale`: (H, W) over the size of the input video's frames; sets the low-pass."""
        warped = _warped(jnp.asarray(pair.reference), match.warp)
        sigma = (BANDWIDTH * scale[0], BANDWIDTH * scale[1])
        anchor = jnp.asarray(pair.anchor, jnp.float32)
        return _refined(self._params, anchor, warped, match, pair.reference_size, sigma)
