"""What all backbones have in common: the interface, and the x4 reconstruction head.

- `flow(ref, supp)`: the optical flow that the propagation uses;
- `branches`, `encode`, `carry`, `step`, `keep`, `reconstruct`: the recurrence, one frame at a time, so that a
  clip of any length can be driven from outside of a compiled program;
- `flows(frames)`, `features(frames, flows)`: the same recurrence as one scanned program;
- `upscale(features)`, `decode(hr, frame)`: from the LR features of a frame to its 64-channel HR features
  (`hr_pre`, the input of `conv_hr`) and from there to its image.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.backbone.propagation import Branch, Flows, clip_flows, over_time, propagate
from ldip_jax.models.bands import over_bands
from ldip_jax.models.decoder import decode_detail
from ldip_jax.models.layers import Conv, leaky_relu, pixel_shuffle
from ldip_jax.ops.resize import resize_bilinear


class Backbone(nn.Module):
    """Video super-resolution (or restoration) of RGB frames in [0, 1], any size.

    Subclasses define their layers in `setup`, calling `setup_head` for the layers of this class, and the
    recurrence.

    Attributes:
        mid_channels: width of the propagated features.
        band_pixels: pixels per band of rows, wherever maps are large; None for whole frames.
    """

    mid_channels: int = 64
    band_pixels: int | None = None

    branches: ClassVar[tuple[Branch, ...]] = ()
    step_cost: ClassVar[float] = 2.7e6
    """Multiply-adds of one `step` per LR pixel, roughly: for a progress bar's time left."""

    @property
    def shrink(self) -> int:
        """Frame pixels per pixel of LR features and flows, on either axis; sides are multiples of it."""
        return 1

    @property
    def scale(self) -> int:
        """Output pixels per frame pixel, on either axis."""
        return 4 // self.shrink

    @property
    def held_channels(self) -> int:
        """LR features that are held of every frame between the branches: the most that `keep` leaves."""
        return 3 + len(self.branches) * self.mid_channels

    def setup_head(self) -> None:
        self.upconv1 = Conv(self.mid_channels * 4)
        self.upconv2 = Conv(64 * 4)
        self.conv_hr = Conv(64)
        self.conv_last = Conv(3)

    def flow(self, ref: Float[Array, "b H W 3"], supp: Float[Array, "b H W 3"]) -> Float[Array, "b h w 2"]:
        """Optical flow, (x, y) in LR pixels, float32: `flow_warp(supp, flow)` resembles `ref`."""
        raise NotImplementedError

    def encode(self, frame: Float[Array, "b H W 3"]) -> Float[Array, "b h w _"]:
        """What a frame brings to its own steps."""
        raise NotImplementedError

    def carry(self, frame: Float[Array, "b H W 3"]) -> Any:
        """The state before the first frame of a branch: an array, or a tree of arrays."""
        raise NotImplementedError

    def step(
        self, branch: Branch, carry: Any, inputs: tuple[Array, ...], flow: Float[Array, "b h w 2"]
    ) -> tuple[Any, Float[Array, "b h w c"]]:
        """One frame of one branch.

        Args:
            branch: which one.
            carry: the state after the previous frame of the branch.
            inputs: what was kept of this frame: its `encode` and its outputs of the branches before.
            flow: from this frame to the previous one of the branch; zero at the first.

        Returns:
            The next state and this frame's output.
        """
        raise NotImplementedError

    def keep(self, inputs: tuple[Array, ...], out: Array) -> tuple[Array, ...]:
        """What later branches and `reconstruct` are given of a frame after one more branch: everything."""
        return (*inputs, out)

    def reconstruct(self, inputs: tuple[Array, ...]) -> Float[Array, "b h w c"]:
        """A frame's LR features from what was kept of it after all branches."""
        raise NotImplementedError

    def flows(self, frames: Float[Array, "b t H W 3"]) -> Flows:
        """Optical flow between all neighbours of a clip."""
        return clip_flows(self, frames)

    def features(self, frames: Float[Array, "b t H W 3"], flows: Flows) -> Float[Array, "b t h w c"]:
        """The LR features of all frames of a clip."""
        return propagate(self, frames, flows)

    def upscale(self, features: Float[Array, "b h w c"]) -> Float[Array, "b H W 64"]:
        """HR features `hr_pre` of a frame, four times as high and wide as the LR ones."""

        def chain(module: Backbone, x: Array) -> Array:
            x = leaky_relu(pixel_shuffle(module.upconv1(x)))
            return leaky_relu(pixel_shuffle(module.upconv2(x)))

        return over_bands(self, chain, (features,), halo=2, scale=4)

    def decode(
        self, hr: Float[Array, "b H W 64"], frame: Float[Array, "b h w 3"], hook: str = "hr_pre"
    ) -> Float[Array, "b H W 3"]:
        """The image (not clamped) from HR features at `hook` and the LR frame."""
        return decode_detail(self, hr, hook) + resize_bilinear(
            frame.astype(jnp.float32), (hr.shape[1], hr.shape[2])
        )

    def __call__(self, frames: Float[Array, "b t h w 3"]) -> Float[Array, "b t H W 3"]:
        """All frames. The whole HR clip in memory: for short clips and training crops."""

        def image(net: Backbone, _: None, inputs: tuple[Array, Array]) -> tuple[None, Array]:
            features, frame = inputs
            return None, net.decode(net.upscale(features), frame)

        return over_time(image)(self, None, (self.features(frames, self.flows(frames)), frames))[1]
