"""What every matcher is: a key-frame and a reference in, places and confidence out."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@dataclass(frozen=True)
class Pair:
    """A key-frame and one reference for it.

    Attributes:
        anchor: what is known of the key-frame at (H, W): the backbone's own output. RGB in [0, 1].
        reference: RGB in [0, 1], of any size.
        key: index of the key-frame in the clip.
        name: the reference's name, unique within the clip: its file name without the extension.
    """

    anchor: Float[Array, "b H W 3"] | Float[np.ndarray, "b H W 3"]
    reference: Float[Array, "b h w 3"] | Float[np.ndarray, "b h w 3"]
    key: int = 0
    name: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the key-frame."""
        return self.anchor.shape[1], self.anchor.shape[2]

    @property
    def reference_size(self) -> Float[Array, "2"]:
        """(width, height) of the reference, on the device: one program serves every size."""
        return jnp.array([self.reference.shape[2], self.reference.shape[1]], jnp.float32)


class Match(NamedTuple):
    """Where each pixel of a key-frame is seen in a reference.

    Attributes:
        warp: places (x, y) in pixels of the pair's reference, pixel centres at integers; may be outside.
        confidence: in [0, 1]; 0 wherever the place is outside.
    """

    warp: Float[Array, "b H W 2"]
    confidence: Float[Array, "b H W 1"]


@runtime_checkable
class Matcher(Protocol):
    """Two steps, so that a caller can drop or reduce a reference between them (see `density`).

    Both compute in float32, and compile once per size of the key-frame.
    """

    def coarse(self, pair: Pair) -> Match:
        """Find the reference's content in the key-frame.

        Raises:
            InputError: a match that should be read from a file is missing or unfit.
        """
        ...

    def refine(self, pair: Pair, match: Match, scale: tuple[float, float]) -> Match:
        """Sharpen a match of this pair; `scale` is (H, W) over the size of the input video's frames."""
        ...
