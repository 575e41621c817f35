"""Moving pictures made of flat layers, so that every correspondence is known exactly.

Each frame sees each layer through an affine pose, with enough samples to a pixel that nothing aliases.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image


@dataclass(frozen=True)
class Layer:
    """A picture that moves as a whole.

    Attributes:
        picture: what it shows; large enough for every frame unless `opacity` ends it.
        opacity: 0 to 255; None covers the whole frame.
        poses: for each frame, the picture's place (x, y) of the frame's place (x, y, 1).
    """

    picture: UInt8[np.ndarray, "h w 3"]
    opacity: UInt8[np.ndarray, "h w"] | None
    poses: Float[np.ndarray, "t 2 3"]

    def place(self, number: int, places: Float[np.ndarray, "*b 2"]) -> Float[np.ndarray, "*b 2"]:
        """Places of frame `number` in the picture."""
        pose = self.poses[number]
        return places @ pose[:, :2].T + pose[:, 2]

    def place_in(self, number: int, places: Float[np.ndarray, "*b 2"]) -> Float[np.ndarray, "*b 2"]:
        """Places of the picture in frame `number`."""
        pose = self.poses[number]
        return (places - pose[:, 2]) @ np.linalg.inv(pose[:, :2]).T

    def covers(self, number: int, places: Float[np.ndarray, "*b 2"]) -> Bool[np.ndarray, "*b"]:
        """Where the layer shows, unless one in front of it does."""
        if self.opacity is None:
            return np.ones(places.shape[:-1], bool)
        x, y = np.moveaxis(np.rint(self.place(number, places)).astype(np.int64), -1, 0)
        h, w = self.opacity.shape
        inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
        return inside & (self.opacity[np.clip(y, 0, h - 1), np.clip(x, 0, w - 1)] > 127)


@dataclass(frozen=True)
class LayeredClip:
    """Layers from back to front as a clip (`ExactFootage`); the hindmost covers everything."""

    name: str
    size: tuple[int, int]
    layers: list[Layer]

    @property
    def count(self) -> int:
        return len(self.layers[0].poses)

    def frame(self, number: int) -> UInt8[np.ndarray, "h w 3"]:
        """Render a frame."""
        canvas = _render(self.layers[0].picture, self.layers[0].poses[number], self.size).astype(np.float32)
        for layer in self.layers[1:]:
            assert layer.opacity is not None
            pose = layer.poses[number]
            share = _render(layer.opacity, pose, self.size)[..., None] / np.float32(255)
            canvas += share * (_render(layer.picture, pose, self.size) - canvas)
        return np.rint(canvas).astype(np.uint8)

    def correspond(
        self, source: int, target: int, places: Float[np.ndarray, "*b 2"]
    ) -> tuple[Float[np.ndarray, "*b 2"], Bool[np.ndarray, "*b"]]:
        """See `ExactFootage`."""
        seen = self._front(source, places)
        found = np.empty(places.shape, np.float64)
        for index, layer in enumerate(self.layers):
            mine = seen == index
            found[mine] = layer.place_in(target, layer.place(source, places[mine]))
        limit = np.array(self.size[::-1]) - 0.5
        inside = np.all((found > -0.5) & (found < limit), axis=-1)
        return found, inside & (self._front(target, found) == seen)

    def _front(self, number: int, places: np.ndarray) -> np.ndarray:
        """The index of the layer that shows."""
        front = np.zeros(places.shape[:-1], np.int64)
        for index, layer in enumerate(self.layers):
            front[layer.covers(number, places)] = index
        return front


def _render(picture: np.ndarray, pose: Float[np.ndarray, "2 3"], size: tuple[int, int]) -> np.ndarray:
    """What a frame of `size` sees of a picture: bicubic samples, several to a pixel where it is denser."""
    density = math.sqrt(abs(np.linalg.det(pose[:, :2])))
    dense = max(1, math.ceil(density - 0.1))
    # Pillow counts from the corner of the first pixel, places here from its centre.
    linear = pose[:, :2] / dense
    shift = pose[:, 2] + 0.5 - pose[:, :2] @ (0.5, 0.5)
    data = (*linear[0], shift[0], *linear[1], shift[1])
    image = Image.fromarray(picture).transform(
        (size[1] * dense, size[0] * dense), Image.Transform.AFFINE, data, Image.Resampling.BICUBIC
    )
    return np.asarray(image.reduce(dense) if dense > 1 else image)


def poses(
    turn: Float[np.ndarray, "t"],
    zoom: Float[np.ndarray, "t"],
    frame: Float[np.ndarray, "t 2"],
    picture: Float[np.ndarray, "t 2"],
) -> Float[np.ndarray, "t 2 3"]:
    """Poses of a layer, or of a camera before it.

    Args:
        turn: radians.
        zoom: pixels of the picture to one of the frame.
        frame: a place (x, y) in each frame ...
        picture: ... and the place of the picture that it shows.
    """
    cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
    linear = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1)
    return np.concatenate([linear, picture[..., None] - linear @ frame[..., None]], axis=-1)


def corners(size: tuple[int, int], poses: Float[np.ndarray, "t 2 3"]) -> Float[np.ndarray, "t 4 2"]:
    """Where the corner pixels of each frame lie in the picture."""
    h, w = size
    ends = np.array([[0, 0, 1], [w - 1, 0, 1], [0, h - 1, 1], [w - 1, h - 1, 1]], np.float64)
    return ends @ poses.swapaxes(1, 2)
