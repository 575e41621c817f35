"""The programs of the frozen networks for live samples, each for a batch of one shape, whatever the scale."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from ldip_jax.matching import CONFIDENT
from ldip_jax.matching.matcher import SIGMA
from ldip_jax.models.carry import BANDWIDTH, Routes, refine_warp
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.networks.backbone import Flows, clip_flows, over_time
from ldip_jax.models.networks.spynet import SPyNet
from ldip_jax.ops.grid import Grid, crop_axis, sample_bilinear
from ldip_jax.ops.resize import resample_bicubic
from ldip_jax.ops.warp import bilinear, forward_backward_confidence, inside, pixel_grid

# Pixels around an LR crop that the backbone sees, and around an HR crop that the refinement sees.
HALO, MARGIN = 16, 32
# The backbone's images, in pixels per LR pixel.
X4 = 4


class WindowInputs(NamedTuple):
    """LR crops with their halos, one for each sample of a batch.

    Attributes:
        frames: uint8 RGB.
        corner: (y, x) of the crop in its window.
        key_frames: key-frames; empty slots repeat one.
        origin, step: places (y, x) of the first HR pixel of the crop in LR pixels of the window, and LR
            pixels per HR pixel.
        margin: the same first place, of the HR crop with its margin.
        flows: exact flows, if clips bring them.
    """

    frames: UInt8[Array, "b t h w 3"]
    corner: Int[Array, "b 2"]
    key_frames: Int[Array, "b k"]
    origin: Float[Array, "b 2"]
    step: Float[Array, "b 2"]
    margin: Float[Array, "b 2"]
    flows: Flows | None = None


class BackboneOutputs(NamedTuple):
    """What the backbone finds in the windows, cut to the crops; images of key-frames keep their margins."""

    features: Float[Array, "b t n n c"]
    flows: Flows
    key_frame_images: Float[Array, "b k M M 3"] | None
    route_warps: Float[Array, "b t k N N 2"] | None
    route_confidence: Float[Array, "b t k N N 1"] | None


class PairInputs(NamedTuple):
    """Where pairs are refined. (height, width) and (y, x), in the orientation of the key-frames.

    Attributes:
        images: of the key-frames, HR crops with their margins.
        references: whole, lying, at the corner of canvases of one size, uint8 RGB.
        is_portrait: whether reference and key-frame were turned to be matched: rows and columns exchanged.
        size: of the HR frames; the references have the same one.
        place: first pixel of the HR crop with its margin.
        corner: of the crop in it.
        scale: size of HR frames divided by that of LR frames.
    """

    images: Float[Array, "p M M 3"]
    references: UInt8[Array, "p H W 3"]
    is_portrait: Bool[Array, "p"]
    size: Float[Array, "p 2"]
    place: Float[Array, "p 2"]
    corner: Int[Array, "p 2"]
    scale: Float[Array, "p 2"]


def _crop_each(x: Array, corner: Array, side: int) -> Array:
    """Each sample's crop of its maps `b ... h w c`."""

    def one(x: Array, corner: Array) -> Array:
        start = (*(0 for _ in x.shape[:-3]), corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(x, start, (*x.shape[:-3], side, side, x.shape[-1]))

    return jax.vmap(one)(x, corner)


def run_backbone(
    net: LDIP, sides: tuple[int, int], matches: bool, routes: bool, params: Any, windows: WindowInputs
) -> BackboneOutputs:
    """Run the backbone, and the flow network if it is another one.

    Args:
        sides: (HR, LR) sides of the crops.
        matches: whether images of key-frames are needed.
        routes: whether routes are.
    """
    hr, lr = sides
    frames = windows.frames.astype(jnp.float32) / 255.0
    b, t = frames.shape[:2]

    def run(net: LDIP, frames: Array) -> tuple[Array, Flows, Array | None]:
        backbone_flows = net.backbone.flows(frames)
        features = net.backbone.features(frames, backbone_flows)
        flows = Flows(*windows.flows) if windows.flows is not None else backbone_flows
        if windows.flows is None and net.flow_net is not None:
            flows = clip_flows(net, frames)
        exact = windows.flows is not None
        images = None
        if matches or (routes and not exact):
            images = _images(net, features, frames, None if routes else windows.key_frames)
        return features, flows, images

    features, flows, images = cast(Any, net.apply(params, frames, method=run))
    key_frame_images, warps, confidence = None, None, None
    if routes:
        every = jnp.zeros((b, t, *(X4 * n for n in frames.shape[2:4]), 3)) if images is None else images
        exact = windows.flows is not None
        found = cast(
            Any, net.apply(params, frames, every, flows, windows.key_frames, exact, method=LDIP.routes)
        )
        warps, confidence = _routes_at_crop(found, windows, hr)
    if matches and images is not None:
        key_frame_images = images[jnp.arange(b)[:, None], windows.key_frames] if routes else images
        key_frame_images = _with_margin(key_frame_images, windows, hr + 2 * MARGIN)
    features, *flows = (_crop_each(x, windows.corner, lr) for x in (features, *flows))
    return BackboneOutputs(features, Flows(*flows), key_frame_images, warps, confidence)


def _images(net: LDIP, features: Array, frames: Array, key_frames: Array | None) -> Float[Array, "b k H W 3"]:
    """The backbone's images of some frames, or of all, in [0, 1]."""
    if key_frames is not None:
        chosen = jnp.arange(frames.shape[0])[:, None], key_frames
        features, frames = features[chosen], frames[chosen]

    def image(net: LDIP, _: None, inputs: tuple[Array, Array]) -> tuple[None, Array]:
        features, frame = inputs
        return None, jnp.clip(net.backbone.decode(net.backbone.upscale(features), frame), 0.0, 1.0)

    return over_time(image)(net, None, (features, frames))[1]


def _with_margin(images: Array, windows: WindowInputs, side: int) -> Float[Array, "b k M M 3"]:
    """x4 images at the HR pixels of the crops and their margins."""

    def one(images: Array, origin: Array, step: Array) -> Array:
        origin, step = (jnp.broadcast_to(x, (images.shape[0], 2)) for x in (origin, step))
        return resample_bicubic(images, origin, step, (side, side))

    origin, step = X4 * (windows.margin + 0.5) - 0.5, X4 * windows.step
    return jnp.clip(jax.vmap(one)(images, origin, step), 0.0, 1.0)


def _routes_at_crop(routes: Routes, windows: WindowInputs, side: int) -> tuple[Array, Array]:
    """Routes in x4 pixels of the windows as routes in HR pixels of the crops."""
    moves = routes.warp - pixel_grid(*routes.warp.shape[3:5])[None, None, None]

    def one(moves: Array, confidence: Array, origin: Array, step: Array) -> tuple[Array, Array]:
        grid = Grid(crop_axis(origin[0], step[0], side), crop_axis(origin[1], step[1], side))
        flat = [x.reshape(-1, *x.shape[2:]) for x in (moves, confidence)]
        found = [sample_bilinear(x, grid) for x in flat]
        lead = moves.shape[:2]
        moves, confidence = (x.reshape(*lead, *x.shape[1:]) for x in found)
        return pixel_grid(side, side)[None, None] + moves / step[None, None, None, None, ::-1], confidence

    return jax.vmap(one)(moves, routes.confidence, X4 * (windows.origin + 0.5) - 0.5, X4 * windows.step)


def match(
    flow: Callable[..., Any], params: Any, images: tuple[UInt8[Array, "p h w 3"], UInt8[Array, "p h w 3"]]
) -> tuple[Float[Array, "p h w 2"], Float[Array, "p h w 1"], Bool[Array, "p h w"]]:
    """Flow from key-frames to references, both lying; its confidence; and where this is above 0.5."""
    with jax.default_matmul_precision("highest"):
        forward, backward = flow(params, *(x.astype(jnp.float32) / 255.0 for x in images))
        confidence = forward_backward_confidence(forward, backward, SIGMA)
        return forward, confidence, confidence[..., 0] > CONFIDENT


def refine(
    hr: int,
    max_scale: float,
    params: Any,
    inputs: tuple[Float[Array, "p h w 2"], Float[Array, "p h w 1"], PairInputs],
) -> tuple[Float[Array, "p N N 2"], Float[Array, "p N N 1"]]:
    """Warps and confidence of HR crops.

    Args:
        hr: side of the crops.
        max_scale: the highest scale.
        params: SPyNet's; None if matches are not refined.
        inputs: the coarse match (see `match`), and where it is refined.
    """
    flow, confidence, pairs = inputs
    side = hr + 2 * MARGIN

    def to_landscape(x: Array) -> Array:
        upright = pairs.is_portrait.reshape(-1, *(1 for _ in x.shape[1:]))
        return jnp.where(upright, x[..., ::-1], x)

    def at(x: Float[Array, "p 2"]) -> Float[Array, "p 1 1 2"]:
        """(y, x) of each pair, to be combined with maps of (x, y)."""
        return x[:, None, None, ::-1]

    matching = jnp.broadcast_to(jnp.array(flow.shape[2:0:-1], jnp.float32), (len(flow), 2))
    matching, size = to_landscape(matching)[:, None, None], at(pairs.size)
    with jax.default_matmul_precision("highest"):
        places = (pixel_grid(side, side)[None] + at(pairs.place) + 0.5) * matching / size - 0.5
        lying = to_landscape(places)
        warp = places + to_landscape(bilinear(flow, lying, padding="border"))
        warp = (warp + 0.5) * size / matching - 0.5
        confidence = bilinear(confidence, lying, padding="border")
        if params is not None:
            references = pairs.references.astype(jnp.float32) / 255.0

            def show(places: Array) -> Array:
                return bilinear(references, to_landscape(jnp.clip(places, 0.0, size - 1.0)), "border")

            radius = int(np.ceil(4.0 * BANDWIDTH * max_scale))
            scale = pairs.scale[:, 0], pairs.scale[:, 1]

            def find_flow(a: Array, b: Array) -> Array:
                return cast(Array, SPyNet().apply({"params": params}, a, b))

            warp = refine_warp(find_flow, pairs.images, show, warp, scale, radius=radius)
        warp, confidence = (_crop_each(x, pairs.corner, hr) for x in (warp, confidence))
        return warp, confidence * jax.vmap(lambda x, n: inside(x[None], n)[0])(warp, pairs.size[:, ::-1])
