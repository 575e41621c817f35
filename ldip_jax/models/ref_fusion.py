"""Ref-Fusion: fuses references into a key-frame by Implicit Cross Attention (paper, section 7.2)."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.layers import Conv, LayerNorm, dense, leaky_relu, over_bands
from ldip_jax.models.ref_align import Reference, align
from ldip_jax.ops.attention import Attended, attend_nothing, attend_one, attended_value


class ICA(nn.Module):
    """Multi-head attention over references, pixel by pixel, one reference at a time. 66,368 parameters.

    Attributes:
        features: channels, heads times head size.
        heads: attention heads.
        implicit: whether a reference's features first pass through an MLP together with the query (the
            paper's ICA); otherwise keys and values come directly from the features (cross attention).
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
        """Add one reference's aligned features `kv` to the state."""
        query = self.norm_q(query)
        if self.implicit:
            kv = self.mlp_1(leaky_relu(self.mlp_0(jnp.concatenate([query, kv], axis=-1))))
        kv = self.norm_kv(kv)
        return attend_one(state, self.q(query), self.k(kv), self.v(kv), valid)

    def result(self, state: Attended, dtype: jnp.dtype) -> Float[Array, "b h w c"]:
        """The attention over all references in the state."""
        return self.out(attended_value(state).astype(dtype))


GATES = ("none", "max_confidence")
ATTENTIONS = ("ica", "cross")


class Fusion(nn.Module):
    """Three 3x3 convolutions, 2E -> 4E -> E -> E, with LeakyReLU between them."""

    features: int = 64

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w {self.features}"]:
        x = leaky_relu(Conv(4 * self.features, winograd=True, name="conv_0")(x))
        x = leaky_relu(Conv(self.features, winograd=True, name="conv_1")(x))
        return Conv(self.features, winograd=True, name="conv_2")(x)


class FusionState(NamedTuple):
    """What a layer keeps of the references so far: the softmax's sums, and the highest confidence."""

    attended: Attended
    best: Float[Array, "b H W 1"]


class RefFusion(nn.Module):
    """Refines a key-frame's HR features with any number of references. 1,204,480 parameters.

    References come one at a time, once per layer, and are not kept once they are in the layer's running
    softmax. Call `query`; then for each layer `start`, `absorb` for every reference, and `fuse`; then
    `residual`.

    Attributes:
        features: E, inner channels.
        depth: D, layers of attention and fusion.
        heads: attention heads.
        attention: "ica", or "cross" for plain cross attention.
        gate: "none" (the paper), or "max_confidence": the residual is multiplied by the highest confidence
            among the pixel's references, so that pixels without a match do not change.
        band_pixels: pixels per band of rows; None for the whole frame at once.
    """

    features: int = 64
    depth: int = 2
    heads: int = 4
    attention: str = "ica"
    gate: str = "none"
    band_pixels: int | None = None

    def setup(self):
        if self.attention not in ATTENTIONS or self.gate not in GATES:
            chosen = f"not {self.attention!r} and {self.gate!r}"
            raise ValueError(f"attention must be one of {ATTENTIONS} and gate one of {GATES}, {chosen}")
        self.conv_q_in = Conv(self.features, winograd=True)
        self.conv_kv_in = Conv(self.features, winograd=True)
        implicit = self.attention == "ica"
        self.ica = [ICA(self.features, self.heads, implicit, name=f"ica_{d}") for d in range(self.depth)]
        self.fusion = [Fusion(self.features, name=f"fusion_{d}") for d in range(self.depth)]
        self.conv_r = Conv(64, winograd=True, zero=True)

    def query(self, hr: Float[Array, "b H W 64"]) -> Float[Array, "b H W e"]:
        """F^Q from the key-frame's HR features (in LRRF's scale)."""
        return over_bands(self, lambda module, x: module.conv_q_in(x), (hr,), halo=1)

    def start(self, query: Float[Array, "b H W e"]) -> FusionState:
        """The state of a layer before its first reference."""
        b, h, w = query.shape[:3]
        return FusionState(
            attend_nothing(b, h, w, self.heads, self.features), jnp.zeros((b, h, w, 1), jnp.float32)
        )

    def absorb(
        self,
        layer: int,
        query: Float[Array, "b H W e"],
        state: FusionState,
        features: Float[Array, "b h w 64"],
        reference: Reference,
    ) -> FusionState:
        """Add one reference (without a stack axis), with its extracted `features`, to a layer's state."""

        def chain(module, query, warp, confidence, best, *attended):
            kv = align(features, reference.size, warp, confidence)
            seen = kv[..., -1:].astype(jnp.float32) * reference.valid[:, None, None, None]
            attended = module.ica[layer].absorb(
                Attended(*attended), query, module.conv_kv_in(kv), reference.valid
            )
            return (jnp.maximum(best, seen), *attended)

        maps = (query, reference.warp, reference.confidence, state.best, *state.attended)
        best, *attended = over_bands(self, chain, maps, halo=1)
        return FusionState(Attended(*attended), best)

    def fuse(self, layer: int, query: Float[Array, "b H W e"], attended: Attended) -> Float[Array, "b H W e"]:
        """F^Q after a layer, from its attention over all references."""

        def chain(module, query, *attended):
            value = module.ica[layer].result(Attended(*attended), query.dtype)
            return module.fusion[layer](jnp.concatenate([query, value], axis=-1))

        return over_bands(self, chain, (query, *attended), halo=3)

    def residual(
        self, query: Float[Array, "b H W e"], best: Float[Array, "b H W 1"], any_valid: Float[Array, "b"]
    ) -> Float[Array, "b H W 64"]:
        """What is added to the key-frame's HR features; exactly 0 without a valid reference."""
        residual = over_bands(self, lambda module, x: module.conv_r(x), (query,), halo=1)
        gate = any_valid[:, None, None, None]
        if self.gate == "max_confidence":
            gate = gate * jax.lax.stop_gradient(best)
        return residual * gate.astype(residual.dtype)
