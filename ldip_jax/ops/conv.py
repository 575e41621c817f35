"""The 2-D convolution that every layer here goes through, with gradients of its own on a CPU.

XLA computes the gradient of a kernel as a convolution whose "kernel" is a whole map. On a CPU that leaves
its fast path: up to 20 times slower than the same sum as matrix products. On a GPU XLA's own is the best.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float


def conv2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c o"], stride: int = 1
) -> Float[Array, "b H W o"]:
    """Cross-correlation with k // 2 zeros on every side, as torch `conv2d(padding=k // 2)`.

    Differentiable once, in reverse.

    Args:
        x: maps; the convolution is computed in their type.
        kernel: of odd side; its gradient is summed up in float32.
        stride: step between outputs.
    """
    return _unit_stride(x, kernel) if stride == 1 else _convolve(x, kernel, stride)


def _convolve(x: Array, kernel: Array, stride: int = 1) -> Array:
    pad = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (stride, stride),
        ((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@jax.custom_vjp
def _unit_stride(x: Array, kernel: Array) -> Array:
    return _convolve(x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    return jax.lax.platform_dependent(*saved, g, cpu=_products, default=_by_xla)


_unit_stride.defvjp(_forward, _backward)


def _by_xla(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    return jax.vjp(_convolve, x, kernel)[1](g)


def _products(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    dx = _convolve(g, rearrange(kernel[::-1, ::-1], "i j c o -> i j o c"))
    return dx, _kernel_gradient(x, g, kernel.shape[0]).astype(kernel.dtype)


def _kernel_gradient(x: Array, g: Array, k: int) -> Array:
    """dw[i, j] = sum over pixels p of x[p + (i, j) - k // 2]^T g[p], float32, `k k c o`.

    The narrower map is shifted: all column shifts side by side, then one product for each row shift.
    """
    if x.shape[-1] < g.shape[-1]:
        rows = [_product(shifted, g) for shifted in _shifts(x, k)]
        return rearrange(jnp.stack(rows), "i (j c) o -> i j c o", j=k)
    # Shifting g the other way pairs the same pixels.
    rows = [_product(x, shifted) for shifted in _shifts(g, k)]
    return rearrange(jnp.stack(rows), "i c (j o) -> i j c o", j=k)[::-1, ::-1]


def _shifts(x: Array, k: int) -> list[Array]:
    """For each i < k: x[y + i - k // 2, x + j - k // 2] for all j < k side by side; zeros outside."""
    h, w = x.shape[1:3]
    pad = (k // 2, k // 2)
    padded = jnp.pad(x, ((0, 0), pad, pad, (0, 0)))
    beside = jnp.concatenate([padded[:, :, j : j + w] for j in range(k)], axis=-1)
    return [beside[:, i : i + h] for i in range(k)]


def _product(x: Array, g: Array) -> Array:
    """Sum over all pixels of x^T g."""
    return jnp.einsum("bhwc,bhwo->co", x, g, preferred_element_type=jnp.float32)
