"""The end of every network here: HR features to the image's detail."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.bands import over_bands
from ldip_jax.models.layers import leaky_relu


def decode_detail(module: nn.Module, hr: Float[Array, "b H W 64"]) -> Float[Array, "b H W 3"]:
    """`conv_hr`, LeakyReLU, `conv_last` of `module`, float32: what is added to the enlarged LR frame."""

    def chain(module: nn.Module, x: Array) -> Array:
        return module.conv_last(leaky_relu(module.conv_hr(x)))

    return over_bands(module, chain, (hr,), halo=2).astype(jnp.float32)
