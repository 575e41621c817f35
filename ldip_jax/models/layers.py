"""The layers that several boxes share: convolution, dense layer's activations, pixel shuffle."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from ldip_jax.ops.conv import conv2d

leaky_relu = partial(nn.leaky_relu, negative_slope=0.1)


def _as_input(*arrays: Any, dtype: Any = None, inexact: bool = True) -> list[Any]:
    """An input, then parameters in its type."""
    del dtype, inexact
    return [None if array is None else array.astype(arrays[0].dtype) for array in arrays]


# Flax would compute in float32, the parameters' type.
dense = partial(nn.Dense, promote_dtype=_as_input)


class LayerNorm(nn.LayerNorm):
    """Flax's, its sums in float32, its result in the type of what comes in."""

    epsilon: float = 1e-5

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        return super().__call__(x).astype(x.dtype)


class Conv(nn.Module):
    """Convolution with zero padding and bias.

    Attributes:
        features: output channels.
        kernel: side of the square kernel, or height and width (odd).
        stride: 1, or 2 to halve the map (torch's padding, kernel // 2 on every side).
        use_bias: whether a bias is added.
        winograd: whether a CPU may compute it faster with a little more rounding, see `conv2d`.
        zero: start with a zero kernel, so that the layer is silent at first.
        dtype: compute type, that of the input by default; parameters are float32.
    """

    features: int
    kernel: int | tuple[int, int] = 3
    stride: int = 1
    use_bias: bool = True
    winograd: bool = False
    zero: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W {self.features}"]:
        init = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        dtype = self.dtype or x.dtype
        sides = (self.kernel, self.kernel) if isinstance(self.kernel, int) else self.kernel
        shape = (*sides, x.shape[-1], self.features)
        kernel = self.param("kernel", init, shape, jnp.float32)
        y = conv2d(x.astype(dtype), kernel, self.stride, self.winograd)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + bias.astype(dtype)[None, None, None]
        return y


def pixel_shuffle(x: Float[Array, "b h w c"], r: int = 2) -> Float[Array, "b H W C"]:
    """out[r y + i, r x + j, c] = in[y, x, c r^2 + i r + j]."""
    return rearrange(x, "b h w (c i j) -> b (h i) (w j) c", i=r, j=r)
