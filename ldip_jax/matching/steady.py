"""Steadies a refined match: its warp becomes as smooth as the images permit.

On a damaged key-frame, a flow network follows the damage, and its flow trembles by half a pixel or more. That
is too much for detail of a few pixels. What both images show moves more evenly. So the warp is smoothed step
by step, wherever the smoother warp explains the key-frame nearly as well as the one found.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ldip_jax.matching.evidence import warp_reference
from ldip_jax.matching.matcher import Match
from ldip_jax.models.carry import BANDWIDTH, structure
from ldip_jax.ops.bands import Bands, compute_band, join_bands, plan_bands
from ldip_jax.ops.blur import blur_reach, gaussian_blur
from ldip_jax.ops.warp import pixel_grid, row_places

# Standard deviations, in LR pixels: of the smoothing, step by step; of the local mean that is subtracted
# before images are compared; and of the window in which they are.
SMOOTHING, LOCAL_MEAN, COMPARED = (0.5, 1.0, 2.0), 2.0, 1.5
# A smoother warp may increase the error by this share; the change is gradual over SOFTNESS.
TOLERATED_INCREASE, SOFTNESS = 0.3, 0.03
# Mean square of luma that counts as noise, and the weight of a pixel without confidence.
NOISE, LEAST_WEIGHT = 2e-6, 1e-3
# Larger frames are steadied in bands of rows, of at least HALOS times as many rows as their halo.
BAND_PIXELS, HALOS = 2**20, 2
# What is the same for a whole frame is found from every STRIDE-th row and column: FEW of its pixels.
STRIDE = 4
FEW = (slice(None), slice(None, None, STRIDE), slice(None, None, STRIDE))

Scale = tuple[float, float]
Terms = Float[Array, "1 h w 3"]
"""1, x and y of each pixel, in units of the frame's longer side."""


def _blur(x: Float[Array, "b h w c"], reach: float, scale: Scale) -> Float[Array, "b h w c"]:
    return gaussian_blur(x, (reach * scale[0], reach * scale[1]))


@partial(jax.jit, static_argnums=1)
def _structure(image: Float[Array, "b h w 3"], scale: Scale) -> Float[Array, "b h w 1"]:
    return structure(image, LOCAL_MEAN, scale)


@partial(jax.jit, static_argnums=2)
def _error(
    wanted: Float[Array, "b h w 1"], shown: Float[Array, "b h w 3"], scale: Scale
) -> Float[Array, "b h w 1"]:
    return _blur(jnp.square(wanted - _structure(shown, scale)), COMPARED, scale) + NOISE


def _terms(grid: Float[Array, "h w 2"], longest: int) -> Terms:
    return jnp.concatenate([jnp.ones((*grid.shape[:2], 1)), grid / longest - 0.5], axis=-1)[None]


@partial(jax.jit, static_argnums=2)
def _fit_affine(
    flow: Float[Array, "b h w 2"], weight: Float[Array, "b h w 1"], longest: int
) -> Float[Array, "b 3 2"]:
    """The affine flow that fits best, for `_terms`. It is not smoothed: that would bend it at the borders."""
    terms = _terms(STRIDE * pixel_grid(*flow.shape[1:3]), longest)
    with jax.default_matmul_precision("highest"):
        normal = jnp.einsum("bhwi,xhwj->bij", terms * weight, terms)
        # Frames of a few rows do not show a slope.
        normal = normal + 1e-6 * jnp.sum(weight, axis=(1, 2))[:, :, None] * jnp.eye(3)[None]
        return jnp.linalg.solve(normal, jnp.einsum("bhwi,bhwc->bic", terms * weight, flow))


@partial(jax.jit, static_argnums=(2, 3))
def _affine_warp(
    affine: Float[Array, "b 3 2"], rows: Int[Array, "r"], width: int, longest: int
) -> Float[Array, "b r {width} 2"]:
    grid = row_places(rows, width)
    with jax.default_matmul_precision("highest"):
        return grid[None] + jnp.einsum("xhwi,bic->bhwc", _terms(grid, longest), affine)


@partial(jax.jit, static_argnums=(3, 4))
def _smoothed(
    warp: Float[Array, "b h w 2"],
    affine: Float[Array, "b h w 2"],
    weight: Float[Array, "b h w 1"],
    reach: float,
    scale: Scale,
) -> Float[Array, "b h w 2"]:
    return affine + _blur((warp - affine) * weight, reach, scale) / _blur(weight, reach, scale)


@jax.jit
def _mixed(steadied: Array, smoothed: Array, found_error: Array, error: Array) -> Float[Array, "b h w 2"]:
    share = jax.nn.sigmoid((TOLERATED_INCREASE + 1.0 - error / found_error) / SOFTNESS)
    return steadied + share * (smoothed - steadied)


def steady_warp(
    anchor: Float[Array, "b H W 3"],
    reference: Float[Array, "b h w 3"],
    match: Match,
    scale: Scale,
    band_pixels: int = BAND_PIXELS,
) -> Float[Array, "b H W 2"]:
    """A match's warp, smoothed where that does not contradict the images.

    Args:
        anchor: the backbone's image of the key-frame, in [0, 1].
        reference: in [0, 1].
        match: its match; the smoothing is weighted by the confidence.
        scale: (H, W) divided by the size of the input video's frames.
        band_pixels: pixels of a band of rows.
    """
    height, width = match.warp.shape[1:3]
    longest = max(height, width)
    flow = match.warp[FEW] - STRIDE * pixel_grid(*match.warp[FEW].shape[1:3])[None]
    fitted = _fit_affine(flow, match.confidence[FEW] + LEAST_WEIGHT, longest)

    def steady(anchor: Array, warp: Array, confidence: Array, rows: Array) -> Float[Array, "b r W 2"]:
        wanted, weight = _structure(anchor, scale), confidence + LEAST_WEIGHT
        affine = _affine_warp(fitted, rows[0, :, 0, 0], width, longest)
        found_error, steadied = _error(wanted, warp_reference(reference, warp), scale), warp
        for reach in SMOOTHING:
            smoothed = _smoothed(warp, affine, weight, reach, scale)
            error = _error(wanted, warp_reference(reference, smoothed), scale)
            steadied = _mixed(steadied, smoothed, found_error, error)
        return steadied

    halo = sum(blur_reach(r * scale[0]) for r in (max(SMOOTHING), BANDWIDTH, LOCAL_MEAN, COMPARED))
    bands = plan_bands(height, width, band_pixels, halo, halos=HALOS) or Bands(height, height, 0)
    maps = anchor, *match, jnp.arange(height)[None, :, None, None]
    # Not in one program: that would be compiled again for each size of references.
    parts = [compute_band(steady, maps, bands, index) for index in range(bands.count)]
    return join_bands(jnp.stack(parts), bands)
