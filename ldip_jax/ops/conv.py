"""The 2-D convolution that every layer here goes through."""

import jax
from jaxtyping import Array, Float


def conv2d(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c o"], stride: int = 1
) -> Float[Array, "b H W o"]:
    """Cross-correlation with k // 2 zeros on every side, as torch `conv2d(padding=k // 2)`."""
    pad = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), ((pad, pad), (pad, pad)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
