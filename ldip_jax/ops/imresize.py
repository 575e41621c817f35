"""MATLAB's `imresize` with the bicubic kernel, in NumPy: the degradation behind every "BI" benchmark."""

import math

import numpy as np
from jaxtyping import Float, UInt8


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1.0
    far = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
    return np.where(x <= 1.0, near, np.where(x <= 2.0, far, 0.0))


def _contributions(n_in: int, n_out: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights and source indices, both `n_out taps`; borders are mirrored ("symmetric")."""
    stretch = min(scale, 1.0)
    width = 4.0 / stretch
    centre = np.arange(1, n_out + 1) / scale + 0.5 * (1.0 - 1.0 / scale)
    first = np.floor(centre - width / 2.0)
    index = first[:, None] + np.arange(math.ceil(width) + 2)
    weights = stretch * _cubic(stretch * (centre[:, None] - index))
    weights /= weights.sum(axis=1, keepdims=True)
    mirror = np.concatenate([np.arange(n_in), np.arange(n_in)[::-1]])
    index = mirror[(index.astype(np.int64) - 1) % (2 * n_in)]
    used = np.any(weights != 0.0, axis=0)
    return weights[:, used], index[:, used]


def _resize_axis(x: np.ndarray, axis: int, n_out: int, scale: float) -> np.ndarray:
    weights, index = _contributions(x.shape[axis], n_out, scale)
    x = np.moveaxis(x, axis, 0)
    out = np.zeros((n_out, *x.shape[1:]), np.float64)
    for tap in range(weights.shape[1]):
        out += weights[:, tap].reshape(-1, *[1] * (x.ndim - 1)) * x[index[:, tap]]
    return np.moveaxis(out, 0, axis)


def imresize(
    image: UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"],
    scale: float | None = None,
    size: tuple[int, int] | None = None,
) -> UInt8[np.ndarray, "H W c"] | Float[np.ndarray, "H W c"]:
    """`imresize(image, scale)` or `imresize(image, [H W])` of MATLAB, antialiased when shrinking.

    Args:
        image: uint8 (the result is rounded and clipped to uint8, as MATLAB does) or floating point
            (the result is float64 and may overshoot).
        scale: one factor for both axes; the size is ceil(h * scale), ceil(w * scale).
        size: the result's (height, width) instead, each axis with its own factor.

    Raises:
        ValueError: unless exactly one of `scale` and `size` is given.
    """
    h, w = image.shape[:2]
    if scale is not None and size is None:
        factors = (float(scale), float(scale))
        size = (math.ceil(h * scale), math.ceil(w * scale))
    elif size is not None and scale is None:
        factors = (size[0] / h, size[1] / w)
    else:
        raise ValueError("imresize takes either scale or size")
    out = image.astype(np.float64)
    # MATLAB works on the axis that shrinks most first.
    for axis in sorted((0, 1), key=lambda a: factors[a]):
        out = _resize_axis(out, axis, size[axis], factors[axis])
    if image.dtype == np.uint8:
        return np.clip(np.floor(out + 0.5), 0, 255).astype(np.uint8)
    return out
