"""Implicit Cross Attention: a pixel's query over that pixel's references (paper, section 7.3)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.layers import LayerNorm, dense, leaky_relu
from ldip_jax.ops.attention import Attended, attend_one, attended_value


class ICA(nn.Module):
    """Multi-head attention over references, pixel by pixel, one reference at a time. 66,368 parameters.

    Attributes:
        features: channels, heads times head size.
        heads: attention heads.
        implicit: whether a reference's features are first passed through an MLP together with the query
            (the paper's ICA); otherwise keys and values come straight from them (cross attention).
    """

    features: int = 64
    heads: int = 4
    implicit: bool = True

    def setup(self):
        self.norm_q, self.norm_kv = LayerNorm(), LayerNorm()
        if self.implicit:
            self.mlp_0, self.mlp_1 = dense(4 * self.features), dense(self.features)
        self.q, self.k, self.v, self.out = (dense(self.features) for _ in range(4))

    def absorb(
        self,
        state: Attended,
        query: Float[Array, "b h w c"],
        kv: Float[Array, "b h w c"],
        valid: Float[Array, "b"],
    ) -> Attended:
        """Take in one reference's aligned features `kv`."""
        query = self.norm_q(query)
        if self.implicit:
            kv = self.mlp_1(leaky_relu(self.mlp_0(jnp.concatenate([query, kv], axis=-1))))
        kv = self.norm_kv(kv)
        return attend_one(state, self.q(query), self.k(kv), self.v(kv), valid)

    def result(self, state: Attended, dtype: jnp.dtype) -> Float[Array, "b h w c"]:
        """The attention over all references taken in."""
        return self.out(attended_value(state).astype(dtype))
