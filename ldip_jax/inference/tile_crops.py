"""What a tile needs of references and of other frames: the surroundings of the places that it looks at.

Places are known for the whole frame, so tiles agree. A tile gets a part of the other image that is larger
than itself by a quarter along each axis, which is usually enough, or else by a factor of two. Nearly always
that is more than its pixels show. Places beyond it count as outside the image.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.inference.spill import Held, crop
from ldip_jax.inference.tiles import Box, Size
from ldip_jax.models.ref_align import Reference

# Sides of a crop are one of these times the tile's, rounded up to a multiple of SIDE_MULTIPLE: each size
# compiles programs of its own.
SIDES, SIDE_MULTIPLE = (1.25, 2.0), 64
# How far bicubic sampling reads beyond a place; and pixels on which a reference's features depend.
BICUBIC_REACH, FEATURES_REACH = 3, 9
# Bytes of a reference's features, per pixel.
FEATURES_BYTES = 4 * 64
# Places with less confidence or weight do not decide what is cropped.
MIN_WEIGHT = 1e-3


def _centred_range(low: float, high: float, length: int, size: int) -> range:
    """`length` pixels of `size`, around those from `low` to `high`."""
    start = round((low + high + 1 - length) / 2)
    return range(max(0, min(start, size - length)), max(0, min(start, size - length)) + length)


def _crop_around(
    places: np.ndarray, weights: np.ndarray, size: Size, canvas: Size, reach: int, tile: Size
) -> Box:
    """The part of a map that holds the places with weight, or most of them.

    Args:
        places: `h w 2`, (x, y).
        weights: `h w 1`.
        size: (height, width) of the map.
        canvas: (height, width) with the padding after it, which a crop may reach into.
        reach: pixels needed beyond a place.
        tile: (height, width) of the tile.
    """
    limit = np.array(size[::-1], np.float32) - 1
    seen = (weights[..., 0] > MIN_WEIGHT) & ((places >= -1) & (places <= limit + 1)).all(axis=-1)
    chosen = np.clip(places[seen], 0, limit) if seen.any() else np.clip(places.reshape(-1, 2), 0, limit)
    spans = []
    for axis, (whole, padded, own) in enumerate(zip(size, canvas, tile, strict=True)):
        values = chosen[:, 1 - axis]
        low, high = float(values.min()), float(values.max())
        lengths = [min(padded, -(-int(side * own) // SIDE_MULTIPLE) * SIDE_MULTIPLE) for side in SIDES]
        # At the map's own edges, nothing further is needed.
        need = min(whole, int(np.ceil(high)) - int(low) + 1 + 2 * reach)
        length = next((one for one in lengths if one >= need), lengths[-1])
        if length < need:
            low, high = (float(np.percentile(values, q)) for q in (5, 95))
        spans.append(_centred_range(low, high, length, max(whole, length)))
    return Box(*spans)


def detail_crop(
    detail: Held, warp: Float[Array, "1 h w 2"], weight: Float[Array, "1 h w 1"]
) -> tuple[Array, Float[Array, "1 h w 2"], Float[Array, "1 h w 1"]]:
    """The part of a key-frame's detail that a tile shows, the places in that part, and their weights."""
    size: Size = (detail.shape[1], detail.shape[2])
    tile: Size = (warp.shape[1], warp.shape[2])
    if size == tile:
        return crop(detail, Box(range(size[0]), range(size[1]))), warp, weight
    box = _crop_around(np.asarray(warp)[0], np.asarray(weight)[0], size, size, BICUBIC_REACH, tile)
    places, seen = _relative_to(warp, box, size, BICUBIC_REACH)
    return crop(detail, box), places, weight * seen


def reference_crop(reference: Reference, box: Box) -> Reference:
    """A reference for the key-frame's pixels in a box.

    Args:
        reference: its warp and confidence are those of the whole key-frame, maybe on disk.
    """
    warp, confidence = crop(reference.warp, box), crop(reference.confidence, box)
    canvas: Size = (reference.image.shape[1], reference.image.shape[2])
    height, width = (int(n) for n in np.asarray(reference.size)[0])
    region = Box(range(canvas[0]), range(canvas[1]))
    if box.size != tuple(reference.warp.shape[1:3]):
        places, weights = np.asarray(warp)[0], np.asarray(confidence)[0]
        region = _crop_around(places, weights, (height, width), canvas, FEATURES_REACH, box.size)
    if region.size == canvas:
        return reference._replace(image=crop(reference.image, region), warp=warp, confidence=confidence)
    size = (max(height, region.rows.stop), max(width, region.columns.stop))
    places, seen = _relative_to(warp, region, size, FEATURES_REACH)
    covered = [max(1, min(n - x.start, len(x))) for n, x in zip((height, width), region, strict=True)]
    return reference._replace(
        image=crop(reference.image, region),
        size=jnp.array([covered], jnp.int32),
        # Places beyond the crop are outside the image.
        warp=jnp.where(seen > 0, places, -2.0),
        confidence=confidence * seen,
    )


def cache_allowance(crops: list[Reference], box: Box, frame: Size) -> int:
    """Bytes of references' features that may be kept from layer to layer where memory is short.

    Memory is planned for the features of the largest crop that a tile can get. Those that are kept may take
    what the largest of its crops leaves. Nothing is left for whole frames, which are planned as they are.

    Args:
        crops: the references of a tile.
        box: the part of the frame that the tile reads.
        frame: (height, width) of the frame.
    """
    if box.size == frame:
        return 0
    planned = SIDES[-1] ** 2 * box.size[0] * box.size[1]
    largest = max(one.image.shape[1] * one.image.shape[2] for one in crops)
    return max(0, int(FEATURES_BYTES * (planned - largest)))


def _relative_to(
    warp: Float[Array, "1 h w 2"], box: Box, size: Size, reach: int
) -> tuple[Float[Array, "1 h w 2"], Float[Array, "1 h w 1"]]:
    """Places in a box of a map of `size`; 1 where all that is needed around them is inside it, else 0."""

    def pair(values: list[float]) -> Array:
        return jnp.array(values, jnp.float32).reshape(1, 1, 1, 2)

    # At the map's own edges, nothing is missing.
    low = [-np.inf if x.start == 0 else float(reach) for x in (box.columns, box.rows)]
    high = [
        np.inf if x.stop == n else float(len(x) - 1 - reach)
        for x, n in zip((box.columns, box.rows), size[::-1], strict=True)
    ]
    places = warp - pair([float(box.columns.start), float(box.rows.start)])
    seen = (places >= pair(low)) & (places <= pair(high))
    return places, jnp.all(seen, axis=-1, keepdims=True).astype(jnp.float32)
