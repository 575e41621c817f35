"""Places of one image in another's pixels, exactly, under the half-pixel convention."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.ops.resize import resize_bilinear
from ldip_jax.ops.warp import pixel_grid


def rescale(coords: Float[Array, "*b 2"], factor: Float[Array, "2"]) -> Float[Array, "*b 2"]:
    """Places (x, y) of an image as places of the same image resized by `factor` (x, y)."""
    factor = factor.reshape((1,) * (coords.ndim - 1) + (2,))
    return (coords + 0.5) * factor - 0.5


def flow_to_warp(
    flow: Float[Array, "b h w 2"], size: tuple[int, int], reference_size: Float[Array, "2"]
) -> Float[Array, "b H W 2"]:
    """Flow between two images that were both resized to (h, w), as places of the original reference.

    Args:
        flow: in pixels of the matching size (h, w).
        size: (H, W) of the result.
        reference_size: (width, height) of the reference as it was.

    Returns:
        places (x, y) in pixels of the reference, for each pixel of the (H, W) grid.
    """
    h, w = flow.shape[1:3]
    matching = jnp.array([w, h], jnp.float32)
    grid = rescale(pixel_grid(*size), matching / jnp.array(size[::-1], jnp.float32))
    return rescale(grid[None] + resize_bilinear(flow, size), reference_size / matching)
