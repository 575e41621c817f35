"""Refines a match by a second look: optical flow between the key-frame and the warped reference.

What it finds is then steadied (see `steady`).
"""

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.matching.evidence import warp_reference
from ldip_jax.matching.matcher import Match, Pair
from ldip_jax.matching.steady import steady_warp
from ldip_jax.models.carry import refine_warp
from ldip_jax.models.networks.spynet import SPyNet
from ldip_jax.ops.warp import inside


@partial(jax.jit, static_argnums=4)
def _refined(
    params: dict[str, Any],
    anchor: Float[Array, "b H W 3"],
    warped_reference: Float[Array, "b H W 3"],
    warp: Float[Array, "b H W 2"],
    scale: tuple[float, float],
) -> Float[Array, "b H W 2"]:
    def find_flow(a: Array, b: Array) -> Array:
        return cast(Array, SPyNet().apply({"params": params}, a, b))

    with jax.default_matmul_precision("highest"):
        return refine_warp(find_flow, anchor, warped_reference, warp, scale)


class Refiner:
    """W'(x) = W(x + r(x)), where r is the flow from the anchor to the warped reference.

    Confidence is kept, but becomes 0 where the new place is outside the reference.
    """

    def __init__(self, params: dict[str, Any]):
        """`params`: those of SPyNet, from the backbone's checkpoint."""
        self.params = jax.device_put(params)

    def __call__(self, pair: Pair, match: Match, scale: tuple[float, float]) -> Match:
        """The refined match; `scale`, (H, W) over the size of the video's frames, sets the low-pass."""
        show = partial(warp_reference, jnp.asarray(pair.reference))
        anchor = jnp.asarray(pair.anchor, jnp.float32)
        found = self.second_look(pair, match, scale)
        warp = steady_warp(show, anchor, found.warp, match.confidence, scale)
        return Match(warp, match.confidence * inside(warp, pair.reference_size))

    def second_look(self, pair: Pair, match: Match, scale: tuple[float, float]) -> Match:
        """What the flow network finds, before it is steadied."""
        shown = warp_reference(jnp.asarray(pair.reference), match.warp)
        anchor = jnp.asarray(pair.anchor, jnp.float32)
        warp = _refined(self.params, anchor, shown, match.warp, scale)
        return Match(warp, match.confidence * inside(warp, pair.reference_size))
