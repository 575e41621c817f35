"""Square windows of a map, or of several maps together."""

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float


def to_windows(x: Float[Array, "n h w c"], size: int, depth: int = 1) -> Float[Array, "N t c"]:
    """`(b depth) h w c` -> `(b windows) tokens c`; height and width are multiples of `size`.

    Windows are in reading order, and so are the tokens of a window: map by map of the `depth`.
    """
    return rearrange(x, "(b d) (i y) (j x) c -> (b i j) (d y x) c", d=depth, y=size, x=size)


def from_windows(
    x: Float[Array, "N t c"], size: int, height: int, width: int, depth: int = 1
) -> Float[Array, "n h w c"]:
    """The inverse of `to_windows`."""
    return rearrange(
        x,
        "(b i j) (d y x) c -> (b d) (i y) (j x) c",
        d=depth,
        y=size,
        x=size,
        i=height // size,
        j=width // size,
    )


def relative_index(sides: tuple[int, ...]) -> np.ndarray:
    """Row of the relative position table for each (query, key) of a window with these sides, `tokens tokens`.

    The table lists all differences between places; the last axis varies fastest. An axis has 2 side - 1.
    """
    place = np.stack(np.meshgrid(*map(np.arange, sides), indexing="ij"), axis=-1).reshape(-1, len(sides))
    index = np.zeros((len(place), len(place)), int)
    for axis, side in enumerate(sides):
        index = index * (2 * side - 1) + place[:, None, axis] - place[None, :, axis] + side - 1
    return index


def pad_to_windows(
    x: Float[Array, "b h w c"], size: int, shift: int, zeros_seen: bool = False
) -> tuple[Float[Array, "b H W c"], Float[Array, "1 H W 2"] | None]:
    """A map padded so that windows moved by `-shift` cover it, and its masks (None: nothing was padded).

    Windows at the edges are partly padding. This equals a cyclic shift whose two ends must not see each
    other; the only mask it needs excludes padded tokens from the keys.

    Args:
        x: the map.
        size: side of a window.
        shift: how far windows are moved up and left.
        zeros_seen: whether the padding at the bottom and right that completes unmoved windows serves as keys.

    Returns:
        The padded map, and two masks: 1 where tokens may be keys, and 1 where they belong to the map.
    """
    sides = x.shape[1:3]
    whole = tuple(n + -n % size if zeros_seen else n for n in sides)

    def pads(filled: tuple[int, ...]) -> list[tuple[int, int]]:
        """From a map of sides `filled` to what the windows cover."""
        right = (n - m + -(n + shift) % size for n, m in zip(whole, filled, strict=True))
        return [(0, 0), *((shift, r) for r in right), (0, 0)]

    if not any(any(pad) for pad in pads(sides)):
        return x, None
    keys, own = (jnp.pad(jnp.ones((1, *n, 1), jnp.float32), pads(n)) for n in (whole, sides))
    return jnp.pad(x, pads(sides)), jnp.concatenate([keys, own], axis=-1)
