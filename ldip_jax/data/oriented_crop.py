"""A crop of a frame, turned and mirrored: for pixels and coordinates alike, so that both stay aligned."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from ldip_jax.media.images import orient


@dataclass(frozen=True)
class OrientedCrop:
    """A crop of a frame, from row `top` and column `left` on, in one of the eight orientations.

    Attributes:
        top, left, height, width: the crop, in pixels of the frame, before it is turned.
        transpose: whether rows and columns are exchanged.
        flip_rows, flip_columns: whether the order of rows, and that of columns, is then reversed.
    """

    top: int
    left: int
    height: int
    width: int
    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the result."""
        return (self.width, self.height) if self.transpose else (self.height, self.width)

    def pixels(self, frame: Shaped[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "H W c"]:
        """The view of a frame; shares memory with it."""
        cut = frame[self.top : self.top + self.height, self.left : self.left + self.width]
        return orient(cut, self.transpose, self.flip_rows, self.flip_columns)

    def to_frame(self, places: Float[np.ndarray, "*b 2"]) -> Float[np.ndarray, "*b 2"]:
        """Places (x, y) of the view as places of the frame."""
        places = self._mirrored(places)
        if self.transpose:
            places = places[..., ::-1]
        return places + np.array([self.left, self.top], places.dtype)

    def from_frame(self, places: Float[np.ndarray, "*b 2"]) -> Float[np.ndarray, "*b 2"]:
        """Places (x, y) of the frame as places of the view; they may lie outside the view."""
        places = places - np.array([self.left, self.top], places.dtype)
        if self.transpose:
            places = places[..., ::-1]
        return self._mirrored(places)

    def _mirrored(self, places: np.ndarray) -> np.ndarray:
        height, width = self.size
        x, y = places[..., 0], places[..., 1]
        x = width - 1 - x if self.flip_columns else x
        y = height - 1 - y if self.flip_rows else y
        return np.stack([x, y], axis=-1)
