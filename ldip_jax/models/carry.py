"""Carry: a key-frame's detail is brought to each frame around it by a single warp.

This is ours, not the paper's. HRIP passes detail from frame to frame, and most of it is lost within two
frames. Here the flows between neighbours are composed into one flow from a frame to its key-frame. A flow
network then corrects that flow (`refine_warp`), and the detail is sampled once, bicubically. Pixels that
forward-backward consistency does not confirm receive no detail; most of these are hidden in one of the two
frames.

Nothing here has parameters. Flows are (x, y) in pixels of their own maps, in float32.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from ldip_jax.models.networks.backbone import Flows
from ldip_jax.ops.bands import fill_rows, map_bands
from ldip_jax.ops.blur import blur_reach, gaussian_blur
from ldip_jax.ops.grid import rows_of, sample_bilinear, whole_grid
from ldip_jax.ops.resize import resize_bilinear, resize_large
from ldip_jax.ops.warp import bicubic, bilinear, forward_backward_confidence, inside, pixel_grid, row_places

PROPAGATIONS = ("hrip", "carry", "both")
"""How detail gets from key-frames to the other frames: by HRIP, as in the paper; carried; or carried, then
HRIP."""
# Forward-backward error that is still trusted, in LR pixels.
SIGMA = 0.375
# Standard deviation of the low-pass before a second look, in LR pixels.
BANDWIDTH = 0.4
# For `agreement`: standard deviations, in LR pixels, of the local mean and of the comparison's window; the
# variance that counts as noise; and the share of differing texture that is still trusted. Damaged images
# differ everywhere: places may differ by DAMAGED_DIFFERENCE times what confident ones usually do, up to
# MOST_TOLERATED. They usually do by 0.01 to 0.03 on clean clips, and by 0.1 to 0.2 at CRF 23 and 30.
LOCAL_MEAN, COMPARED, IMAGE_NOISE, TOLERATED_DIFFERENCE = 1.0, 0.75, 2e-4, 0.3
DAMAGED_DIFFERENCE, MOST_TOLERATED = 10.0, 1.6
# Damage, such as strong compression, lowers all confidence, even where places are right. Between the second
# and the third of these usual differences, the odds of each confidence are raised by the factor 1 + RAISED;
# below the first and above the last, they are kept. Key-frames usually differ from their stills by 0.01 to
# 0.03 on clean clips, by 0.15 to 0.35 at CRF 30, and by 2 from images of something else.
DAMAGED, RAISED = (0.08, 0.15, 0.8, 1.2), 2.0
# The share of a damaged frame that the key-frame's own features replace, besides its detail.
REPLACED = 0.7
# Larger images are warped, low-passed and compared in bands of rows.
BAND_PIXELS = 2**18


class Route(NamedTuple):
    """Where a frame's pixels are found in a key-frame, at LR size.

    Attributes:
        flow: from each pixel of the frame to its place in the key-frame.
        confidence: confidence of that place, in [0, 1].
    """

    flow: Float[Array, "b h w 2"]
    confidence: Float[Array, "b h w 1"]


class Routes(NamedTuple):
    """Where the pixels of all frames of a clip are found in all its key-frames, at HR size; never trained.

    Attributes:
        warp: places (x, y) in the key-frame's HR pixels.
        confidence: confidence of these places, in [0, 1].
    """

    warp: Float[Array, "b t k H W 2"]
    confidence: Float[Array, "b t k H W 1"]


def identity_route(height: int, width: int, batch: int = 1) -> Route:
    """The route from a key-frame to itself, at LR size."""
    return Route(jnp.zeros((batch, height, width, 2)), jnp.ones((batch, height, width, 1)))


def extend_route(route: Route, towards: Float[Array, "b h w 2"], back: Float[Array, "b h w 2"]) -> Route:
    """The route of a frame, from the route of its neighbour on the key-frame's side.

    Args:
        route: from the neighbour to the key-frame, in LR pixels.
        towards: flow from the frame to the neighbour.
        back: flow from the neighbour to the frame.
    """
    places = pixel_grid(*towards.shape[1:3])[None] + towards
    flow = towards + bilinear(route.flow, places, padding="border")
    confidence = forward_backward_confidence(towards, back, SIGMA) * bilinear(
        route.confidence, places, padding="border"
    )
    return Route(flow, confidence)


def to_hr(route: Route, size: tuple[int, int]) -> tuple[Float[Array, "b H W 2"], Float[Array, "b H W 1"]]:
    """A whole frame's route as places (x, y) in HR pixels of the key-frame, and their confidence."""
    return hr_places(route.flow, size), resize_large(route.confidence, size)


def hr_places(flow: Float[Array, "b h w 2"], size: tuple[int, int]) -> Float[Array, "b H W 2"]:
    """The places (x, y) to which an LR flow leads all pixels of an image of HR `size`, in HR pixels."""
    return _moved(flow, size, lambda places: places)


def sample_image(image: Float[Array, "b h w 3"], places: Float[Array, "b H W 2"]) -> Float[Array, "b H W 3"]:
    """An image at places (x, y) in its pixels, bilinear, in float32 even if it is held in float16."""
    return bilinear(image, places, "border", jnp.float32)


def _moved(
    flow: Float[Array, "b h w 2"], size: tuple[int, int], map_places: Callable[[Array], Array]
) -> Float[Array, "b H W 2"]:
    """`map_places(x + flow(x))` at all pixels x of an image of `size`; the flow is of a smaller one."""
    lr = (flow.shape[1], flow.shape[2])
    grid = whole_grid(lr, size)
    ratio = jnp.array([[[[size[1] / lr[1], size[0] / lr[0]]]]], jnp.float32)

    def band(rows: Int[Array, "r"]) -> Array:
        moves = sample_bilinear(flow, rows_of(grid, rows)) * ratio
        return map_places(row_places(rows, size[1])[None] + moves)

    return fill_rows(band, size, BAND_PIXELS)


def refine_warp(
    find_flow: Callable[[Array, Array], Array],
    anchor: Float[Array, "b H W 3"],
    show: Callable[[Float[Array, "b r W 2"]], Float[Array, "b r W 3"]],
    warp: Float[Array, "b H W 2"],
    scale: tuple[float, float] | tuple[Float[Array, "b"], Float[Array, "b"]],
    reduce: int = 1,
    radius: int = 0,
) -> Float[Array, "b H W 2"]:
    """Correct a warp: W'(x) = W(x + r(x)), where r is the flow from an image to the other one, warped to it.

    Only the flow is found in whole images; the rest is computed in bands of rows.

    Args:
        find_flow: a flow network: takes two images and returns the flow between them.
        anchor: the image whose pixels are looked for, in [0, 1].
        show: from places to the other image there, in [0, 1].
        warp: places (x, y) in pixels of the other image.
        scale: (H, W) divided by the size of the input video's frames; sets the low-pass.
        reduce: the flow is found in images smaller by this factor; the low-pass permits up to scale / 2.
        radius: of the low-pass, if the scales are arrays (see `gaussian_blur`).
    """
    small = (anchor.shape[1] // reduce, anchor.shape[2] // reduce)
    return correct(warp, find_flow(*low_passed(anchor, show, warp, scale, small, radius)))


def correct(warp: Float[Array, "b H W 2"], flow: Float[Array, "b h w 2"]) -> Float[Array, "b H W 2"]:
    """W(x + r(x)), from W and the flow r, which may be smaller; see `refine_warp`."""
    return _moved(flow, (warp.shape[1], warp.shape[2]), lambda places: bilinear(warp, places, "border"))


def low_passed(
    anchor: Float[Array, "b H W 3"],
    show: Callable[[Float[Array, "b r W 2"]], Float[Array, "b r W 3"]],
    warp: Float[Array, "b H W 2"],
    scale: tuple[float, float] | tuple[Float[Array, "b"], Float[Array, "b"]],
    small: tuple[int, int],
    radius: int = 0,
) -> tuple[Float[Array, "b h w 3"], Float[Array, "b h w 3"]]:
    """An image and the other one, warped to it, without what lies above the bandwidth of the input video.

    There, an upscaled image shows invented detail, and the flow would lock onto that.

    Args:
        small: (h, w) of the result, at most a little more than the size of the anchor.
        anchor, show, warp, scale, radius: as in `refine_warp`.
    """
    sigma: Any = (BANDWIDTH * scale[0], BANDWIDTH * scale[1])
    reach = radius or blur_reach(sigma[0])
    size = (anchor.shape[1], anchor.shape[2])
    step = size[0] / small[0]
    grid = whole_grid(size, small)

    def band(rows: Int[Array, "r"]) -> tuple[Array, Array]:
        # The rows that these are interpolated from, and those that blurring them reads.
        count = min(size[0], math.ceil(len(rows) * step) + 2 * reach + 3)
        here = rows_of(grid, rows)
        first = jnp.clip(here.rows.index[0] - reach - 1, 0, size[0] - count)
        read = [jax.lax.dynamic_slice_in_dim(x, first, count, axis=1) for x in (anchor, warp)]
        within = here._replace(rows=here.rows._replace(index=here.rows.index - first))
        pair = (read[0].astype(jnp.float32), show(read[1]))
        low, shown = (sample_bilinear(gaussian_blur(x, sigma, radius), within) for x in pair)
        return low, shown

    pixels = int(BAND_PIXELS / (step * size[1] / small[1]))
    return fill_rows(band, small, pixels, math.ceil(reach / step))


def structure(
    image: Float[Array, "b H W 3"], local_mean: float, scale: tuple[float, float]
) -> Float[Array, "b H W 1"]:
    """An image's luma below the input's bandwidth, without its local mean.

    Args:
        image: in [0, 1].
        local_mean: standard deviation of the window of the mean, in LR pixels.
        scale: (H, W) divided by the size of the input video's frames.
    """

    def blur(x: Array, reach: float) -> Array:
        return gaussian_blur(x, (reach * scale[0], reach * scale[1]))

    low = blur(jnp.mean(image.astype(jnp.float32), axis=-1, keepdims=True), BANDWIDTH)
    return low - blur(low, local_mean)


def texture_difference(
    image: Float[Array, "b H W 3"], other: Float[Array, "b H W 3"], scale: tuple[float, float]
) -> Float[Array, "b H W 1"]:
    """How much two aligned images differ in texture below the input's bandwidth.

    0: they are equal; about 2: they have nothing in common. Exposure is ignored. A pixel depends on others up
    to `difference_halo` rows away.

    Args:
        image, other: in [0, 1].
        scale: (H, W) divided by the size of the input video's frames.
    """

    def window(x: Array) -> Array:
        return gaussian_blur(x, (COMPARED * scale[0], COMPARED * scale[1]))

    a, b = (structure(x, LOCAL_MEAN, scale) for x in (image, other))
    return window(jnp.square(a - b)) / (window(jnp.square(a) + jnp.square(b)) / 2.0 + IMAGE_NOISE)


def difference_halo(scale: tuple[float, float]) -> int:
    """Rows around a pixel that `texture_difference` reads."""
    return sum(blur_reach(reach * scale[0]) for reach in (BANDWIDTH, LOCAL_MEAN, COMPARED))


def usual_difference(
    difference: Float[Array, "b h w 1"], confidence: Float[Array, "b h w 1"]
) -> Float[Array, "b 1 1 1"]:
    """The median `texture_difference` of the confident pixels; 0 if there are none."""
    confident = jnp.where(confidence > 0.5, difference, jnp.nan)
    return jnp.nan_to_num(jnp.nanmedian(confident, axis=(1, 2), keepdims=True))


def damage(usual: Float[Array, "b 1 1 1"]) -> Float[Array, "b 1 1 1"]:
    """How damaged a key-frame is, in [0, 1], from its `usual_difference` from a still."""
    return jnp.interp(usual, jnp.array(DAMAGED), jnp.array([0.0, 1.0, 1.0, 0.0]))


def raise_confidence(confidence: Float[Array, "*n"], damage: Float[Array, "..."]) -> Float[Array, "*n"]:
    """Confidence, raised where damage lowers all of it.

    Args:
        confidence: in [0, 1]; 0 and 1 do not change.
        damage: of the key-frame, in [0, 1].
    """
    raised = RAISED * damage
    return confidence * (1.0 + raised) / (1.0 + raised * confidence)


def trust(
    difference: Float[Array, "b H W 1"], usual: Float[Array, "b 1 1 1"], tolerated: float
) -> Float[Array, "b H W 1"]:
    """The trust in an alignment, in [0, 1].

    Args:
        difference: its `texture_difference`.
        usual: what that is for most confident pixels.
        tolerated: the difference that is still trusted on undamaged images.
    """
    limit = jnp.clip(DAMAGED_DIFFERENCE * usual, tolerated, MOST_TOLERATED)
    return jnp.exp(-jnp.square(difference / limit))


def agreement(
    image: Float[Array, "b H W 3"],
    key_image: Float[Array, "b H W 3"],
    warp: Float[Array, "b H W 2"],
    route_confidence: Float[Array, "b h w 1"],
    scale: tuple[float, float],
) -> Float[Array, "b H W 1"]:
    """How well two images agree in texture below the input's bandwidth, in [0, 1]; exposure is ignored.

    Args:
        image, key_image: the two images, in [0, 1].
        warp: places (x, y) of the first one's pixels in the second one.
        route_confidence: confidence of these places, at LR size.
        scale: (H, W) divided by the size of the input video's frames.
    """

    def compare(image: Array, warp: Array) -> Array:
        return texture_difference(image, sample_image(key_image, warp), scale)

    difference = map_bands(compare, (image, warp), BAND_PIXELS, difference_halo(scale))
    small = resize_bilinear(difference, (route_confidence.shape[1], route_confidence.shape[2]))
    return trust(difference, usual_difference(small, route_confidence), TOLERATED_DIFFERENCE)


def neighbour_weights(
    index: Int[Array, "b k"], valid: Float[Array, "b k"], count: int
) -> Float[Array, "b t k"]:
    """How much each of `count` frames takes from each key-frame, by distance in time only.

    A frame takes from the key-frames before and after it, with weights that are linear in distance. If it
    has only one of them, that one gets all the weight. A key-frame takes only from itself.
    """
    time = jnp.arange(count)[None, :, None]
    place = jnp.where(valid > 0, index, 2 * count)[:, None]
    before = jnp.max(jnp.where(place <= time, place, -1), axis=-1, keepdims=True)
    after = jnp.min(jnp.where(place >= time, place, 2 * count), axis=-1, keepdims=True)
    gap = jnp.maximum(after - before, 1)
    whole = (before < 0) | (after >= 2 * count) | (after == before)
    is_before, is_after = (place == before) & (place <= time), (place == after) & (place < 2 * count)
    shares = jnp.where(is_before, (after - time) / gap, 0.0) + jnp.where(is_after, (time - before) / gap, 0.0)
    return jnp.where(whole, (is_before | is_after).astype(jnp.float32), shares)


def blend(shares: Float[Array, "*n k"], confidence: Float[Array, "*n k"]) -> Float[Array, "*n k"]:
    """Weights of the key-frames' details in a frame, from time and confidence; their sum is at most 1.

    Args:
        shares: from `neighbour_weights`.
        confidence: confidence of the routes.
    """
    weighted = shares * confidence
    total = jnp.sum(weighted, axis=-1, keepdims=True)
    most = jnp.max(jnp.where(shares > 0, confidence, 0.0), axis=-1, keepdims=True)
    return jnp.where(total > 0, weighted / jnp.where(total > 0, total, 1.0), 0.0) * most


def zero_outside(
    warp: Float[Array, "b H W 2"], confidence: Float[Array, "b H W 1"]
) -> Float[Array, "b H W 1"]:
    """`confidence`, set to 0 where the place lies outside the key-frame."""
    return confidence * inside(warp, jnp.array([warp.shape[2], warp.shape[1]], jnp.float32))


def carry(
    detail: Float[Array, "b k H W c"],
    routes: Routes,
    index: Int[Array, "b k"],
    valid: Float[Array, "b k"],
) -> Float[Array, "b t H W c"]:
    """Bring the key-frames' detail to all frames of a clip; gradients reach only `detail`.

    Args:
        detail: the key-frames' refined features minus the backbone's.
        routes: from every frame to every key-frame.
        index: the key-frames' places in the clip.
        valid: 0 for an empty slot.
    """
    warp, confidence = jax.lax.stop_gradient(routes)
    # In a crop, detail is known only inside it.
    flat = zero_outside(*(rearrange(x, "b t k ... -> (b t k) ...") for x in (warp, confidence)))
    confidence = rearrange(flat, "(b t k) H W 1 -> b t H W k", b=warp.shape[0], t=warp.shape[1])
    shares = neighbour_weights(index, valid, warp.shape[1])[:, :, None, None]
    weights = blend(jnp.broadcast_to(shares, confidence.shape), confidence)

    def frame(_, inputs):
        warp, weight = inputs
        parts = [
            bicubic(detail[:, k], warp[:, k]) * weight[..., k, None].astype(detail.dtype)
            for k in range(detail.shape[1])
        ]
        return None, sum(parts[1:], parts[0])

    _, carried = jax.lax.scan(frame, None, (jnp.moveaxis(warp, 1, 0), jnp.moveaxis(weights, 1, 0)))
    return jnp.moveaxis(carried, 0, 1)


def clip_routes(flows: Flows, index: Int[Array, "b k"]) -> Route:
    """The LR routes from all frames of a short clip to all its key-frames, leaves `b t k h w ...`."""
    b, t, h, w, _ = flows.to_next.shape

    def one_direction(flow: Array, back: Array, reverse: bool) -> Route:
        def step(route: Route, inputs):
            time, towards, back = inputs
            here = (index == time)[:, :, None, None, None]

            def extend_each(route: Route) -> Route:
                return extend_route(route, towards, back)

            route = jax.vmap(extend_each, 1, 1)(route)
            at_key = jax.tree.map(
                lambda x: jnp.broadcast_to(x[:, None], route_shape(x)), identity_route(h, w, b)
            )
            route = jax.tree.map(lambda start, x: jnp.where(here, start, x), at_key, route)
            return route, route

        def route_shape(x: Array) -> tuple[int, ...]:
            return (b, index.shape[1], *x.shape[1:])

        start = jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], route_shape(x)), identity_route(h, w, b))
        inputs = jnp.arange(t), jnp.moveaxis(flow, 1, 0), jnp.moveaxis(back, 1, 0)
        _, routes = jax.lax.scan(step, start, inputs, reverse=reverse)
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), routes)

    # Each frame's flow to its neighbour, and the neighbour's flow back.
    before = one_direction(flows.to_previous, jnp.roll(flows.to_next, 1, axis=1), reverse=False)
    after = one_direction(flows.to_next, jnp.roll(flows.to_previous, -1, axis=1), reverse=True)
    is_after = (jnp.arange(t)[None, :, None] >= index[:, None])[..., None, None, None]
    return jax.tree.map(lambda a, b: jnp.where(is_after, a, b), before, after)
