"""Square windows of a map, and which of a window's tokens may see each other."""

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Int


def to_windows(x: Float[Array, "b h w c"] | Int[Array, "b h w c"], size: int) -> Array:
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


def token_labels(
    size: Int[Array, "2"], padded: tuple[int, int], window: int, shift: int
) -> Int[Array, "h w"]:
    """Group of every token of a padded map after a cyclic shift by `-shift`; tokens see only their group.

    Padded tokens have a negative label: they may look, but nobody sees them.

    Args:
        size: true (height, width).
        padded: the map's (height, width), multiples of `window`.
    """

    def group(places: Int[Array, "n"], n: int) -> Int[Array, "n"]:
        # After the shift the last window holds both ends of the map, which are not neighbours.
        return jnp.where(places >= n, 2, jnp.where(places - shift >= n - window, 1, 0)) * bool(shift)

    rows, columns = (jnp.arange(n) + shift for n in padded)
    labels = 1 + 3 * group(rows, padded[0])[:, None] + group(columns, padded[1])[None]
    real = (rows % padded[0] < size[0])[:, None] & (columns % padded[1] < size[1])[None]
    return jnp.where(real, labels, -labels)


def visible(labels: Int[Array, "n t"]) -> Array:
    """Whether token i of a window sees token j, bool `n t t`."""
    return jnp.abs(labels)[:, :, None] == labels[:, None, :]
