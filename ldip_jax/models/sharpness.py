"""How much of another frame's detail a frame can show: less, where motion or focus blurs it.

This is ours, not the paper's, and belongs to `carry`. Frames are compared by their texture, below the input's
bandwidth. Compression reduces texture too, and from frame to frame by different amounts, but detail may be
added to what it has lost. So a damaged frame with less texture than another one counts as blurred only as far
as its motion can explain that: motion blurs a frame more than another one if it is faster.

Nothing here has parameters. Speeds are in LR pixels per frame.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.carry import Route, zero_outside
from ldip_jax.ops.blur import gaussian_blur
from ldip_jax.ops.resize import resize_bilinear
from ldip_jax.ops.warp import bilinear, pixel_grid

# For `texture` and `relative_sharpness`: standard deviation of the averaging window, in LR pixels, and the
# variance that counts as noise. A place may have less texture than the other frame by the factor PLACE_SLACK
# before it counts as blurred; its share then falls with PLACE_POWER. The place at FRAME_QUANTILE, in order of
# sharpness, stands for the whole frame; the share falls with FRAME_POWER.
TEXTURE_REACH, TEXTURE_NOISE = 4.0, 6e-4
PLACE_SLACK, PLACE_POWER, FRAME_QUANTILE, FRAME_POWER = 1.25, 2, 0.75, 5
# A damaged frame that is faster than another one by less than the first of these does not count as blurred;
# by more than the second, it may by any amount. On clean clips, frames that were faster by up to 0.1 had a
# mean relative sharpness of at least 0.81; but in parts of a blurred frame, speeds do not tell blur.
AS_FAST, FASTER = 0.1, 0.5
# For `times_as_sharp`: the least share of their places, and the least number, that both frames must show.
LEAST_SHARE, LEAST_PLACES = 0.2, 1000


def texture(frame: Float[Array, "b h w 3"]) -> Float[Array, "b h w 4"]:
    """Mean squared second differences of luma along four directions, near each pixel of an LR frame.

    Even slight blur from motion or focus reduces these; motion blur reduces them along its own direction.
    """
    luma = jnp.mean(frame.astype(jnp.float32), axis=-1, keepdims=True)
    padded = jnp.pad(luma, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    h, w = luma.shape[1:3]
    directions = [(0, 1), (1, 0), (1, 1), (1, -1)]
    steps = [
        padded[:, 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]
        + padded[:, 1 - dy : 1 - dy + h, 1 - dx : 1 - dx + w]
        - 2.0 * luma
        for dy, dx in directions
    ]
    return gaussian_blur(jnp.square(jnp.concatenate(steps, axis=-1)), (TEXTURE_REACH, TEXTURE_REACH))


def relative_sharpness(
    own_texture: Float[Array, "b h w 4"], other_texture: Float[Array, "b h w 4"]
) -> Float[Array, "b h w 1"]:
    """How much of another frame's detail a frame can show, in [0, 1]; the more blurred it is, the less.

    Detail lies above the input's bandwidth. Blur that halves the texture below it leaves almost no detail.

    Args:
        own_texture: `texture` of the frame.
        other_texture: `texture` of the other frame, at the same places.
    """
    ratio = jnp.min((own_texture + TEXTURE_NOISE) / (other_texture + TEXTURE_NOISE), axis=-1, keepdims=True)
    # A frame is blurred as a whole if even its sharper places are.
    whole = jnp.quantile(ratio, FRAME_QUANTILE, axis=(1, 2), keepdims=True)
    place = jnp.minimum(1.0, PLACE_SLACK * ratio) ** PLACE_POWER
    return place * jnp.minimum(1.0, whole) ** FRAME_POWER


def least_sharpness(
    this_speed: Float[Array, "b h w 1"],
    other_speed: Float[Array, "b h w 1"],
    route: Route,
    damage: Float[Array, ""],
) -> Float[Array, "b h w 1"]:
    """The least relative sharpness of a damaged frame: its motion explains no more blur than that.

    Args:
        this_speed, other_speed: `speed` of the frame and of the other one.
        route: from the frame to the other one.
        damage: of the other one, in [0, 1]; without any, nothing is known.
    """
    places = pixel_grid(*route.flow.shape[1:3])[None] + route.flow
    faster = this_speed - bilinear(other_speed, places, padding="border")
    return damage * jnp.clip((FASTER - faster) / (FASTER - AS_FAST), 0.0, 1.0)


def speed(flows: Sequence[Float[Array, "b h w 2"]]) -> Float[Array, "b h w 1"]:
    """How fast the places of a frame move, from its flows to the frames before and after it, or to one."""
    # The lower one: flow across a cut, or to where a place is hidden, is too high.
    return jnp.min(jnp.stack([jnp.linalg.norm(flow, axis=-1, keepdims=True) for flow in flows]), axis=0)


def sharpness(frame: Float[Array, "b h w 3"]) -> Float[Array, "b h w 1"]:
    """How sharp an LR frame is, place by place, for `times_as_sharp`: its `texture` in all directions."""
    return jnp.mean(texture(frame), axis=-1, keepdims=True)


def times_as_sharp(
    this: Float[Array, "b h w 1"], other: Float[Array, "b h w 1"], route: Route
) -> Float[Array, "b"]:
    """How many times as sharp as another frame a frame is, in the median of the places that both show.

    Args:
        this, other: `sharpness` of the frame and of the other one.
        route: from the frame to the other one.

    Returns:
        The ratio; NaN if too few places are shown by both.
    """
    size = (route.flow.shape[1], route.flow.shape[2])
    # Some backbones compute flow on smaller frames.
    this, other = (resize_bilinear(x, size) + TEXTURE_NOISE for x in (this, other))
    ratio = this / bilinear(other, pixel_grid(*size)[None] + route.flow, padding="border")
    both = zero_outside(pixel_grid(*size)[None] + route.flow, route.confidence) > 0.5
    median = jnp.nanmedian(jnp.where(both, ratio, jnp.nan), axis=(1, 2, 3))
    least = max(LEAST_SHARE * size[0] * size[1], LEAST_PLACES)
    return jnp.where(jnp.sum(both, axis=(1, 2, 3)) < least, jnp.nan, median)
