"""The 2-D convolution used by every layer here, with special forms for CPUs.

- If the layer allows it, 3x3 convolutions between float32 maps of many channels use Winograd's F(4, 3) along
  rows (Lavin and Gray, CVPR 2016). It needs half the multiplications and is 1.5 times as fast; its rounding
  errors are ten times as large.
- The gradient of a kernel is computed as matrix products. XLA computes it as a convolution whose "kernel" is
  a whole map, which is up to 20 times slower.

Other devices use XLA's own convolutions and gradients, which are the fastest there.
"""

from functools import partial, reduce
from operator import add

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float

# With fewer channels, Winograd's transforms cost more than they save.
WIDE = 32
# F(4, 3): 6 inputs to 6 products, 3 taps to as many factors, 6 products to 4 outputs.
FROM_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
FROM_TAPS = (
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float32) / 24
)
TO_OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32
)


def conv2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "i j c o"], stride: int = 1, winograd: bool = False
) -> Float[Array, "b H W o"]:
    """Cross-correlation with k // 2 zeros on every side, as torch `conv2d(padding=k // 2)`, for each axis' k.

    Supports only first-order reverse-mode gradients.

    Args:
        x: maps; the convolution is computed in their type.
        kernel: with odd sides; its gradient is summed in float32.
        stride: step between outputs.
        winograd: whether a 3x3 convolution may use Winograd's algorithm.
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
    wide = kernel.shape[0] == 3 and min(kernel.shape[2:]) >= WIDE and x.dtype == jnp.float32
    if not (winograd and wide):
        return _convolve(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=_winograd, default=_convolve)


def _forward(x: Array, kernel: Array, winograd: bool) -> tuple[Array, tuple[Array, Array]]:
    return _unit_stride(x, kernel, winograd), (x, kernel)


def _backward(winograd: bool, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    return jax.lax.platform_dependent(*saved, g, cpu=_products, default=_by_xla)


_unit_stride.defvjp(_forward, _backward)


def _winograd(x: Array, kernel: Array) -> Array:
    """Four neighbours of a row from six products each, instead of twelve."""
    w = x.shape[2]
    tiles = -(-w // 4)
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 4 * tiles + 1 - w), (0, 0)))
    factors = jnp.einsum("ti,hico->thco", FROM_TAPS, kernel, precision="highest")[:, :, None]
    products = [
        jax.lax.conv_general_dilated(
            part, factor, (1, 1), ((1, 1), (0, 0)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        for part, factor in zip(
            _combine(FROM_INPUT, [x[:, :, i : i + 4 * tiles - 3 : 4] for i in range(6)]), factors, strict=True
        )
    ]
    y = jnp.stack(_combine(TO_OUTPUT, products), axis=3)
    return rearrange(y, "b h tile i o -> b h (tile i) o")[:, :, :w]


def _combine(matrix: np.ndarray, parts: list[Array]) -> list[Array]:
    """The weighted sum of the parts for each row of the matrix; most weights are 0, 1 or -1."""
    return [reduce(add, (float(a) * part for a, part in zip(row, parts, strict=True) if a)) for row in matrix]


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
