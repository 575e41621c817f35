"""LDIP, the path of the paper's figure: video -> backbone -> HR features -> key-frames -> HRIP -> frames.

    backbone (frozen)      LR frames -> LR features                models/backbone/
    upscale                LR features -> HR features of a frame   the backbone's own x4, or
                                                                   models/arbitrary_scale.py
    Ref-Align              references -> the key-frame's pixels    models/ref_align.py
    Ref-Fusion             HR features at key-frames, refined      models/ref_fusion.py, models/ica.py
    HRIP                   refined detail to all frames            models/hrip.py
    decode                 HR features -> frames

`LDIP.__call__` is the whole path over a short clip in one program: training, tests and jitted evaluation of
crops. `inference/` drives the same methods frame by frame over clips of any length.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from ldip_jax.models.arbitrary_scale import ArbitraryScale, ArbitraryScaleDecoder
from ldip_jax.models.backbone.interface import Backbone
from ldip_jax.models.backbone.propagation import Flows, clip_flows, over_time
from ldip_jax.models.decoder import to_hook
from ldip_jax.models.lrrf import LRRF
from ldip_jax.models.ref_align import Reference
from ldip_jax.ops.grid import Grid
from ldip_jax.ops.resize import resize_bilinear


class KeyFrames(NamedTuple):
    """The key-frames of a batch of clips and their references.

    Attributes:
        index: place of each key-frame in its clip; empty slots hold any.
        valid: 1 for a key-frame, 0 for an empty slot.
        references: for each key-frame a stack of references: leaves `b k n ...`.
    """

    index: Int[Array, "b k"]
    valid: Float[Array, "b k"]
    references: Reference


def hr_flow(flow: Float[Array, "b h w 2"], size: tuple[int, int]) -> Float[Array, "b H W 2"]:
    """LR flow resized to HR `size` (half-pixel bilinear) and scaled to its pixels."""
    h, w = flow.shape[1:3]
    return resize_bilinear(flow, size) * jnp.array([[[[size[1] / w, size[0] / h]]]], jnp.float32)


class LDIP(nn.Module):
    """A frozen backbone with LRRF, and the arbitrary-scale head where there is one.

    Attributes:
        backbone: the frozen network.
        lrrf: the trainable module, or None for the backbone alone.
        as_head, as_decoder: in place of the backbone's `upscale` and `decode`; both or neither.
        hook: which HR features LRRF refines: "hr_pre", before `conv_hr`, or "hr", before `conv_last`.
        remat_frames: in the backward pass, compute each frame of HRIP anew as a whole, not its chains of
            layers alone: half the memory of long clips for a quarter more time.
        flow_net: optical flow for HRIP, one of `FLOWS`; None for the backbone's own.
    """

    backbone: Backbone
    lrrf: LRRF | None = None
    as_head: ArbitraryScale | None = None
    as_decoder: ArbitraryScaleDecoder | None = None
    hook: str = "hr_pre"
    remat_frames: bool = False
    flow_net: nn.Module | None = None

    def flow(self, ref: Float[Array, "b h w 3"], supp: Float[Array, "b h w 3"]) -> Float[Array, "b y x 2"]:
        """The LR flow that HRIP follows; see `Backbone.flow`."""
        return self.backbone.flow(ref, supp) if self.flow_net is None else self.flow_net(ref, supp)

    def upscale(
        self, features: Float[Array, "b h w c"], grid: Grid | None = None
    ) -> Float[Array, "b H W 64"]:
        """HR features of a frame at the hook: fixed x4, or on `grid`."""
        if grid is None:
            return to_hook(self.backbone, self.backbone.upscale(features), self.hook)
        if self.as_head is None or self.as_decoder is None:
            raise ValueError("this model has no arbitrary-scale head: leave the grid out")
        return to_hook(self.as_decoder, self.as_head(features, grid), self.hook)

    def decode(
        self, hr: Float[Array, "b H W 64"], frame: Float[Array, "b h w 3"], grid: Grid | None = None
    ) -> Float[Array, "b H W 3"]:
        """The frame's image, not clamped, from HR features at the hook."""
        if grid is None:
            return self.backbone.decode(hr, frame, self.hook)
        if self.as_decoder is None:
            raise ValueError("this model has no arbitrary-scale decoder: leave the grid out")
        return self.as_decoder(hr, frame, grid, self.hook)

    def refine(self, hr: Float[Array, "b t H W 64"], keys: KeyFrames) -> Float[Array, "b t H W 64"]:
        """Ref-Align and Ref-Fusion at the key-frames; the other frames stay as they are."""
        if self.lrrf is None:
            raise ValueError("this model has no LRRF to refine key-frames with")
        clip = jnp.arange(hr.shape[0])[:, None]
        chosen = rearrange(hr[clip, keys.index], "b k ... -> (b k) ...")
        references = jax.tree.map(lambda x: rearrange(x, "b k ... -> (b k) ..."), keys.references)
        refined = rearrange(self.lrrf.refine(chosen, references), "(b k) ... -> b k ...", b=hr.shape[0])
        # An empty slot writes out of range, that is nowhere: it must not undo a key-frame at its index.
        index = jnp.where(keys.valid > 0, keys.index, hr.shape[1])
        return hr.at[clip, index].set(refined, mode="drop")

    def propagate(
        self,
        hr: Float[Array, "b t H W 64"],
        flows: Flows,
    ) -> Float[Array, "b t H W 64"]:
        """HRIP: one backward pass, then one forward pass from what it left.

        Args:
            hr: all frames' features, key-frames refined.
            flows: LR flow between neighbours.
        """
        size = (hr.shape[2], hr.shape[3])
        for reverse, flow in zip((True, False), flows, strict=True):

            def step(module, previous, inputs, reverse=reverse):
                current, flow = inputs
                out = module.lrrf.propagate(reverse, current, previous, hr_flow(flow, size))
                return out, out

            kept = nn.remat(step, prevent_cse=False) if self.remat_frames else step
            _, hr = over_time(kept, reverse)(self, jnp.zeros_like(hr[:, 0]), (hr, flow))
        return hr

    def __call__(
        self, frames: Float[Array, "b t h w 3"], keys: KeyFrames | None = None, grid: Grid | None = None
    ) -> Float[Array, "b t H W 3"]:
        """All frames of a short clip.

        Args:
            frames: LR frames in [0, 1].
            keys: key-frames with their references; None leaves out Ref-Fusion and HRIP.
            grid: the HR grid of the arbitrary-scale head; None for the backbone's own x4.

        Returns:
            HR frames, not clamped, float32.
        """
        flows = self.backbone.flows(frames)
        features = self.backbone.features(frames, flows)
        if self.flow_net is not None:
            flows = clip_flows(self, frames)
        return self.restore(features, flows, frames, keys, grid)

    def restore(
        self,
        features: Float[Array, "b t h w c"],
        flows: Flows,
        frames: Float[Array, "b t h w 3"],
        keys: KeyFrames | None = None,
        grid: Grid | None = None,
        propagate: bool = True,
    ) -> Float[Array, "b t H W 3"]:
        """All that comes after the backbone's recurrence; arguments as of a call.

        Args:
            features: what the backbone makes of the frames, or of the larger ones they are cut from.
            flows: of the same, by `flow_net` if there is one.
            propagate: False leaves HRIP out: only key-frames are refined.
        """
        upscale = over_time(lambda net, _, features: (None, net.upscale(features, grid)))
        _, hr = upscale(self, None, features)
        if self.lrrf is not None and keys is not None:
            hr = self.refine(hr, keys)
            if propagate:
                hr = self.propagate(hr, flows)
        decode = over_time(lambda net, _, inputs: (None, net.decode(*inputs, grid)))
        return decode(self, None, (hr, frames))[1]
