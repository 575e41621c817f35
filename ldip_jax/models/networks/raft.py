"""RAFT: optical flow by repeated look-up of similarities (Teed and Deng, ECCV 2020).

5,257,536 trained parameters (small variant: 990,162). The large variant also has the statistics of its batch
normalisation.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from ldip_jax.models.layers import Conv, repeated
from ldip_jax.models.networks.gmflow import convex_upsample, instance_norm
from ldip_jax.ops.resize import resize_align_corners
from ldip_jax.ops.warp import bilinear, pixel_grid

LEVELS = 4

Pyramid = tuple[Float[Array, "p _ _ 1"], ...]


def correlation_pyramid(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Pyramid:
    """For each pixel of `a`, a map of its similarity to `b`; then the same at half the size, and so on."""
    scores = jnp.einsum("bhwc,bijc->bhwij", a, b) / math.sqrt(a.shape[-1])
    levels = [rearrange(scores, "b h w i j -> (b h w) i j 1")]
    for _ in range(LEVELS - 1):
        levels.append(nn.avg_pool(levels[-1], (2, 2), strides=(2, 2)))
    return tuple(levels)


def look_up(pyramid: Pyramid, places: Float[Array, "b h w 2"], radius: int) -> Float[Array, "b h w k"]:
    """Similarities around places (x, y) in the other image: (2 radius + 1)^2 values on every level.

    The values of a level are ordered column by column; they are 0 outside the image.
    """
    b, h, w, _ = places.shape
    side = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    around = jnp.stack(jnp.meshgrid(side, side, indexing="ij"), axis=-1)[None]
    centre = places.reshape(b * h * w, 1, 1, 2)
    found = [bilinear(level, centre / 2**index + around) for index, level in enumerate(pyramid)]
    return jnp.concatenate([level.reshape(b, h, w, -1) for level in found], axis=-1)


class FixedNorm(nn.Module):
    """Batch normalisation with the statistics of training, as at inference."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        starts = {"mean": nn.initializers.zeros, "var": nn.initializers.ones}
        starts |= {"scale": nn.initializers.ones, "bias": nn.initializers.zeros}
        mean, var, scale, bias = (
            self.param(name, start, x.shape[-1:], jnp.float32)[None, None, None]
            for name, start in starts.items()
        )
        return (x - mean) * (jax.lax.rsqrt(var + 1e-5) * scale) + bias


class NormedConv(nn.Module):
    """A convolution, normalisation ("instance", "batch" or "none") and, unless `relu` is False, ReLU."""

    features: int
    kernel: int
    norm: str
    stride: int = 1
    relu: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W {self.features}"]:
        x = Conv(self.features, kernel=self.kernel, stride=self.stride, name="conv")(x)
        if self.norm == "instance":
            x = instance_norm(x)
        elif self.norm == "batch":
            x = FixedNorm(name="norm")(x)
        return nn.relu(x) if self.relu else x


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1, narrow 3x3 and 1x1 if `bottleneck`, plus a shortcut."""

    features: int
    stride: int
    norm: str
    bottleneck: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W {self.features}"]:
        narrow = self.features // 4
        # Channels, side of the kernel, stride.
        layers = ((self.features, 3, self.stride), (self.features, 3, 1))
        if self.bottleneck:
            layers = ((narrow, 1, 1), (narrow, 3, self.stride), (self.features, 1, 1))
        y = x
        for index, (features, kernel, stride) in enumerate(layers, start=1):
            y = NormedConv(features, kernel, self.norm, stride, name=f"convnormrelu{index}")(y)
        if self.stride > 1:
            x = NormedConv(self.features, 1, self.norm, self.stride, relu=False, name="downsample")(x)
        return nn.relu(x + y)


class Encoder(nn.Module):
    """A 7x7 convolution, three stages of two blocks, a 1x1 convolution.

    Attributes:
        widths: channels of the first convolution, of the stages and of the output.
        norm: "instance", "batch" or "none".
        bottleneck: the kind of blocks; see `Block`.
    """

    widths: tuple[int, int, int, int, int]
    norm: str
    bottleneck: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b h//8 w//8 c"]:
        first, *stages, last = self.widths
        x = NormedConv(first, 7, self.norm, stride=2, name="convnormrelu")(x)
        for index, features in enumerate(stages, start=1):
            for place, stride in enumerate((1 if index == 1 else 2, 1)):
                block = Block(features, stride, self.norm, self.bottleneck, name=f"layer{index}_{place}")
                x = block(x)
        return Conv(last, kernel=1, name="conv")(x)


class MotionEncoder(nn.Module):
    """Encodes similarities and the current flow; the last two channels are the flow itself.

    Attributes:
        correlation: channels of the similarities' convolutions, a 1x1 and, if there is a second, a 3x3.
        flow: channels of the flow's two convolutions.
        features: output channels.
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
    """Recurrent units in sequence, one for each of `kernels`: along rows, then columns; or one square one."""

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
    """From the hidden state to a correction of the flow."""

    features: int

    @nn.compact
    def __call__(self, hidden: Float[Array, "b h w c"]) -> Float[Array, "b h w 2"]:
        return Conv(2, name="conv2")(nn.relu(Conv(self.features, name="conv1")(hidden)))


class UpdateBlock(nn.Module):
    """One update of the hidden state, and the correction of the flow from it.

    Attributes:
        motion: the attributes of `MotionEncoder`.
        hidden: channels of the hidden state.
        kernels: kernel sizes of the recurrent units.
        head: inner channels of the flow head.
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
    """From the hidden state to the logits of the convex upsampling by 8."""

    @nn.compact
    def __call__(self, hidden: Float[Array, "b h w c"]) -> Float[Array, "b h w 576"]:
        # The published weights were trained with this factor, which balances the gradients.
        return 0.25 * Conv(576, kernel=1, name="conv")(nn.relu(Conv(256, name="convrelu_0")(hidden)))


STRIDE = 8
SHORTEST = 128
"""With shorter sides, the coarsest similarities would be single pixels."""


class RAFT(nn.Module):
    """Optical flow from `ref` to `supp`: `flow_warp(supp, flow)` resembles `ref`.

    Attributes:
        small: whether this is the small variant.
        updates: how many times the flow is corrected.
    """

    small: bool = False
    updates: int = 12

    def setup(self):
        if self.small:
            self.hidden, self.radius = 96, 3
            self.feature_encoder = Encoder((32, 32, 64, 96, 128), "instance", bottleneck=True)
            self.context_encoder = Encoder((32, 32, 64, 96, 160), "none", bottleneck=True)
            self.update_block = UpdateBlock(((96,), (64, 32), 82), 96, ((3, 3),), 128)
        else:
            self.hidden, self.radius = 128, 4
            self.feature_encoder = Encoder((64, 64, 96, 128, 256), "instance", bottleneck=False)
            self.context_encoder = Encoder((64, 64, 96, 128, 256), "batch", bottleneck=False)
            self.update_block = UpdateBlock(((256, 192), (128, 64), 128), 128, ((1, 5), (5, 1)), 256)
            self.mask_predictor = MaskPredictor()

    def __call__(
        self, ref: Float[Array, "b h w 3"], supp: Float[Array, "b h w 3"]
    ) -> Float[Array, "b h w 2"]:
        """Flow (x, y) in pixels, float32, at the highest matmul precision. Images in [0, 1], any size.

        Images are padded by replication: sides become multiples of 8, at least 128.
        """
        h, w = ref.shape[1:3]
        pads = [(0, 0), *((0, max(side + -side % STRIDE, SHORTEST) - side) for side in (h, w)), (0, 0)]
        images = jnp.concatenate([ref, supp]).astype(jnp.float32)
        images = 2.0 * jnp.pad(images, pads, mode="edge") - 1.0
        with jax.default_matmul_precision("highest"):
            return self._flow(images)[:, :h, :w]

    def _flow(self, images: Float[Array, "n h w 3"]) -> Float[Array, "b h w 2"]:
        a, b = jnp.split(self.feature_encoder(images), 2)
        pyramid = correlation_pyramid(a, b)
        state = self.context_encoder(images[: len(a)])
        hidden, context = nn.tanh(state[..., : self.hidden]), nn.relu(state[..., self.hidden :])
        own = pixel_grid(a.shape[1], a.shape[2])[None]

        def update(net: RAFT, carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            hidden, flow = carry
            seen = look_up(pyramid, own + flow, net.radius)
            hidden, change = net.update_block(hidden, context, seen, flow)
            return (hidden, flow + change), None

        still = jnp.zeros((*a.shape[:-1], 2), jnp.float32)
        (hidden, flow), _ = repeated(self, update, length=self.updates)(self, (hidden, still), None)
        if not self.small:
            return convex_upsample(flow, self.mask_predictor(hidden))
        return STRIDE * resize_align_corners(flow, (STRIDE * a.shape[1], STRIDE * a.shape[2]))
