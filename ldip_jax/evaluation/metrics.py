"""PSNR and SSIM as the published tables use them, jitted, float32, right to four decimals.

Both work on images quantised to 8 bits, clipped to [0, 1], times 255, rounded, unless told otherwise.
"rgb" scores the three channels together (PSNR: one mean squared error; SSIM: mean of the channels); "y"
scores the luma 16 + 65.481 R + 128.553 G + 24.966 B of the quantised image (R, G, B in [0, 1]), itself not
rounded, as MATLAB's `rgb2ycbcr` weighs it. The data range is 255 in both. SSIM: Wang et al., "Image quality
assessment: from error visibility to structural similarity", 2004, 11x11 Gaussian window, only where it fits
whole. `measures.py` names the conventions of published tables.
"""

import math
import operator
from collections.abc import Sequence
from functools import partial, reduce
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Channel = Literal["y", "rgb"]
Image = Float[Array, "h w 3"] | Float[np.ndarray, "h w 3"]

WINDOW = 11
"""Side of SSIM's window: images smaller than this have no SSIM."""

_SIGMA = 1.5
_C1 = (0.01 * 255.0) ** 2
_C2 = (0.03 * 255.0) ** 2
_LUMA = (65.481, 128.553, 24.966)


def _levels(image: Image, crop: int, quantise: bool) -> Array:
    """Values 0 to 255 inside the border."""
    h, w = image.shape[:2]
    inside = jnp.asarray(image)[crop : h - crop, crop : w - crop]
    levels = jnp.clip(inside, 0.0, 1.0) * 255.0
    return jnp.round(levels) if quantise else levels


def _weighted_sum(weights: Sequence[float], terms: Sequence[Array]) -> Array:
    """One by one, not as a matrix product, which accelerators round to fewer bits."""
    return reduce(operator.add, (weight * term for weight, term in zip(weights, terms, strict=True)))


def _weigh(levels: Array, channel: Channel) -> Array:
    """`h w 3` levels to the scored `h w c`, c = 1 or 3: luma without its offset of 16, so that it is linear.

    A sum or difference of images is taken on the levels, where it is exact, and weighed afterwards.
    """
    if channel == "rgb":
        return levels
    return _weighted_sum(_LUMA, [levels[..., i : i + 1] / 255.0 for i in range(3)])


def _window_moments(mean: Array, variance: Array | None, axis: int) -> tuple[Array, Array]:
    """Weighted mean and variance along one axis of values that are themselves means with variances.

    The variance is a mean of squared deviations, never a difference of large squares: float32 suffices.
    """
    offset = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offset**2) / (2.0 * _SIGMA**2))
    weights = (weights / weights.sum()).tolist()
    n = mean.shape[axis] - WINDOW + 1

    def taps(x: Array) -> list[Array]:
        return [jax.lax.slice_in_dim(x, k, k + n, axis=axis) for k in range(WINDOW)]

    centre = _weighted_sum(weights, taps(mean))
    spread = _weighted_sum(weights, [jnp.square(m - centre) for m in taps(mean)])
    if variance is not None:
        spread = spread + _weighted_sum(weights, taps(variance))
    return centre, spread


def _mean_ssim(total: Array, difference: Array) -> Array:
    """SSIM from the sum s and the difference d of two images, `h w c`, equal to the usual formula, since

    2 mu_a mu_b = (mu_s^2 - mu_d^2) / 2, mu_a^2 + mu_b^2 = (mu_s^2 + mu_d^2) / 2, (co)variances likewise.
    """
    maps = jnp.moveaxis(jnp.concatenate([total, difference], axis=2), 2, 0)
    # A loop over maps for each axis: XLA would otherwise fuse both axes and compute 11 x 11 taps a pixel.
    rows = jax.lax.map(lambda x: _window_moments(x, None, axis=0), maps)
    mean, variance = jax.lax.map(lambda moments: _window_moments(*moments, axis=1), rows)
    mean_s, mean_d = jnp.split(jnp.square(mean), 2)
    var_s, var_d = jnp.split(variance, 2)
    # What luminance and structure lack to 1: equal images then score 1 exactly.
    luminance = 2.0 * mean_d / (mean_s + mean_d + 2.0 * _C1)
    structure = 2.0 * var_d / (var_s + var_d + 2.0 * _C2)
    return 1.0 - jnp.mean(luminance + structure - luminance * structure)


def _check(a: Image, b: Image, crop: int, least: int) -> None:
    if a.shape != b.shape:
        raise ValueError(f"images of different shapes cannot be compared: {a.shape} and {b.shape}")
    if crop < 0 or min(a.shape[:2]) - 2 * crop < least:
        raise ValueError(f"a {a.shape[0]}x{a.shape[1]} image less a border of {crop} is under {least} pixels")


@partial(jax.jit, static_argnames=("channel", "crop", "quantise"))
def psnr(
    a: Image, b: Image, channel: Channel = "y", crop: int = 0, quantise: bool = True
) -> Float[Array, ""]:
    """Peak signal-to-noise ratio in dB; infinite where the images are equal.

    Args:
        a, b: RGB images; values outside [0, 1] are clipped.
        channel: "y" or "rgb", see the module's description.
        crop: pixels left out along every border (0 in the x4 benchmarks).
        quantise: whether images are rounded to 8 bits first (as in nearly all benchmarks).

    Raises:
        ValueError: shapes differ, or nothing is left inside the border.
    """
    _check(a, b, crop, least=1)
    error = _weigh(_levels(a, crop, quantise) - _levels(b, crop, quantise), channel)
    return 20.0 * math.log10(255.0) - 10.0 * jnp.log10(jnp.mean(jnp.square(error)))


@partial(jax.jit, static_argnames=("channel", "crop", "quantise"))
def ssim(
    a: Image, b: Image, channel: Channel = "y", crop: int = 0, quantise: bool = True
) -> Float[Array, ""]:
    """Structural similarity, at most 1; arguments as for `psnr`.

    Raises:
        ValueError: shapes differ, or fewer than 11 pixels are left on a side.
    """
    _check(a, b, crop, least=WINDOW)
    a, b = _levels(a, crop, quantise), _levels(b, crop, quantise)
    offset = 32.0 if channel == "y" else 0.0
    return _mean_ssim(_weigh(a + b, channel) + offset, _weigh(a - b, channel))


@jax.jit
def _four(a: Image, b: Image) -> dict[str, Array]:
    scores = {}
    for channel in ("y", "rgb"):
        scores[f"psnr_{channel}"] = psnr(a, b, channel)
        if min(a.shape[:2]) >= WINDOW:
            scores[f"ssim_{channel}"] = ssim(a, b, channel)
    return scores


def frame_metrics(a: Image, b: Image) -> dict[str, float | None]:
    """`psnr_y`, `ssim_y`, `psnr_rgb`, `ssim_rgb` of one pair of frames, as Python numbers.

    SSIM is None for frames with a side under 11 pixels.

    Raises:
        ValueError: shapes differ.
    """
    scores = jax.device_get(_four(a, b))
    keys = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb")
    return {key: float(scores[key]) if key in scores else None for key in keys}
