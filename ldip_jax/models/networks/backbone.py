"""What all backbones have in common: the interface, and the x4 reconstruction head.

- `flow(ref, supp)`: the optical flow that propagation uses;
- `branches`, `encode`, `carry`, `step`, `keep`, `reconstruct`: the recurrence, one frame at a time, so that
  clips of any length can be run from outside a compiled program;
- `flows(frames)`, `features(frames, flows)`: the same recurrence as one scanned program;
- `upscale(features)`, `decode(hr, frame)`: from a frame's LR features to its 64-channel HR features
  (`hr_pre`, the input of `conv_hr`), and from these to its image.
"""

from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ldip_jax.models.decoder import decode_detail
from ldip_jax.models.layers import Conv, leaky_relu, over_bands, pixel_shuffle, repeated
from ldip_jax.ops.resize import resize_bilinear


class Branch(NamedTuple):
    """One pass over the clip: its name, and whether it runs from the last frame to the first."""

    name: str
    reverse: bool


def over_time(method, reverse: bool = False):
    """Lift `method(module, carry, inputs)` to a scan over axis 1 with shared parameters."""

    def scan(module: nn.Module, *arguments):
        return repeated(module, method, in_axes=1, out_axes=1, reverse=reverse)(module, *arguments)

    return scan


class Flows(NamedTuple):
    """LR flow from every frame to the next one (last: zero) and to the previous one (first: zero)."""

    to_next: Float[Array, "b t h w 2"]
    to_previous: Float[Array, "b t h w 2"]


def clip_flows(backbone: nn.Module, frames: Float[Array, "b t H W 3"]) -> Flows:
    """The flows of a clip, pair by pair."""
    here, there = frames[:, :-1], frames[:, 1:]
    if frames.shape[1] == 1:
        # Parameters must exist even without a pair of frames.
        zero = jnp.zeros_like(backbone.flow(frames[:, 0], frames[:, 0]))[:, None]
        return Flows(zero, zero)
    # Both directions in one scan: the network is compiled once.
    pairs = jnp.concatenate([here, there], axis=1), jnp.concatenate([there, here], axis=1)
    _, flow = over_time(lambda module, _, pair: (None, module.flow(*pair)))(backbone, None, pairs)
    to_next, to_previous = jnp.split(flow, 2, axis=1)
    zero = jnp.zeros_like(flow[:, :1])
    return Flows(jnp.concatenate([to_next, zero], 1), jnp.concatenate([zero, to_previous], 1))


def propagate(
    backbone: nn.Module, frames: Float[Array, "b t H W 3"], flows: Flows
) -> Float[Array, "b t h w c"]:
    """Run all branches over the clip, then `reconstruct` on every frame."""
    encode = over_time(lambda module, _, frame: (None, module.encode(frame)))
    inputs = (encode(backbone, None, frames)[1],)
    for branch in backbone.branches:

        def step(module, carry, inputs, branch=branch):
            return module.step(branch, carry, *inputs)

        flow = flows.to_next if branch.reverse else flows.to_previous
        start = backbone.carry(frames[:, 0])
        _, out = over_time(step, branch.reverse)(backbone, start, (inputs, flow))
        inputs = backbone.keep(inputs, out)
    reconstruct = over_time(lambda module, _, inputs: (None, module.reconstruct(inputs)))
    return reconstruct(backbone, None, inputs)[1]


FOUR_BRANCHES = (
    Branch("backward_1", reverse=True),
    Branch("forward_1", reverse=False),
    Branch("backward_2", reverse=True),
    Branch("forward_2", reverse=False),
)


class TwoFrames(NamedTuple):
    """The state of a branch that uses two previous frames.

    Attributes:
        last, before: its outputs for the previous frame and the one before that; zero if there is none.
        flow: from the previous frame to the one before it, (x, y) in pixels.
        count: frames done so far.
    """

    last: Float[Array, "b h w c"]
    before: Float[Array, "b h w c"]
    flow: Float[Array, "b h w 2"]
    count: Int[Array, ""]

    def after(self, out: Float[Array, "b h w c"], flow: Float[Array, "b h w 2"]) -> "TwoFrames":
        """The state after one more frame, from its output and its flow to the previous frame."""
        return TwoFrames(out, self.last, flow, self.count + 1)


def initial_state(features: Float[Array, "b h w c"]) -> TwoFrames:
    """The state before the first frame of a branch; `features` gives shape and type."""
    flow = jnp.zeros((*features.shape[:-1], 2), jnp.float32)
    return TwoFrames(jnp.zeros_like(features), jnp.zeros_like(features), flow, jnp.zeros((), jnp.int32))


class Backbone(nn.Module):
    """Video super-resolution (or restoration) of RGB frames in [0, 1], any size.

    Subclasses define the recurrence, and their layers in `setup`, which calls `setup_head` for the layers of
    this class.

    Attributes:
        mid_channels: channels of the propagated features.
        band_pixels: pixels per band of rows, for large maps; None for whole frames.
    """

    mid_channels: int = 64
    band_pixels: int | None = None

    branches: ClassVar[tuple[Branch, ...]] = ()
    step_cost: ClassVar[float] = 2.7e6
    """Rough number of multiply-adds of one `step` per LR pixel, for the time left on a progress bar."""
    step_bytes: ClassVar[int] = 1700
    """Bytes of memory that one `step` takes per LR pixel, with its arguments and results, in float32."""

    @property
    def shrink(self) -> int:
        """Frame pixels per pixel of LR features and flows, on both axes; frame sides are multiples of it."""
        return 1

    @property
    def scale(self) -> int:
        """Output pixels per frame pixel, on both axes."""
        return 4 // self.shrink

    @property
    def held_channels(self) -> int:
        """Channels kept of every frame between branches: the most that `keep` leaves."""
        return 3 + len(self.branches) * self.mid_channels

    def setup_head(self) -> None:
        self.upconv1 = Conv(self.mid_channels * 4, winograd=True)
        self.upconv2 = Conv(64 * 4, winograd=True)
        self.conv_hr = Conv(64, winograd=True)
        self.conv_last = Conv(3)

    def flow(self, ref: Float[Array, "b H W 3"], supp: Float[Array, "b H W 3"]) -> Float[Array, "b h w 2"]:
        """Optical flow, (x, y) in LR pixels, float32: `flow_warp(supp, flow)` resembles `ref`."""
        raise NotImplementedError

    def encode(self, frame: Float[Array, "b H W 3"]) -> Float[Array, "b h w _"]:
        """A frame's input to its own steps."""
        raise NotImplementedError

    def carry(self, frame: Float[Array, "b H W 3"]) -> Any:
        """The state before the first frame of a branch: an array or a tree of arrays."""
        raise NotImplementedError

    def step(
        self, branch: Branch, carry: Any, inputs: tuple[Array, ...], flow: Float[Array, "b h w 2"]
    ) -> tuple[Any, Float[Array, "b h w c"]]:
        """One frame of one branch.

        Args:
            branch: which branch.
            carry: the state after the previous frame of the branch.
            inputs: what was kept of this frame: its `encode` and its outputs from earlier branches.
            flow: from this frame to the previous one of the branch; zero at the first frame.

        Returns:
            The next state and this frame's output.
        """
        raise NotImplementedError

    def keep(self, inputs: tuple[Any, ...], out: Any) -> tuple[Any, ...]:
        """What later branches and `reconstruct` get of a frame after one more branch; here, everything.

        The arrays themselves are not looked at, so that they may be anywhere.
        """
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
        """The image (not clamped) from HR features at `hook`, and the LR frame."""
        return decode_detail(self, hr, hook) + resize_bilinear(
            frame.astype(jnp.float32), (hr.shape[1], hr.shape[2])
        )

    def __call__(self, frames: Float[Array, "b t h w 3"]) -> Float[Array, "b t H W 3"]:
        """All frames. Holds the whole HR clip in memory: for short clips and training crops."""

        def image(net: Backbone, _: None, inputs: tuple[Array, Array]) -> tuple[None, Array]:
            features, frame = inputs
            return None, net.decode(net.upscale(features), frame)

        return over_time(image)(self, None, (self.features(frames, self.flows(frames)), frames))[1]
