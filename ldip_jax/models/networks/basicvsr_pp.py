"""BasicVSR++ (Chan et al., CVPR 2022): grid propagation with second-order deformable alignment.

7,322,927 parameters with 64 channels and 7 blocks. Every branch sees the outputs of earlier branches, and
aligns features of two frames to the current one.
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.layers import Conv, leaky_relu, lecun_normal, over_bands
from ldip_jax.models.networks.backbone import FOUR_BRANCHES, Backbone, Branch, TwoFrames, initial_state
from ldip_jax.models.networks.basicvsr import ResidualTrunk
from ldip_jax.models.networks.spynet import SPyNet
from ldip_jax.ops.deform_conv import deform_conv
from ldip_jax.ops.warp import flow_warp

GROUPS = 16
"""Deformable groups; the first half sample the previous frame, the others the one before it."""
TAPS = 9
MAX_OFFSET = 10.0
"""Largest distance, in pixels, between an offset and the flow."""


class DeformAlign(nn.Module):
    """Aligns features of the two previous frames to the current one.

    Attributes:
        features: channels of each frame's features.
        band_pixels: pixels per band of rows; None for the whole map.
    """

    features: int
    band_pixels: int | None = None

    def setup(self):
        self.conv_offset_0 = Conv(self.features, winograd=True)
        self.conv_offset_2 = Conv(self.features, winograd=True)
        self.conv_offset_4 = Conv(self.features, winograd=True)
        self.conv_offset_6 = Conv(3 * GROUPS * TAPS, winograd=True, zero=True)
        shape = (3, 3, 2 * self.features, self.features)
        self.kernel = self.param("kernel", lecun_normal, shape, jnp.float32)
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)

    def __call__(
        self,
        x: Float[Array, "b h w {2*self.features}"],
        condition: tuple[Float[Array, "b h w {self.features}"], ...],
        flows: Float[Array, "b h w 4"],
    ) -> Float[Array, "b h w {self.features}"]:
        """Aligned features.

        Args:
            x: features of the previous frame and of the one before it, not warped.
            condition: the first of these warped, the current frame's features, the second warped.
            flows: from the current frame to each of the two, (x, y, x, y) in pixels.
        """

        def chain(module: "DeformAlign", flows: Array, rows: Array, *condition: Array) -> Array:
            offsets, mask = module.offsets(condition, flows)
            y = deform_conv(
                x, offsets, mask, module.kernel, padding=1, first_row=rows[0, 0, 0, 0], band_pixels=None
            )
            return y + module.bias.astype(y.dtype)[None, None, None]

        rows = jnp.arange(x.shape[1])[None, :, None, None]
        return over_bands(self, chain, (flows, rows, *condition), halo=4)

    def offsets(
        self, condition: tuple[Float[Array, "b h w {self.features}"], ...], flows: Float[Array, "b h w 4"]
    ) -> tuple[Float[Array, "b h w _"], Float[Array, "b h w _"]]:
        """Offsets and mask as `deform_conv` takes them."""
        x = jnp.concatenate([*condition, flows.astype(condition[0].dtype)], axis=-1)
        for layer in (self.conv_offset_0, self.conv_offset_2, self.conv_offset_4):
            x = leaky_relu(layer(x))
        residue, mask = jnp.split(self.conv_offset_6(x), [2 * GROUPS * TAPS], axis=-1)
        # Checkpoints store offsets as (y, x).
        residue = residue.reshape(*residue.shape[:-1], 2, -1, 2)[..., ::-1]
        places = flows.reshape(*flows.shape[:-1], 2, 1, 2) + MAX_OFFSET * jnp.tanh(
            residue.astype(jnp.float32)
        )
        return places.reshape(*flows.shape[:-1], -1), nn.sigmoid(mask)


class BasicVSRPlusPlus(Backbone):
    """Two backward and two forward branches, alternating.

    Attributes:
        num_blocks: residual blocks per branch.
        same_size: for the restoration variants (deblurring, denoising, compression), whose output is as large
            as their input: features are a quarter of the frame's size. Sides must be multiples of 4.
    """

    num_blocks: int = 7
    same_size: bool = False

    branches: ClassVar[tuple[Branch, ...]] = FOUR_BRANCHES
    step_cost: ClassVar[float] = 1.8e6
    step_bytes: ClassVar[int] = 5000

    @property
    def shrink(self) -> int:
        return 4 if self.same_size else 1

    def setup(self):
        c = self.mid_channels
        self.spynet = SPyNet()
        if self.same_size:
            self.feat_extract_0 = Conv(c, stride=2)
            self.feat_extract_2 = Conv(c, stride=2)
            self.feat_extract_4 = ResidualTrunk(c, 5)
        else:
            self.feat_extract = ResidualTrunk(c, 5)
        names = [branch.name for branch in self.branches]
        self.deform_align = {name: DeformAlign(c, self.band_pixels) for name in names}
        self.backbone = {name: ResidualTrunk(c, self.num_blocks) for name in names}
        self.reconstruction = ResidualTrunk(c, 5)
        self.setup_head()

    def flow(self, ref: Float[Array, "b H W 3"], supp: Float[Array, "b H W 3"]) -> Float[Array, "b h w 2"]:
        if self.same_size:
            ref, supp = _quarter(ref), _quarter(supp)
        return self.spynet(ref, supp)

    def encode(self, frame: Float[Array, "b H W 3"]) -> Float[Array, "b h w c"]:
        """The features of one frame."""
        if not self.same_size:
            return self.feat_extract(frame)
        x = leaky_relu(self.feat_extract_0(frame))
        return self.feat_extract_4(leaky_relu(self.feat_extract_2(x)))

    def carry(self, frame: Float[Array, "b H W 3"]) -> TwoFrames:
        b, h, w, _ = frame.shape
        return initial_state(
            jnp.zeros((b, h // self.shrink, w // self.shrink, self.mid_channels), frame.dtype)
        )

    def step(
        self,
        branch: Branch,
        carry: TwoFrames,
        inputs: tuple[Array, ...],
        flow: Float[Array, "b h w 2"],
    ) -> tuple[TwoFrames, Float[Array, "b h w c"]]:
        # Without a frame before the previous one, there is no flow to it either.
        flow_before = jnp.where(carry.count > 1, flow + flow_warp(carry.flow, flow), 0.0)
        condition = (flow_warp(carry.last, flow), inputs[0], flow_warp(carry.before, flow_before))
        both = jnp.concatenate([carry.last, carry.before], axis=-1)
        flows = jnp.concatenate([flow, flow_before], axis=-1)
        aligned = self.deform_align[branch.name](both, condition, flows)
        # The first frame of a branch has nothing to align: zeros, without the bias.
        aligned = jnp.where(carry.count > 0, aligned, jnp.zeros((), aligned.dtype))
        out = aligned + self.backbone[branch.name](jnp.concatenate([*inputs, aligned], axis=-1))
        return carry.after(out, flow), out

    def reconstruct(self, inputs: tuple[Array, ...]) -> Float[Array, "b h w c"]:
        """`recon`: everything kept of the frame, after the last trunk."""
        return self.reconstruction(jnp.concatenate(inputs, axis=-1))


def _quarter(frame: Float[Array, "b H W 3"]) -> Float[Array, "b h w 3"]:
    """The frame at a quarter of its size, as torch `interpolate(scale_factor=0.25, mode="bicubic")`."""
    b, h, w, c = frame.shape
    shape = (b, h // 4, w // 4, c)
    return jax.image.resize(frame.astype(jnp.float32), shape, "cubic-pytorch", antialias=False)
