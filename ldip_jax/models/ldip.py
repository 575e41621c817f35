"""LDIP, as in the paper's figure: video -> backbone -> HR features -> key-frames -> HRIP -> frames.

    backbone (frozen)      LR frames -> LR features                models/networks/
    upscale                LR features -> HR features of a frame   the backbone's own x4, or
                                                                   models/arbitrary_scale.py
    Ref-Align              references -> the key-frame's pixels    models/ref_align.py
    Ref-Fusion             refines HR features at key-frames       models/ref_fusion.py
    carry                  key-frames' detail -> other frames      models/carry.py (ours)
    HRIP                   refined detail -> all frames            models/hrip.py
    decode                 HR features -> frames

`LDIP.__call__` runs everything over a short clip in one program, for training, tests and jitted evaluation
of crops. `inference/` runs the same methods frame by frame over clips of any length.
"""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from ldip_jax.models.arbitrary_scale import ArbitraryScale, ArbitraryScaleDecoder
from ldip_jax.models.carry import (
    Route,
    Routes,
    agreement,
    carry,
    clip_routes,
    hr_places,
    refine_warp,
    sample_image,
    to_hr,
    zero_outside,
)
from ldip_jax.models.decoder import to_hook
from ldip_jax.models.layers import over_bands
from ldip_jax.models.lrrf import LRRF
from ldip_jax.models.networks.backbone import Backbone, Flows, clip_flows, over_time
from ldip_jax.models.ref_align import Reference
from ldip_jax.models.sharpness import relative_sharpness, texture
from ldip_jax.ops.grid import Grid, sample_flow
from ldip_jax.ops.resize import hr_flow, resize_bilinear, resize_large
from ldip_jax.ops.warp import bicubic, bilinear, pixel_grid


class KeyFrames(NamedTuple):
    """The key-frames of a batch of clips and their references.

    Attributes:
        index: place of each key-frame in its clip; any value in empty slots.
        valid: 1 for a key-frame, 0 for an empty slot.
        references: a stack of references for each key-frame; leaves are `b k n ...`.
    """

    index: Int[Array, "b k"]
    valid: Float[Array, "b k"]
    references: Reference


def flow_in_hr_pixels(
    flow: Float[Array, "b h w 2"], size: tuple[int, int], grid: Grid | None = None
) -> Float[Array, "b H W 2"]:
    """LR flow in HR pixels: sampled on `grid`, or without one resized to HR `size` (half-pixel bilinear)."""
    return hr_flow(flow, size) if grid is None else sample_flow(flow, grid)


class LDIP(nn.Module):
    """A frozen backbone with LRRF, and the arbitrary-scale head where there is one.

    Attributes:
        backbone: the frozen network.
        lrrf: the trainable module, or None for only the backbone.
        as_head, as_decoder: replace the backbone's `upscale` and `decode`; give both or neither.
        hook: which HR features LRRF refines: "hr_pre", before `conv_hr`, or "hr", before `conv_last`.
        remat_frames: in the backward pass, recompute each frame of HRIP as a whole, not only its chains of
            layers: half the memory for long clips, a quarter more time.
        flow_net: optical flow for HRIP and carry, one of `FLOWS`; None for the backbone's own.
        propagation: how detail gets from key-frames to the other frames, one of `PROPAGATIONS`.
        hrip_reach: for "carry": HRIP first runs over this many frames on either side of a key-frame, and
            its detail is carried; with 0, Ref-Fusion's detail is carried.
    """

    backbone: Backbone
    lrrf: LRRF | None = None
    as_head: ArbitraryScale | None = None
    as_decoder: ArbitraryScaleDecoder | None = None
    hook: str = "hr_pre"
    remat_frames: bool = False
    flow_net: nn.Module | None = None
    propagation: str = "hrip"
    hrip_reach: int = 0

    def flow(self, ref: Float[Array, "b h w 3"], supp: Float[Array, "b h w 3"]) -> Float[Array, "b y x 2"]:
        """The LR flow that HRIP and carry follow; see `Backbone.flow`."""
        return self.backbone.flow(ref, supp) if self.flow_net is None else self.flow_net(ref, supp)

    def features(self, frames: Float[Array, "b t h w 3"]) -> Float[Array, "b t h w c"]:
        """The backbone's LR features of all frames (in [0, 1]) of a short clip."""
        return self.backbone.features(frames, self.backbone.flows(frames))

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
        """The frame's image (not clamped) from HR features at the hook."""
        if grid is None:
            return self.backbone.decode(hr, frame, self.hook)
        if self.as_decoder is None:
            raise ValueError("this model has no arbitrary-scale decoder: leave the grid out")
        return self.as_decoder(hr, frame, grid, self.hook)

    def refine(self, hr: Float[Array, "b t H W 64"], key_frames: KeyFrames) -> Float[Array, "b t H W 64"]:
        """Ref-Align and Ref-Fusion at the key-frames; the other frames are unchanged."""
        if self.lrrf is None:
            raise ValueError("this model has no LRRF to refine key-frames with")
        clip = jnp.arange(hr.shape[0])[:, None]
        chosen = rearrange(hr[clip, key_frames.index], "b k ... -> (b k) ...")
        references = jax.tree.map(lambda x: rearrange(x, "b k ... -> (b k) ..."), key_frames.references)
        refined = rearrange(self.lrrf.refine(chosen, references), "(b k) ... -> b k ...", b=hr.shape[0])
        # Empty slots write out of range, which is dropped: they must not overwrite a key-frame.
        index = jnp.where(key_frames.valid > 0, key_frames.index, hr.shape[1])
        return hr.at[clip, index].set(refined, mode="drop")

    def propagate(
        self,
        hr: Float[Array, "b t H W 64"],
        flows: Flows,
        grid: Grid | None = None,
    ) -> Float[Array, "b t H W 64"]:
        """HRIP: one backward pass, then one forward pass over its result.

        Args:
            hr: all frames' features, with those of key-frames refined.
            flows: LR flow between neighbours.
            grid: where the HR pixels lie among the LR pixels; None: the HR frame covers the LR frame.
        """
        size = (hr.shape[2], hr.shape[3])
        for reverse, flow in zip((True, False), flows, strict=True):

            def step(module, previous, inputs, reverse=reverse):
                current, flow = inputs
                out = module.lrrf.propagate(reverse, current, previous, flow_in_hr_pixels(flow, size, grid))
                return out, out

            step = nn.remat(step, prevent_cse=False) if self.remat_frames else step
            _, hr = over_time(step, reverse)(self, jnp.zeros_like(hr[:, 0]), (hr, flow))
        return hr

    def locate(
        self,
        frame: Float[Array, "b h w 3"],
        image: Float[Array, "b H W 3"],
        key_frame: Float[Array, "b h w 3"],
        key_image: Float[Array, "b H W 3"],
        route: Route,
        least_sharpness: Float[Array, "b h w 1"] | None = None,
    ) -> tuple[Float[Array, "b H W 2"], Float[Array, "b H W 1"]]:
        """The places (x, y) of a frame's HR pixels in a key-frame, and their confidence in [0, 1].

        Args:
            frame, key_frame: whole LR frames.
            image, key_image: the backbone's images of these frames, in [0, 1], maybe in float16.
            route: from the frame to the key-frame.
            least_sharpness: of the frame relative to the key-frame, whatever their textures; None: 0.
        """
        size, lr = (image.shape[1], image.shape[2]), (route.flow.shape[1], route.flow.shape[2])
        places = pixel_grid(*lr)[None] + route.flow
        # Some backbones compute flow on smaller frames.
        own, other = (resize_bilinear(texture(x), lr) for x in (frame, key_frame))
        sharp = relative_sharpness(own, bilinear(other, places, padding="border"))
        sharp = sharp if least_sharpness is None else jnp.maximum(sharp, least_sharpness)
        warp = hr_places(route.flow, size)
        scale = (size[0] / lr[0], size[1] / lr[1])
        reduce = max(1, int(min(scale) / 2))
        show = partial(sample_image, key_image)
        warp = refine_warp(self.backbone.spynet, image, show, warp, scale, reduce)
        # Enlarged only now, so that it is not held while the flow is found.
        confidence = route.confidence * sharp
        agreed = agreement(image, key_image, warp, confidence, scale)
        confidence, agreed = jax.lax.optimization_barrier((confidence, agreed))
        return warp, zero_outside(warp, resize_large(confidence, size) * agreed)

    def sample_detail(
        self,
        detail: Float[Array, "b h w 64"],
        warp: Float[Array, "b H W 2"],
        weight: Float[Array, "b H W 1"],
    ) -> Float[Array, "b H W 64"]:
        """A key-frame's detail at a frame's pixels, weighted, in float32.

        Args:
            detail: the key-frame's detail, or a part of it.
            warp: places (x, y) in pixels of `detail`.
            weight: of each pixel.
        """

        def chain(module, warp, weight):
            # Converting all of `detail` first would take twice its memory again.
            return bicubic(detail, warp, jnp.float32) * weight

        return over_bands(self.backbone, chain, (warp, weight))

    def images(
        self,
        features: Float[Array, "b t h w c"],
        frames: Float[Array, "b t h w 3"],
        grid: Grid | None = None,
    ) -> Float[Array, "b t H W 3"]:
        """The images of a short clip without LRRF, in [0, 1]."""

        def image(net: LDIP, _, inputs):
            features, frame = inputs
            return None, jnp.clip(net.decode(net.upscale(features, grid), frame, grid), 0.0, 1.0)

        return over_time(image)(self, None, (features, frames))[1]

    def routes(
        self,
        frames: Float[Array, "b t h w 3"],
        images: Float[Array, "b t H W 3"],
        flows: Flows,
        index: Int[Array, "b k"],
        exact: bool = False,
    ) -> Routes:
        """The routes from all frames of a short clip to its key-frames; needs whole frames.

        Args:
            images: the backbone's images of the frames, in [0, 1].
            index: the key-frames' places in the clip.
            exact: the flows are exact, so they are not corrected.
        """
        b, k = index.shape
        clip = jnp.arange(b)[:, None]
        there = [rearrange(x[clip, index], "b k ... -> (b k) ...") for x in (frames, images)]

        def locate(net: LDIP, _, inputs):
            frame, image = (jnp.repeat(x, k, axis=0) for x in inputs[:2])
            route = Route(*(rearrange(x, "b k ... -> (b k) ...") for x in inputs[2:]))
            if exact:
                warp, confidence = to_hr(route, (image.shape[1], image.shape[2]))
                found = warp, zero_outside(warp, confidence)
            else:
                found = net.locate(frame, image, there[0], there[1], route)
            return None, tuple(rearrange(x, "(b k) ... -> b k ...", b=b) for x in found)

        lr_routes = clip_routes(flows, index)
        warp, confidence = over_time(locate)(self, None, (frames, images, *lr_routes))[1]
        # From a key-frame to itself: a flow network finds motion even between equal images.
        here = (index[:, None] == jnp.arange(frames.shape[1])[None, :, None])[..., None, None, None]
        warp = jnp.where(here, pixel_grid(*warp.shape[3:5])[None, None, None], warp)
        return jax.lax.stop_gradient(Routes(warp, jnp.where(here, 1.0, confidence)))

    def spread(
        self,
        hr: Float[Array, "b t H W 64"],
        flows: Flows,
        key_frames: KeyFrames,
        routes: Routes | None = None,
        grid: Grid | None = None,
    ) -> Float[Array, "b t H W 64"]:
        """The features of all frames after LRRF: key-frames are refined and their detail is propagated."""
        refined = self.refine(hr, key_frames)
        if self.propagation == "hrip":
            return self.propagate(refined, flows, grid)
        if routes is None:
            raise ValueError(f"propagation {self.propagation} needs routes")
        if self.propagation == "carry" and self.hrip_reach:
            refined = self.propagate(refined, flows, grid)
        clip = jnp.arange(hr.shape[0])[:, None]
        detail = refined[clip, key_frames.index] - hr[clip, key_frames.index]
        carried = hr + carry(detail, routes, key_frames.index, key_frames.valid).astype(hr.dtype)
        return self.propagate(carried, flows, grid) if self.propagation == "both" else carried

    def __call__(
        self, frames: Float[Array, "b t h w 3"], key_frames: KeyFrames | None = None, grid: Grid | None = None
    ) -> Float[Array, "b t H W 3"]:
        """All frames of a short clip.

        Args:
            frames: LR frames in [0, 1].
            key_frames: key-frames with their references; None leaves out LRRF.
            grid: the HR grid of the arbitrary-scale head; None for the backbone's own x4.

        Returns:
            HR frames (not clamped), float32.
        """
        flows = self.backbone.flows(frames)
        features = self.backbone.features(frames, flows)
        if self.flow_net is not None:
            flows = clip_flows(self, frames)
        routes = None
        if self.lrrf is not None and key_frames is not None and self.propagation != "hrip":
            routes = self.routes(frames, self.images(features, frames, grid), flows, key_frames.index)
        return self.restore(features, flows, frames, key_frames, grid, routes=routes)

    def restore(
        self,
        features: Float[Array, "b t h w c"],
        flows: Flows,
        frames: Float[Array, "b t h w 3"],
        key_frames: KeyFrames | None = None,
        grid: Grid | None = None,
        propagate: bool = True,
        routes: Routes | None = None,
    ) -> Float[Array, "b t H W 3"]:
        """Everything after the backbone's recurrence; other arguments as in `__call__`.

        Args:
            features: the backbone's LR features of the frames, or cut from those of larger frames.
            flows: LR flows of the same frames, from `flow_net` if there is one.
            propagate: False refines only the key-frames.
            routes: needed where `propagation` is not "hrip".
        """
        upscale = over_time(lambda net, _, features: (None, net.upscale(features, grid)))
        _, hr = upscale(self, None, features)
        if self.lrrf is not None and key_frames is not None:
            hr = (
                self.spread(hr, flows, key_frames, routes, grid) if propagate else self.refine(hr, key_frames)
            )
        decode = over_time(lambda net, _, inputs: (None, net.decode(*inputs, grid)))
        return decode(self, None, (hr, frames))[1]
