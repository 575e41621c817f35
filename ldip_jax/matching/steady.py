"""Steadies a refined match: its warp becomes as smooth as the images permit.

On a damaged key-frame, a flow network follows the damage, and its flow trembles by half a pixel or more. That
is too much for detail of a few pixels. What both images show moves more evenly. So the warp is smoothed step
by step, wherever the smoother warp explains the key-frame nearly as well as the one found.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.carry import BANDWIDTH
from ldip_jax.ops.blur import gaussian_blur
from ldip_jax.ops.warp import pixel_grid

# Standard deviations, in LR pixels: of the smoothing, step by step; of the local mean that is subtracted
# before images are compared; and of the window in which they are.
SMOOTHING, LOCAL_MEAN, COMPARED = (0.5, 1.0, 2.0), 2.0, 1.5
# A smoother warp may increase the error by this share; the change is gradual over SOFTNESS.
TOLERATED_INCREASE, SOFTNESS = 0.3, 0.03
# Mean square of luma that counts as noise, and the weight of a pixel without confidence.
NOISE, LEAST_WEIGHT = 2e-6, 1e-3

Scale = tuple[float, float]


def _blur(x: Float[Array, "b h w c"], reach: float, scale: Scale) -> Float[Array, "b h w c"]:
    return gaussian_blur(x, (reach * scale[0], reach * scale[1]))


@partial(jax.jit, static_argnums=1)
def _structure(image: Float[Array, "b h w 3"], scale: Scale) -> Float[Array, "b h w 1"]:
    """What the input video can show of an image, without its local mean."""
    low = _blur(jnp.mean(image.astype(jnp.float32), axis=-1, keepdims=True), BANDWIDTH, scale)
    return low - _blur(low, LOCAL_MEAN, scale)


@partial(jax.jit, static_argnums=2)
def _error(
    wanted: Float[Array, "b h w 1"], shown: Float[Array, "b h w 3"], scale: Scale
) -> Float[Array, "b h w 1"]:
    return _blur(jnp.square(wanted - _structure(shown, scale)), COMPARED, scale) + NOISE


@jax.jit
def _affine(warp: Float[Array, "b h w 2"], weight: Float[Array, "b h w 1"]) -> Float[Array, "b h w 2"]:
    """The affine warp that fits best. It is not smoothed, because that would bend it at the borders."""
    h, w = warp.shape[1:3]
    places = pixel_grid(h, w) / max(h, w) - 0.5
    terms = jnp.concatenate([jnp.ones((h, w, 1)), places], axis=-1)[None]
    with jax.default_matmul_precision("highest"):
        weighted = terms * weight
        normal = jnp.einsum("bhwi,xhwj->bij", weighted, terms) / (h * w)
        # Less the grid, the numbers are small and the solution exact.
        grid = pixel_grid(h, w)[None]
        wanted = jnp.einsum("bhwi,bhwc->bic", weighted, warp - grid) / (h * w)
        return grid + jnp.einsum("xhwi,bic->bhwc", terms, jnp.linalg.solve(normal, wanted))


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
    show: Callable[[Float[Array, "b H W 2"]], Float[Array, "b H W 3"]],
    anchor: Float[Array, "b H W 3"],
    warp: Float[Array, "b H W 2"],
    confidence: Float[Array, "b H W 1"],
    scale: Scale,
) -> Float[Array, "b H W 2"]:
    """The warp, smoothed where that does not contradict the images.

    Args:
        show: the reference in [0, 1], sampled at places.
        anchor: the backbone's image of the key-frame, in [0, 1].
        warp: places (x, y) in pixels of the reference.
        confidence: of these places, in [0, 1]; the smoothing is weighted by it.
        scale: (H, W) divided by the size of the input video's frames.
    """
    wanted = _structure(anchor, scale)
    weight = confidence + LEAST_WEIGHT
    affine = _affine(warp, weight)
    found_error, steadied = _error(wanted, show(warp), scale), warp
    for reach in SMOOTHING:
        smoothed = _smoothed(warp, affine, weight, reach, scale)
        steadied = _mixed(steadied, smoothed, found_error, _error(wanted, show(smoothed), scale))
    return steadied
