"""The end of every network here: from HR features to the image's detail.

`conv_hr`, LeakyReLU, `conv_last`. LRRF's hook is before the first layer (`hr_pre`) or before the last (`hr`).
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.layers import leaky_relu, over_bands

HOOKS = ("hr_pre", "hr")


def to_hook(module: nn.Module, hr_pre: Float[Array, "b H W 64"], hook: str) -> Float[Array, "b H W 64"]:
    """HR features at the hook; where the hook comes after `conv_hr`, that of `module` is applied."""
    if hook == "hr_pre":
        return hr_pre
    return over_bands(module, lambda module, x: leaky_relu(module.conv_hr(x)), (hr_pre,), halo=1)


def decode_detail(module: nn.Module, hr: Float[Array, "b H W 64"], hook: str) -> Float[Array, "b H W 3"]:
    """From HR features at the hook to what is added to the upsampled LR frame, in float32."""

    def chain(module: nn.Module, x: Array) -> Array:
        return module.conv_last(leaky_relu(module.conv_hr(x)) if hook == "hr_pre" else x)

    return over_bands(module, chain, (hr,), halo=2).astype(jnp.float32)
