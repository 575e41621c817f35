"""The interface of all matchers, from a pair of images to a warp and its confidence; and helpers for it."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.matching import CONFIDENT
from ldip_jax.ops.resize import resize_bilinear
from ldip_jax.ops.warp import pixel_grid

# Forward-backward error that is still trusted, in pixels of the matching size.
SIGMA = 1.5


def confident_share(confidence: Float[Array, "*b h w 1"]) -> float:
    """Fraction of pixels, in [0, 1], with confidence above 0.5; references are selected by it."""
    return float(jnp.mean(confidence > CONFIDENT))


def rescale(coords: Float[Array, "*b 2"], factor: Float[Array, "2"]) -> Float[Array, "*b 2"]:
    """Places (x, y) in an image as places in the same image resized by `factor` (x, y)."""
    factor = factor.reshape((1,) * (coords.ndim - 1) + (2,))
    return (coords + 0.5) * factor - 0.5


def flow_to_warp(
    flow: Float[Array, "b h w 2"], size: tuple[int, int], reference_size: Float[Array, "2"]
) -> Float[Array, "b H W 2"]:
    """Flow between two images that were both resized to (h, w), as places in the original reference.

    Args:
        flow: in pixels of the matching size (h, w).
        size: (H, W) of the result.
        reference_size: (width, height) of the original reference.

    Returns:
        Places (x, y) in pixels of the reference, for each pixel of the (H, W) grid.
    """
    h, w = flow.shape[1:3]
    matching = jnp.array([w, h], jnp.float32)
    grid = rescale(pixel_grid(*size), matching / jnp.array(size[::-1], jnp.float32))
    return rescale(grid[None] + resize_bilinear(flow, size), reference_size / matching)


@runtime_checkable
class OnDisk(Protocol):
    """A map that waits on disk; `jnp.asarray` reads it."""

    shape: tuple[int, ...]

    def read(self) -> np.ndarray: ...

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray: ...


@dataclass(frozen=True)
class Pair:
    """A key-frame and one reference for it.

    Attributes:
        anchor: the backbone's image of the key-frame, of size (H, W), RGB in [0, 1], maybe in float16.
        reference: RGB in [0, 1], of any size, maybe in float16; while it is refined, it may be on disk.
        key_frame: index of the key-frame in the clip.
        name: the reference's name, unique within the clip; for a file, its name without the extension.
    """

    anchor: Float[Array, "b H W 3"] | Float[np.ndarray, "b H W 3"]
    reference: Float[Array, "b h w 3"] | Float[np.ndarray, "b h w 3"] | OnDisk
    key_frame: int = 0
    name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the key-frame."""
        return self.anchor.shape[1], self.anchor.shape[2]

    @property
    def reference_size(self) -> Float[Array, "2"]:
        """(width, height) of the reference, as an array, so that one program serves every size."""
        return jnp.array([self.reference.shape[2], self.reference.shape[1]], jnp.float32)


class Match(NamedTuple):
    """Where each pixel of a key-frame is seen in a reference.

    Attributes:
        warp: places (x, y) in pixels of the pair's reference, pixel centres at integers; may be outside it.
        confidence: in [0, 1]; 0 if the place is outside the reference.
    """

    warp: Float[Array, "b H W 2"]
    confidence: Float[Array, "b H W 1"]


@runtime_checkable
class Matcher(Protocol):
    """Matches in two steps, so that a caller can drop or reduce a reference between them (see `density`).

    Both steps compute in float32, and are compiled once per size of the key-frame.
    """

    def coarse(self, pair: Pair) -> Match:
        """Find each pixel of the key-frame in the reference.

        Raises:
            InputError: a match is read from a file, and the file is missing or invalid.
        """
        ...

    def refine(self, pair: Pair, match: Match, scale: tuple[float, float]) -> Match:
        """Refine a match of this pair; `scale` is (H, W) divided by the size of the input video's frames."""
        ...


@runtime_checkable
class Ranker(Protocol):
    """A matcher that can also tell cheaply which references are worth a match."""

    def likeness(self, pair: Pair) -> float:
        """How much the reference looks like the key-frame, at most 1; see `retrieval`."""
        ...
