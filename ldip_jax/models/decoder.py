"""The end of every network here: HR features to the image's detail.

`conv_hr`, LeakyReLU, `conv_last`. LRRF hooks in before the first (`hr_pre`) or before the last (`hr`).
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.bands import over_bands
from ldip_jax.models.layers import leaky_relu

HOOKS = ("hr_pre", "hr")


def to_hook(module: nn.Module, hr_pre: Float[Array, "b H W 64"], hook: str) -> Float[Array, "b H W 64"]:
    """HR features at the hook, by `conv_hr` of `module` where it lies behind it."""
    if hook == "hr_pre":
        return hr_pre
    return over_bands(module, lambda module, x: leaky_relu(module.conv_hr(x)), (hr_pre,), halo=1)


def decode_detail(module: nn.Module, hr: Float[Array, "b H W 64"], hook: str) -> Float[Array, "b H W 3"]:
    """What is added to the enlarged LR frame, float32, from HR features at the hook."""

    def chain(module: nn.Module, x: Array) -> Array:
        return module.conv_last(leaky_relu(module.conv_hr(x)) if hook == "hr_pre" else x)

    return over_bands(module, chain, (hr,), halo=2).astype(jnp.float32)
