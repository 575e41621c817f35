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

    def add_to(self, canvas: Float[np.ndarray, "h w 3"], number: int) -> None:
        """Lay frame `number` over a canvas, which is changed in place."""
        height, width = canvas.shape[:2]
        if self.opacity is None:
            canvas[...] = self._render("picture", number, (0, 0), (height, width))
            return
        h, w = self.opacity.shape
        ends = self.place_in(number, np.array([[0.0, 0.0], [w, 0.0], [0.0, h], [w, h]]))
        left, top = (int(n) for n in np.maximum(np.floor(ends.min(axis=0)), 0))
        right, bottom = (int(n) for n in np.minimum(np.ceil(ends.max(axis=0)) + 1, (width, height)))
        if left < right and top < bottom:
            part = canvas[top:bottom, left:right]
            colour, share = (
                self._render(name, number, (left, top), (bottom - top, right - left))
                for name in ("picture", "opacity")
            )
            part += share[..., None] / np.float32(255) * (colour - part)

    def _render(
        self, name: str, number: int, corner: tuple[int, int], size: tuple[int, int]
    ) -> UInt8[np.ndarray, "h w *c"]:
        """A part of a frame, `size` (height, width) from `corner` (left, top) on.

        Bicubic samples of the picture, or of its opacity, reduced by a whole number where that leaves a
        sample to a pixel; up to four of them make a pixel.
        """
        pose = self.poses[number]
        density = math.sqrt(abs(np.linalg.det(pose[:, :2])))
        step = max(1, int(density + 0.1))
        image = self._reduced(name, step)
        dense = max(1, math.ceil(density / step - 0.1))
        # Pillow counts from the corner of the first pixel, places here from its centre.
        linear = pose[:, :2] / (step * dense)
        shift = (pose[:, 2] + 0.5 + pose[:, :2] @ (np.array(corner) - 0.5)) / step
        data = (*linear[0], shift[0], *linear[1], shift[1])
        shape = (size[1] * dense, size[0] * dense)
        image = image.transform(shape, Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
        return np.asarray(image.reduce(dense) if dense > 1 else image)

    def _reduced(self, name: str, step: int) -> Image.Image:
        """The picture or its opacity, made smaller by area means."""
        kept = self.__dict__.setdefault("_kept", {})
        if (name, step) not in kept:
            image = Image.fromarray(getattr(self, name))
            kept[name, step] = image.reduce(step) if step > 1 else image
        return kept[name, step]


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
        canvas = np.zeros((*self.size, 3), np.float32)
        for layer in self.layers:
            layer.add_to(canvas, number)
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
