"""RAFT's update: a gated recurrent unit that turns looked-up similarities into a correction of the flow."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.layers import Conv


class MotionEncoder(nn.Module):
    """Similarities and the flow so far as `features` channels; the last two are the flow itself.

    Attributes:
        correlation: widths of the convolutions of the similarities, 1x1 and, if there is a second, 3x3.
        flow: widths of the two convolutions of the flow.
        features: channels out.
    """

    correlation: tuple[int, ...]
    flow: tuple[int, int]
    features: int

    @nn.compact
    def __call__(
        self, flow: Float[Array, "b h w 2"], seen: Float[Array, "b h w k"]
    ) -> Float[Array, "b h w {self.features}"]:
        for index, (features, kernel) in enumerate(zip(self.correlation, (1, 3), strict=False), start=1):
            seen = nn.relu(Conv(features, kernel=kernel, name=f"convcorr{index}_0")(seen))
        x = flow
        for index, (features, kernel) in enumerate(zip(self.flow, (7, 3), strict=True), start=1):
            x = nn.relu(Conv(features, kernel=kernel, name=f"convflow{index}_0")(x))
        both = jnp.concatenate([seen, x], axis=-1)
        return jnp.concatenate([nn.relu(Conv(self.features - 2, name="conv_0")(both)), flow], axis=-1)


class ConvGRU(nn.Module):
    """A gated recurrent unit whose gates are convolutions."""

    features: int
    kernel: tuple[int, int]

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "b h w c"], x: Float[Array, "b h w d"]
    ) -> Float[Array, "b h w c"]:
        def gate(name: str, hidden: Array) -> Array:
            both = jnp.concatenate([hidden, x], axis=-1)
            return Conv(self.features, kernel=self.kernel, name=name)(both)

        update, reset = nn.sigmoid(gate("convz", hidden)), nn.sigmoid(gate("convr", hidden))
        new = nn.tanh(gate("convq", reset * hidden))
        return (1.0 - update) * hidden + update * new


class RecurrentBlock(nn.Module):
    """One unit after the other: along rows, along columns; or a single square one."""

    features: int
    kernels: tuple[tuple[int, int], ...]

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "b h w c"], x: Float[Array, "b h w d"]
    ) -> Float[Array, "b h w c"]:
        for index, kernel in enumerate(self.kernels, start=1):
            hidden = ConvGRU(self.features, kernel, name=f"convgru{index}")(hidden, x)
        return hidden


class FlowHead(nn.Module):
    """The hidden state to a correction of the flow."""

    features: int

    @nn.compact
    def __call__(self, hidden: Float[Array, "b h w c"]) -> Float[Array, "b h w 2"]:
        return Conv(2, name="conv2")(nn.relu(Conv(self.features, name="conv1")(hidden)))


class UpdateBlock(nn.Module):
    """One update of the hidden state, and what it adds to the flow.

    Attributes:
        motion: correlation and flow widths, and channels out, of `MotionEncoder`.
        hidden: channels of the hidden state.
        kernels: of the recurrent units.
        head: width inside of the flow head.
    """

    motion: tuple[tuple[int, ...], tuple[int, int], int]
    hidden: int
    kernels: tuple[tuple[int, int], ...]
    head: int

    @nn.compact
    def __call__(
        self,
        hidden: Float[Array, "b h w c"],
        context: Float[Array, "b h w d"],
        seen: Float[Array, "b h w k"],
        flow: Float[Array, "b h w 2"],
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w 2"]]:
        motion = MotionEncoder(*self.motion, name="motion_encoder")(flow, seen)
        x = jnp.concatenate([context, motion], axis=-1)
        hidden = RecurrentBlock(self.hidden, self.kernels, name="recurrent_block")(hidden, x)
        return hidden, FlowHead(self.head, name="flow_head")(hidden)


class MaskPredictor(nn.Module):
    """The hidden state to the weights of the convex upsampling by 8, before the softmax."""

    @nn.compact
    def __call__(self, hidden: Float[Array, "b h w c"]) -> Float[Array, "b h w 576"]:
        # Scaled down so that its gradient is in proportion to the others': the weights are made for it.
        return 0.25 * Conv(576, kernel=1, name="conv")(nn.relu(Conv(256, name="convrelu_0")(hidden)))
