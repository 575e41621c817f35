"""The 2-D convolution used by every layer here, with special forms for CPUs.

- If the layer allows it, 3x3 and 7x7 convolutions between large float32 maps of many channels use Winograd's
  F(5, 3) and F(4, 7) along rows (Lavin and Gray, CVPR 2016). These need 0.47 and 0.36 times the products and
  are 1.5 to 2 times as fast; their rounding errors are ten times as large.
- With a few output channels, several neighbouring pixels are computed as channels of one. This needs more
  multiplications, but vector units are used fully: it is up to 4 times as fast.
- The gradient of a kernel is computed as matrix products. XLA computes it as a convolution whose "kernel" is
  a whole map, which is up to 20 times slower.

Other devices use XLA's own convolutions and gradients, which are the fastest there.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache, partial, reduce
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float

# Maps with fewer pixels are computed directly: tracing these forms takes longer than they save.
LEAST_PIXELS = 2**11
# By taps, fewest channels and pixels for Winograd. With fewer channels, its transforms cost more than they
# save. On smaller maps, those of 7 taps save less than compiling them takes, unless a clip is long.
WIDE, LARGE = {3: 32, 7: 16}, {3: 2**11, 7: 2**14}
# By taps: outputs that are computed together, and the points, besides infinity, at which polynomials are
# evaluated. Of all sets of simple fractions that were tried, these have the smallest rounding errors.
POINTS = {3: (5, "0 1 -1 2 -2 1/2"), 7: (4, "0 1 -1 1/2 -1/2 3/4 -3/4 3 -3")}
# With at most NARROW output channels, NEIGHBOURS pixels of a row are computed together.
NARROW, NEIGHBOURS = 4, 8


@partial(jax.jit, static_argnames=("stride", "winograd"))
def conv2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "i j c o"], stride: int = 1, winograd: bool = False
) -> Float[Array, "b H W o"]:
    """Cross-correlation with k // 2 zeros on every side, as torch `conv2d(padding=k // 2)`, for each axis' k.

    Supports only first-order reverse-mode gradients.

    Args:
        x: maps; the convolution is computed in their type.
        kernel: with odd sides; its gradient is summed in float32.
        stride: step between outputs.
        winograd: whether a 3x3 or 7x7 convolution may use Winograd's algorithm.
    """
    square = kernel.shape[0] == kernel.shape[1]
    if stride > 1 or not square:
        return _convolve(x, kernel, stride)
    return _unit_stride(x, kernel, winograd)


def _convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
    top, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (stride, stride),
        ((top, top), (left, left)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _unit_stride(x: Array, kernel: Array, winograd: bool) -> Array:
    side, channels = kernel.shape[0], kernel.shape[2:]
    pixels = x.shape[1] * x.shape[2]
    if pixels < LEAST_PIXELS:
        return _convolve(x, kernel)
    large = side in WIDE and pixels >= LARGE[side] and min(channels) >= WIDE[side]
    if winograd and large and x.dtype == jnp.float32:
        return jax.lax.platform_dependent(x, kernel, cpu=_winograd, default=_convolve)
    if channels[1] <= NARROW and side > 1:
        return jax.lax.platform_dependent(x, kernel, cpu=_side_by_side, default=_convolve)
    return _convolve(x, kernel)


def _forward(x: Array, kernel: Array, winograd: bool) -> tuple[Array, tuple[Array, Array]]:
    return _unit_stride(x, kernel, winograd), (x, kernel)


def _backward(winograd: bool, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    return jax.lax.platform_dependent(*saved, g, cpu=_products, default=_by_xla)


_unit_stride.defvjp(_forward, _backward)


def _side_by_side(x: Array, kernel: Array) -> Array:
    """Some neighbours of a row as channels of one pixel, from all inputs that any of them needs."""
    side, w = kernel.shape[0], x.shape[2]
    shifted = [jnp.pad(kernel, ((0, 0), (i, NEIGHBOURS - 1 - i), (0, 0), (0, 0))) for i in range(NEIGHBOURS)]
    y = jax.lax.conv_general_dilated(
        x,
        jnp.concatenate(shifted, axis=-1).astype(x.dtype),
        (1, NEIGHBOURS),
        ((side // 2, side // 2), (side // 2, side // 2 - w % -NEIGHBOURS)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return rearrange(y, "b h w (i o) -> b h (w i) o", i=NEIGHBOURS)[:, :, :w]


@cache
def toom_cook(taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrices of `POINTS` for a row of taps: inputs to products, taps to factors, products to outputs.

    A filter's outputs are coefficients of a product of polynomials, transposed. Its values at enough points
    determine it.
    """
    outputs, points = POINTS[taps]
    at = [Fraction(point) for point in points.split()]
    products = len(at) + 1
    from_input = np.zeros((products, products))
    from_taps = np.zeros((products, taps))
    to_output = np.zeros((outputs, products))
    for row, point in enumerate(at):
        others = [other for other in at if other != point]
        # The polynomial that is 0 at all other points, lowest power first.
        from_input[row, :-1] = np.poly(np.array(others, float))[::-1]
        scale = prod(point - other for other in others)
        from_taps[row] = [point**power / scale for power in range(taps)]
        to_output[:, row] = [point**power for power in range(outputs)]
    from_input[-1] = np.poly(np.array(at, float))[::-1]
    from_taps[-1, -1] = to_output[-1, -1] = 1
    return from_input, from_taps, to_output


def _winograd(x: Array, kernel: Array) -> Array:
    """Each product serves several neighbouring outputs of a row."""
    side, w = kernel.shape[0], x.shape[2]
    from_input, from_taps, to_output = toom_cook(side)
    outputs, products = to_output.shape
    tiles = -(-w // outputs)
    last = outputs * (tiles - 1) + 1
    x = jnp.pad(x, ((0, 0), (0, 0), (side // 2, outputs * tiles - w + side // 2), (0, 0)))
    factors = jnp.einsum("ti,hico->thco", from_taps.astype(np.float32), kernel, precision="highest")
    parts = _combine(from_input, [x[:, :, i : i + last : outputs] for i in range(products)])
    multiplied = [_convolve(part, factor[:, None]) for part, factor in zip(parts, factors, strict=True)]
    y = jnp.stack(_combine(to_output, multiplied), axis=3)
    return rearrange(y, "b h tile i o -> b h (tile i) o")[:, :, :w]


def _combine(matrix: np.ndarray, parts: list[Array]) -> list[Array]:
    """The weighted sum of the parts for each row of the matrix."""
    return [weighted_sum(row.tolist(), parts) for row in matrix]


def weighted_sum(weights: Sequence[float], parts: Sequence[Float[Array, "*n"]]) -> Float[Array, "*n"]:
    """The sum of the parts times their weights.

    The operators of `jax.numpy` would take twice as long to trace.
    """

    def scaled(weight: float, part: Array) -> Array:
        return part if weight == 1 else jax.lax.mul(part, jax.lax.full_like(part, weight))

    return reduce(jax.lax.add, [scaled(a, part) for a, part in zip(weights, parts, strict=True) if a])


def _by_xla(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    return jax.vjp(_convolve, x, kernel)[1](g)


def _products(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    dx = _convolve(g, rearrange(kernel[::-1, ::-1], "i j c o -> i j o c"))
    return dx, _kernel_gradient(x, g, kernel.shape[0]).astype(kernel.dtype)


def _kernel_gradient(x: Array, g: Array, k: int) -> Array:
    """dw[i, j] = sum over pixels p of x[p + (i, j) - k // 2]^T g[p], float32, `k k c o`.

    The map with fewer channels is shifted: its column shifts are concatenated, then there is one product for
    each row shift.
    """
    if x.shape[-1] < g.shape[-1]:
        rows = [_product(shifted, g) for shifted in _shifts(x, k)]
        return rearrange(jnp.stack(rows), "i (j c) o -> i j c o", j=k)
    # Shifting g the other way pairs the same pixels.
    rows = [_product(x, shifted) for shifted in _shifts(g, k)]
    return rearrange(jnp.stack(rows), "i c (j o) -> i j c o", j=k)[::-1, ::-1]


def _shifts(x: Array, k: int) -> list[Array]:
    """For each i < k: x[y + i - k // 2, x + j - k // 2] for all j < k, concatenated; zeros outside."""
    h, w = x.shape[1:3]
    pad = (k // 2, k // 2)
    padded = jnp.pad(x, ((0, 0), pad, pad, (0, 0)))
    beside = jnp.concatenate([padded[:, :, j : j + w] for j in range(k)], axis=-1)
    return [beside[:, i : i + h] for i in range(k)]


def _product(x: Array, g: Array) -> Array:
    """Sum over all pixels of x^T g."""
    return jnp.einsum("bhwc,bhwo->co", x, g, preferred_element_type=jnp.float32)
