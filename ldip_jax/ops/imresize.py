"""MATLAB's `imresize` with the bicubic kernel, in NumPy: the degradation of every "BI" benchmark."""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8

# Output rows per matrix product: fewer mean more calls, more mean more products with zero.
_BAND = 16
# Bound of the errors of float32 sums, for 8-bit values and reduction by up to 8.
_UNSURE = 1e-3


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1.0
    far = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
    return np.where(x <= 1.0, near, np.where(x <= 2.0, far, 0.0))


@lru_cache(maxsize=64)
def _contributions(n_in: int, n_out: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights and source indices, both `n_out taps`; edges are mirrored ("symmetric")."""
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


@lru_cache(maxsize=64)
def _bands(n_in: int, n_out: int, scale: float) -> list[tuple[slice, slice, np.ndarray]]:
    """Dense float32 matrices for one axis, each from a range of the input to a range of the output."""
    weights, index = _contributions(n_in, n_out, scale)
    bands = []
    for start in range(0, n_out, _BAND):
        out = slice(start, min(start + _BAND, n_out))
        source = slice(int(index[out].min()), int(index[out].max()) + 1)
        matrix = np.zeros((out.stop - start, source.stop - source.start))
        np.add.at(matrix, (np.arange(len(matrix))[:, None], index[out] - source.start), weights[out])
        bands.append((out, source, matrix.astype(np.float32)))
    return bands


def _multiply(x: np.ndarray, n_out: int, scale: float) -> np.ndarray:
    """Resize the first axis of a float32 matrix."""
    out = np.empty((n_out, x.shape[1]), np.float32)
    for rows, source, matrix in _bands(x.shape[0], n_out, scale):
        np.matmul(matrix, x[source], out=out[rows])
    return out


def _resize_bytes(
    image: np.ndarray, size: tuple[int, int], factors: tuple[float, float], order: list[int]
) -> np.ndarray:
    """The rounded result of float64, computed in float32; values too close to a half are computed again."""
    h, w, c = image.shape
    x = _multiply(image.reshape(h, w * c).astype(np.float32), size[0], factors[0])
    x = x.reshape(size[0], w, c).transpose(1, 0, 2).reshape(w, size[0] * c)
    x = _multiply(x, size[1], factors[1]).reshape(size[1], size[0], c).transpose(1, 0, 2)
    x = np.add(x, np.float32(0.5), order="C")
    out = np.floor(x)
    unsure = np.nonzero(np.abs(x - out - np.float32(0.5)) > 0.5 - _UNSURE)
    if len(unsure[0]) > out.size // 16:
        # In images with flat stripes, all values can be close to a half.
        return _round(_resize_float(image, size, factors, order))
    places = list(unsure[:2])
    taps = [_contributions(image.shape[axis], size[axis], factors[axis]) for axis in (0, 1)]
    rows, columns = (taps[axis][1][places[axis]] for axis in (0, 1))
    patch = image[rows[:, :, None], columns[:, None, :], unsure[2][:, None, None]].astype(np.float64)
    patch = patch.swapaxes(1, 2) if order[0] == 1 else patch
    for axis in order:
        weights = taps[axis][0][places[axis]]
        total = np.zeros((len(patch), *patch.shape[2:]))
        for tap in range(weights.shape[1]):
            total += weights[:, tap].reshape(-1, *[1] * (total.ndim - 1)) * patch[:, tap]
        patch = total
    out[unsure] = np.floor(patch + 0.5)
    return np.clip(out, 0, 255, out=out).astype(np.uint8)


def _round(x: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(x + 0.5), 0, 255).astype(np.uint8)


def _resize_float(
    image: np.ndarray, size: tuple[int, int], factors: tuple[float, float], order: list[int]
) -> np.ndarray:
    out = image.astype(np.float64)
    for axis in order:
        out = _resize_axis(out, axis, size[axis], factors[axis])
    return out


def imresize(
    image: UInt8[np.ndarray, "h w c"] | Float[np.ndarray, "h w c"],
    scale: float | None = None,
    size: tuple[int, int] | None = None,
) -> UInt8[np.ndarray, "H W c"] | Float[np.ndarray, "H W c"]:
    """`imresize(image, scale)` or `imresize(image, [H W])` of MATLAB, antialiased when it reduces.

    Args:
        image: uint8 (the result is rounded and clipped to uint8, as in MATLAB) or floating point (the result
            is float64 and may overshoot).
        scale: one factor for both axes; the size is ceil(h * scale), ceil(w * scale).
        size: alternatively, the result's (height, width); each axis then has its own factor.

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
    # MATLAB starts with the axis that is reduced most.
    order = [0, 1] if factors[0] <= factors[1] else [1, 0]
    resize = _resize_bytes if image.dtype == np.uint8 else _resize_float
    return resize(image, size, factors, order)
