"""Square windows of a map."""

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float


def to_windows(x: Float[Array, "b h w c"], size: int) -> Float[Array, "n t c"]:
    """`b h w c` -> `(b windows) tokens c`, row-major; height and width are multiples of `size`."""
    return rearrange(x, "b (i y) (j x) c -> (b i j) (y x) c", y=size, x=size)


def from_windows(x: Float[Array, "n t c"], size: int, height: int, width: int) -> Float[Array, "b h w c"]:
    """Back from `to_windows`."""
    return rearrange(
        x, "(b i j) (y x) c -> b (i y) (j x) c", y=size, x=size, i=height // size, j=width // size
    )


def relative_index(size: int) -> np.ndarray:
    """Row of the relative position table for each (query, key) of a window, `tokens tokens`."""
    place = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), axis=-1).reshape(-1, 2)
    apart = place[:, None] - place[None] + size - 1
    return apart[..., 0] * (2 * size - 1) + apart[..., 1]


def pad_to_windows(
    x: Float[Array, "b h w c"], size: int, shift: int
) -> tuple[Float[Array, "b H W c"], Float[Array, "1 H W 1"] | None]:
    """A map padded so that windows moved by `-shift` cover it, and where it is real (None: everywhere).

    Windows at the edges are then cut short by padding. That equals a cyclic shift whose two ends must not
    see each other, and needs no mask but that padded tokens are never keys.
    """
    h, w = x.shape[1:3]
    pads = [(0, 0), *((shift, -(n + shift) % size) for n in (h, w)), (0, 0)]
    if not any(any(pad) for pad in pads):
        return x, None
    return jnp.pad(x, pads), jnp.pad(jnp.ones((1, h, w, 1), jnp.float32), pads)
