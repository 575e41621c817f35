"""Refines a match by a second look: optical flow between the key-frame and the warped reference.

What it finds is then steadied (see `steady`), and trusted less where the images then differ.
"""

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.matching.evidence import warp_reference
from ldip_jax.matching.matcher import Match, Pair
from ldip_jax.matching.steady import FEW, steady_warp
from ldip_jax.models.carry import (
    BAND_PIXELS,
    correct,
    damage,
    difference_halo,
    low_passed,
    raise_confidence,
    sample_image,
    texture_difference,
    trust,
    usual_difference,
)
from ldip_jax.models.networks.spynet import SPyNet, normalise, padded_size
from ldip_jax.ops.bands import map_bands
from ldip_jax.ops.warp import inside

# As in `carry`, but Ref-Fusion looks at what it gets: with half as much, LPIPS gets worse.
TOLERATED_DIFFERENCE = 0.8


# What `refine_warp` does, as three programs, so that each holds only what it needs. Only the first one is
# compiled again for a reference of another size.
@partial(jax.jit, static_argnums=3)
def _prepared_pair(
    anchor: Float[Array, "b H W 3"],
    reference: Float[Array, "b h w 3"],
    warp: Float[Array, "b H W 2"],
    scale: tuple[float, float],
) -> list[Float[Array, "b y x 3"]]:
    size = padded_size((anchor.shape[1], anchor.shape[2]))
    return [normalise(x) for x in low_passed(anchor, partial(sample_image, reference), warp, scale, size)]


@partial(jax.jit, static_argnums=2)
def _flow(
    params: dict[str, Any], pair: list[Float[Array, "b y x 3"]], size: tuple[int, int]
) -> Float[Array, "b H W 2"]:
    with jax.default_matmul_precision("highest"):
        return cast(Array, SPyNet().apply({"params": params}, *pair, size, method=SPyNet.between))


@jax.jit
def _corrected(match: Match, flow: Float[Array, "b H W 2"], reference_size: Float[Array, "2"]) -> Match:
    warp = correct(match.warp, flow)
    return Match(warp, match.confidence * inside(warp, reference_size))


@partial(jax.jit, static_argnums=4)
def _trusted(
    anchor: Float[Array, "b H W 3"],
    shown: Float[Array, "b H W 3"],
    match: Match,
    reference_size: Float[Array, "2"],
    scale: tuple[float, float],
) -> Match:
    """The match, with less confidence where the reference, sampled there, differs from the key-frame."""
    difference = compare_textures(anchor, shown, scale)
    usual = usual_difference(difference[FEW], match.confidence[FEW])
    confidence = match.confidence * trust(difference, usual, TOLERATED_DIFFERENCE)
    return Match(match.warp, raise_confidence(confidence, damage(usual)) * inside(match.warp, reference_size))


def compare_textures(
    anchor: Float[Array, "b H W 3"], warped_reference: Float[Array, "b H W 3"], scale: tuple[float, float]
) -> Float[Array, "b H W 1"]:
    """See `texture_difference`; large images are compared in bands."""
    return map_bands(
        lambda a, b: texture_difference(a, b, scale),
        (anchor, warped_reference),
        BAND_PIXELS,
        difference_halo(scale),
    )


@partial(jax.jit, static_argnums=3)
def measure_damage(
    anchor: Float[Array, "b H W 3"],
    warped_reference: Float[Array, "b H W 3"],
    confidence: Float[Array, "b H W 1"],
    scale: tuple[float, float],
) -> Float[Array, "b 1 1 1"]:
    """How damaged a key-frame is beside its reference, in [0, 1]; see `damage`.

    Args:
        anchor: the backbone's image of the key-frame, in [0, 1].
        warped_reference: the reference at the key-frame's pixels.
        confidence: of the refined match.
        scale: (H, W) divided by the size of the input video's frames.
    """
    difference = compare_textures(anchor, warped_reference, scale)
    return damage(usual_difference(difference[FEW], confidence[FEW]))


class Refiner:
    """W'(x) = W(x + r(x)), where r is the flow from the anchor to the warped reference.

    Confidence is kept, but becomes 0 where the new place is outside the reference.
    """

    def __init__(self, params: dict[str, Any]):
        """`params`: those of SPyNet, from the backbone's checkpoint."""
        self.params = jax.device_put(params)

    def __call__(self, pair: Pair, match: Match, scale: tuple[float, float]) -> Match:
        """The refined match; `scale`, (H, W) over the size of the video's frames, sets the low-pass.

        What `match` holds is read when it is needed, so it may be on disk.
        """
        found = self.second_look(pair, match, scale)
        anchor, reference = jnp.asarray(pair.anchor), jnp.asarray(pair.reference)
        warp = steady_warp(anchor, reference, found, scale)
        shown = warp_reference(reference, warp)
        return _trusted(anchor, shown, Match(warp, found.confidence), pair.reference_size, scale)

    def second_look(self, pair: Pair, match: Match, scale: tuple[float, float]) -> Match:
        """What the flow network finds, before it is steadied."""
        inputs = (jnp.asarray(x) for x in (pair.anchor, pair.reference, match.warp))
        flow = _flow(self.params, _prepared_pair(*inputs, scale), pair.size)
        return _corrected(Match(*map(jnp.asarray, match)), flow, pair.reference_size)
