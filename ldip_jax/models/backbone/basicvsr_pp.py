"""BasicVSR++ (Chan et al., CVPR 2022): grid propagation with second-order deformable alignment.

7,322,927 parameters with 64 channels and 7 blocks. Every branch sees the outputs of those before it, and
brings features of two frames, not of one, to the current frame.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.backbone.deform_align import DeformAlign
from ldip_jax.models.backbone.interface import Backbone
from ldip_jax.models.backbone.propagation import Branch
from ldip_jax.models.backbone.second_order import FOUR_BRANCHES, TwoFrames, no_frames
from ldip_jax.models.backbone.spynet import SPyNet
from ldip_jax.models.backbone.trunk import ResidualTrunk
from ldip_jax.models.layers import Conv, leaky_relu
from ldip_jax.ops.warp import flow_warp


class BasicVSRPlusPlus(Backbone):
    """Two backward and two forward branches, in turns.

    Attributes:
        num_blocks: residual blocks per branch.
        same_size: the restoration variants (deblurring, denoising, compression), whose output is as large as
            their input: frames are reduced by 4 on the way in. Sides must be multiples of 4.
    """

    num_blocks: int = 7
    same_size: bool = False

    branches: ClassVar[tuple[Branch, ...]] = FOUR_BRANCHES
    step_cost: ClassVar[float] = 1.8e6

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
        return no_frames(jnp.zeros((b, h // self.shrink, w // self.shrink, self.mid_channels), frame.dtype))

    def step(
        self,
        branch: Branch,
        carry: TwoFrames,
        inputs: tuple[Array, ...],
        flow: Float[Array, "b h w 2"],
    ) -> tuple[TwoFrames, Float[Array, "b h w c"]]:
        # Without a frame before the previous one there is no flow to it either.
        flow_before = jnp.where(carry.count > 1, flow + flow_warp(carry.flow, flow), 0.0)
        condition = (flow_warp(carry.last, flow), inputs[0], flow_warp(carry.before, flow_before))
        both = jnp.concatenate([carry.last, carry.before], axis=-1)
        flows = jnp.concatenate([flow, flow_before], axis=-1)
        aligned = self.deform_align[branch.name](both, condition, flows)
        # The first frame of a branch has nothing to align, and gets no bias.
        aligned = jnp.where(carry.count > 0, aligned, jnp.zeros((), aligned.dtype))
        out = aligned + self.backbone[branch.name](jnp.concatenate([*inputs, aligned], axis=-1))
        return carry.after(out, flow), out

    def reconstruct(self, inputs: tuple[Array, ...]) -> Float[Array, "b h w c"]:
        """`recon`: everything known of the frame through the last trunk."""
        return self.reconstruction(jnp.concatenate(inputs, axis=-1))


def _quarter(frame: Float[Array, "b H W 3"]) -> Float[Array, "b h w 3"]:
    """A quarter of the size, not antialiased: torch `interpolate(scale_factor=0.25, mode="bicubic")`."""
    b, h, w, c = frame.shape
    shape = (b, h // 4, w // 4, c)
    return jax.image.resize(frame.astype(jnp.float32), shape, "cubic-pytorch", antialias=False)
