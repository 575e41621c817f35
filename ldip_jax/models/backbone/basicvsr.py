"""BasicVSR (Chan et al., CVPR 2021): bidirectional, flow-warped propagation. 6,291,311 parameters.

The interface that every backbone here has:

- `flow(ref, supp)`: the optical flow that the propagation uses;
- `branches`, `encode`, `carry`, `step`, `reconstruct`: the recurrence, one frame at a time, so that a clip
  of any length can be driven from outside of a compiled program;
- `features(frames)`: the same recurrence as one scanned program;
- `upscale(features)`, `decode(hr, frame)`: from the 64-channel LR features of a frame to its HR features
  (`hr_pre`, the input of `conv_hr`) and from there to its image.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.backbone.propagation import Branch, propagate
from ldip_jax.models.backbone.spynet import SPyNet
from ldip_jax.models.backbone.trunk import ResidualTrunk
from ldip_jax.models.layers import Conv, leaky_relu, pixel_shuffle
from ldip_jax.ops.resize import resize_bilinear
from ldip_jax.ops.warp import flow_warp


class BasicVSR(nn.Module):
    """x4 video super-resolution of RGB frames in [0, 1], any size.

    Attributes:
        mid_channels: width of the propagated features.
        num_blocks: residual blocks per direction.
    """

    mid_channels: int = 64
    num_blocks: int = 30

    scale = 4
    branches = (Branch("backward", reverse=True), Branch("forward", reverse=False))

    def setup(self):
        self.spynet = SPyNet()
        self.backward_trunk = ResidualTrunk(self.mid_channels, self.num_blocks)
        self.forward_trunk = ResidualTrunk(self.mid_channels, self.num_blocks)
        self.fusion = Conv(self.mid_channels, kernel=1)
        self.upconv1 = Conv(self.mid_channels * 4)
        self.upconv2 = Conv(64 * 4)
        self.conv_hr = Conv(64)
        self.conv_last = Conv(3)

    def flow(self, ref: Float[Array, "b h w 3"], supp: Float[Array, "b h w 3"]) -> Float[Array, "b h w 2"]:
        return self.spynet(ref, supp)

    def encode(self, frame: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        """What a frame brings to its own steps: here, itself."""
        return frame

    def carry(self, frame: Float[Array, "b h w 3"]) -> Float[Array, "b h w c"]:
        """The state before the first frame of a branch."""
        return jnp.zeros((*frame.shape[:-1], self.mid_channels), frame.dtype)

    def step(
        self,
        branch: Branch,
        carry: Float[Array, "b h w c"],
        inputs: tuple[Array, ...],
        flow: Float[Array, "b h w 2"],
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
        """One frame of one branch.

        Args:
            branch: which one.
            carry: the previous frame's output in this branch.
            inputs: this frame's `encode` and its outputs of the branches before.
            flow: from this frame to the previous one of the branch; zero at the first.

        Returns:
            The next carry and this frame's output.
        """
        trunk = self.backward_trunk if branch.reverse else self.forward_trunk
        out = trunk(jnp.concatenate([inputs[0], flow_warp(carry, flow)], axis=-1))
        return out, out

    def reconstruct(self, inputs: tuple[Array, ...]) -> Float[Array, "b h w c"]:
        """A frame's LR features (`fused`) from its `encode` and its outputs of all branches."""
        return leaky_relu(self.fusion(jnp.concatenate(inputs[1:], axis=-1)))

    def features(self, frames: Float[Array, "b t h w 3"]) -> Float[Array, "b t h w c"]:
        """The LR features of all frames of a clip."""
        return propagate(self, frames)

    def upscale(self, features: Float[Array, "b h w c"]) -> Float[Array, "b H W 64"]:
        """HR features `hr_pre` of a frame, four times as high and wide."""
        x = leaky_relu(pixel_shuffle(self.upconv1(features)))
        return leaky_relu(pixel_shuffle(self.upconv2(x)))

    def decode(self, hr: Float[Array, "b H W 64"], frame: Float[Array, "b h w 3"]) -> Float[Array, "b H W 3"]:
        """The image (not clamped) from HR features and the LR frame."""
        base = resize_bilinear(frame, hr.shape[1:3])
        return self.conv_last(leaky_relu(self.conv_hr(hr))) + base

    def __call__(self, frames: Float[Array, "b t h w 3"]) -> Float[Array, "b t H W 3"]:
        """All frames, x4. Whole HR clip in memory: for short clips and training crops."""
        features = self.features(frames)
        images = [self.decode(self.upscale(features[:, i]), frames[:, i]) for i in range(frames.shape[1])]
        return jnp.stack(images, axis=1)
