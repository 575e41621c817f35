"""What a tile needs of references and of other frames: the surroundings of the places that it looks at.

Places are known for the whole frame, so tiles agree. A tile gets at most twice its own height and width of
the other image. Nearly always that is more than its pixels show. Places beyond it count as outside the image.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.inference.spill import Held, crop
from ldip_jax.inference.tiles import Box, Size
from ldip_jax.models.ref_align import Reference

# Sides of a crop are multiples of this, so that few programs are compiled.
SIDE_MULTIPLE = 64
# How far bicubic sampling reads beyond a place; and pixels on which a reference's features depend.
BICUBIC_REACH, FEATURES_REACH = 3, 9
# Places with less confidence or weight do not decide what is cropped.
MIN_WEIGHT = 1e-3


def _centred_range(low: float, high: float, length: int, size: int) -> range:
    """`length` pixels of `size`, around those from `low` to `high`."""
    start = round((low + high + 1 - length) / 2)
    return range(max(0, min(start, size - length)), max(0, min(start, size - length)) + length)


def _crop_around(places: np.ndarray, weights: np.ndarray, size: Size, reach: int, tile: Size) -> Box:
    """The part of a map of `size` that holds the places with weight, or most of them.

    Args:
        places: `h w 2`, (x, y).
        weights: `h w 1`.
        reach: pixels needed beyond a place.
        tile: (height, width) of the tile.
    """
    limit = np.array(size[::-1], np.float32) - 1
    seen = (weights[..., 0] > MIN_WEIGHT) & ((places >= -1) & (places <= limit + 1)).all(axis=-1)
    chosen = np.clip(places[seen], 0, limit) if seen.any() else np.clip(places.reshape(-1, 2), 0, limit)
    spans = []
    for axis, (whole, own) in enumerate(zip(size, tile, strict=True)):
        values = chosen[:, 1 - axis]
        low, high = float(values.min()), float(values.max())
        most = min(whole, -(-2 * own // SIDE_MULTIPLE) * SIDE_MULTIPLE)
        length = min(whole, -(-int(high - low + 1 + 2 * reach) // SIDE_MULTIPLE) * SIDE_MULTIPLE)
        if length > most:
            low, high = (float(np.percentile(values, q)) for q in (5, 95))
        spans.append(_centred_range(low, high, most, whole))
    return Box(*spans)


def detail_crop(
    detail: Held, warp: Float[Array, "1 h w 2"], weight: Float[Array, "1 h w 1"]
) -> tuple[Array, Float[Array, "1 h w 2"], Float[Array, "1 h w 1"]]:
    """The part of a key-frame's detail that a tile shows, the places in that part, and their weights."""
    size: Size = (detail.shape[1], detail.shape[2])
    tile: Size = (warp.shape[1], warp.shape[2])
    if size == tile:
        return crop(detail, Box(range(size[0]), range(size[1]))), warp, weight
    box = _crop_around(np.asarray(warp)[0], np.asarray(weight)[0], size, BICUBIC_REACH, tile)
    places, seen = _relative_to(warp, box, size, BICUBIC_REACH)
    return crop(detail, box), places, weight * seen


def reference_crop(reference: Reference, box: Box) -> Reference:
    """A reference for the key-frame's pixels in a box.

    Args:
        reference: its warp and confidence are those of the whole key-frame, maybe on disk.
    """
    warp, confidence = crop(reference.warp, box), crop(reference.confidence, box)
    canvas: Size = (reference.image.shape[1], reference.image.shape[2])
    most = tuple(
        min(whole, -(-2 * own // SIDE_MULTIPLE) * SIDE_MULTIPLE)
        for whole, own in zip(canvas, box.size, strict=True)
    )
    if box.size == tuple(reference.warp.shape[1:3]) or most == canvas:
        image = crop(reference.image, Box(range(canvas[0]), range(canvas[1])))
        return reference._replace(image=image, warp=warp, confidence=confidence)
    height, width = (int(n) for n in np.asarray(reference.size)[0])
    size = (max(height, most[0]), max(width, most[1]))
    region = _crop_around(np.asarray(warp)[0], np.asarray(confidence)[0], size, FEATURES_REACH, box.size)
    places, seen = _relative_to(warp, region, size, FEATURES_REACH)
    covered = [max(1, min(n - x.start, len(x))) for n, x in zip((height, width), region, strict=True)]
    return reference._replace(
        image=crop(reference.image, region),
        size=jnp.array([covered], jnp.int32),
        # Places beyond the crop are outside the image.
        warp=jnp.where(seen > 0, places, -2.0),
        confidence=confidence * seen,
    )


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
