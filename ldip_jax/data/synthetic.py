"""Synthetic clips, without any download: textured layers that move, with all correspondences exact."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

from ldip_jax.errors import InputError


@dataclass(frozen=True)
class Layer:
    """A picture that moves as a whole.

    Attributes:
        picture: what it shows; covers every frame, unless `opacity` limits it.
        opacity: 0 to 255; None: the layer covers the whole frame.
        poses: for each frame, the matrix from places (x, y, 1) of the frame to places (x, y) of the picture.
    """

    picture: UInt8[np.ndarray, "h w 3"]
    opacity: UInt8[np.ndarray, "h w"] | None
    poses: Float[np.ndarray, "t 2 3"]

    def to_picture(self, number: int, places: Float[np.ndarray, "*b 2"]) -> Float[np.ndarray, "*b 2"]:
        """Places (x, y) of frame `number` as places of the picture."""
        pose = self.poses[number]
        return places @ pose[:, :2].T + pose[:, 2]

    def to_frame(self, number: int, places: Float[np.ndarray, "*b 2"]) -> Float[np.ndarray, "*b 2"]:
        """Places (x, y) of the picture as places of frame `number`."""
        pose = self.poses[number]
        return (places - pose[:, 2]) @ np.linalg.inv(pose[:, :2]).T

    def covers(self, number: int, places: Float[np.ndarray, "*b 2"]) -> Bool[np.ndarray, "*b"]:
        """At which places of frame `number` the layer is visible, unless another is in front of it."""
        if self.opacity is None:
            return np.ones(places.shape[:-1], bool)
        x, y = np.moveaxis(np.rint(self.to_picture(number, places)).astype(np.int64), -1, 0)
        h, w = self.opacity.shape
        inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
        return inside & (self.opacity[np.clip(y, 0, h - 1), np.clip(x, 0, w - 1)] > 127)

    def draw_onto(self, canvas: Float[np.ndarray, "h w 3"], number: int) -> None:
        """Draw the layer as in frame `number` onto a canvas, which is changed in place."""
        height, width = canvas.shape[:2]
        if self.opacity is None:
            canvas[...] = self._render("picture", number, (0, 0), (height, width))
            return
        h, w = self.opacity.shape
        ends = self.to_frame(number, np.array([[0.0, 0.0], [w, 0.0], [0.0, h], [w, h]]))
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

        The picture, or its opacity, is reduced by a whole number, as far as about one of its pixels is left
        for a pixel of the frame. It is then sampled bicubically, with up to four samples for a pixel.
        """
        pose = self.poses[number]
        density = math.sqrt(abs(np.linalg.det(pose[:, :2])))
        step = max(1, int(density + 0.1))
        image = self._reduced(name, step)
        dense = max(1, math.ceil(density / step - 0.1))
        # Pillow measures from the corner of the first pixel; here, places are measured from its centre.
        linear = pose[:, :2] / (step * dense)
        shift = (pose[:, 2] + 0.5 + pose[:, :2] @ (np.array(corner) - 0.5)) / step
        data = (*linear[0], shift[0], *linear[1], shift[1])
        shape = (size[1] * dense, size[0] * dense)
        image = image.transform(shape, Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
        return np.asarray(image.reduce(dense) if dense > 1 else image)

    def _reduced(self, name: str, step: int) -> Image.Image:
        """The picture or its opacity, reduced by area means."""
        cache = self.__dict__.setdefault("_kept", {})
        if (name, step) not in cache:
            image = Image.fromarray(getattr(self, name))
            cache[name, step] = image.reduce(step) if step > 1 else image
        return cache[name, step]


@dataclass(frozen=True)
class LayeredClip:
    """A clip (`ExactFootage`) of layers from back to front; the first one covers the whole frame."""

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
            layer.draw_onto(canvas, number)
        return np.rint(canvas).astype(np.uint8)

    def correspond(
        self, source: int, target: int, places: Float[np.ndarray, "*b 2"]
    ) -> tuple[Float[np.ndarray, "*b 2"], Bool[np.ndarray, "*b"]]:
        """See `ExactFootage`."""
        seen = self._front(source, places)
        found = np.empty(places.shape, np.float64)
        for index, layer in enumerate(self.layers):
            mine = seen == index
            found[mine] = layer.to_frame(target, layer.to_picture(source, places[mine]))
        limit = np.array(self.size[::-1]) - 0.5
        inside = np.all((found > -0.5) & (found < limit), axis=-1)
        return found, inside & (self._front(target, found) == seen)

    def _front(self, number: int, places: np.ndarray) -> np.ndarray:
        """The index of the visible layer at each place."""
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
    """Poses of a layer, or of a camera in front of it; see `Layer.poses`.

    Args:
        turn: rotation in radians.
        zoom: pixels of the picture per pixel of the frame.
        frame: a place (x, y) in each frame.
        picture: the place (x, y) of the picture that is visible there.
    """
    cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
    linear = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1)
    return np.concatenate([linear, picture[..., None] - linear @ frame[..., None]], axis=-1)


def corners(size: tuple[int, int], poses: Float[np.ndarray, "t 2 3"]) -> Float[np.ndarray, "t 4 2"]:
    """Where the corner pixels of each frame lie in the picture."""
    h, w = size
    ends = np.array([[0, 0, 1], [w - 1, 0, 1], [0, h - 1, 1], [w - 1, h - 1, 1]], np.float64)
    return ends @ poses.swapaxes(1, 2)


# Pixels; the bicubic kernel takes samples up to this far from a place.
_MARGIN = 4
_SMALLEST = 16


@dataclass(frozen=True)
class SyntheticClips:
    """A data set of synthetic clips, rendered on request; equal attributes give equal clips on any machine.

    Attributes:
        size: (height, width) of the frames.
        count: number of frames of each clip.
        scenes: number of clips.
        seed: different seeds give different scenes.
    """

    size: tuple[int, int]
    count: int = 24
    scenes: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.size) < _SMALLEST or self.count < 1:
            raise InputError(
                f"synthetic clips of {self.count} frames of {self.size[1]}x{self.size[0]}: "
                f"choose one frame or more, of {_SMALLEST}x{_SMALLEST} or more"
            )

    def __len__(self) -> int:
        return self.scenes

    def __getitem__(self, index: int) -> LayeredClip:
        return scene(self.seed, int(index), self.size, self.count)


@lru_cache(maxsize=16)
def scene(seed: int, index: int, size: tuple[int, int], count: int) -> LayeredClip:
    """A background seen by a moving camera, and two to four objects that move in front of it."""
    rng = np.random.default_rng((seed, index))
    layers = [_background(rng, size, count), *(_object(rng, size, count) for _ in range(rng.integers(2, 5)))]
    return LayeredClip(f"synthetic/{seed}-{index:04d}", size, layers)


def _drift(rng: np.random.Generator, count: int, speed: float) -> Float[np.ndarray, "{count}"]:
    """A smooth path from 0: a steady part of up to `speed` per frame, and a sway."""
    time = np.arange(count, dtype=np.float64)
    sway = np.sin(2 * np.pi * (time / rng.uniform(12, 40) + rng.uniform()))
    return rng.uniform(-speed, speed) * time + rng.uniform(0, 3) * speed * (sway - sway[0])


def _motion(rng: np.random.Generator, count: int, speed: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn, zoom and path (x, y) for each frame."""
    turn = _drift(rng, count, 0.008)
    zoom = rng.uniform(0.9, 1.2) * np.exp(_drift(rng, count, 0.006))
    return turn, zoom, np.stack([_drift(rng, count, speed), _drift(rng, count, speed)], axis=-1)


def _background(rng: np.random.Generator, size: tuple[int, int], count: int) -> Layer:
    turn, zoom, path = _motion(rng, count, 0.012 * max(size))
    middle = np.broadcast_to((np.array(size[::-1]) - 1) / 2, path.shape)
    seen = corners(size, poses(turn, zoom, middle, path))
    low = np.floor(seen.min(axis=(0, 1))) - _MARGIN
    width, height = (int(n) for n in np.ceil(seen.max(axis=(0, 1))) + _MARGIN + 1 - low)
    return Layer(picture(rng, (height, width)), None, poses(turn, zoom, middle, path - low))


def _object(rng: np.random.Generator, size: tuple[int, int], count: int) -> Layer:
    turn, zoom, path = _motion(rng, count, 0.015 * max(size))
    half = rng.uniform(0.1, 0.25, 2) * min(size)
    side = 2 * int(max(half) + _MARGIN) + 1
    middle = np.full((count, 2), (side - 1) / 2)
    start = rng.uniform(0.1, 0.9, 2) * size[::-1]
    return Layer(
        picture(rng, (side, side)),
        _outline(rng, half, side),
        poses(turn + rng.uniform(0, np.pi), zoom, start + path, middle),
    )


def _outline(rng: np.random.Generator, half: np.ndarray, side: int) -> UInt8[np.ndarray, "{side} {side}"]:
    """The opacity of a shape with four to eight corners, or of an ellipse; its edge is one pixel wide."""
    dense = 4
    angles = np.linspace(0, 2 * np.pi, int(rng.integers(4, 9)) if rng.integers(2) else 48, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * half + (side - 1) / 2
    image = Image.new("L", (side * dense, side * dense))
    ImageDraw.Draw(image).polygon([tuple((place + 0.5) * dense) for place in ring], fill=255)
    return np.asarray(image.reduce(dense))


def picture(rng: np.random.Generator, size: tuple[int, int]) -> UInt8[np.ndarray, "{size[0]} {size[1]} 3"]:
    """A texture with structure at every size down to a pixel: shapes, rows of lines, and noise.

    The finest structure is lost when frames are reduced by 4, so that references matter.
    """
    height, width = size
    dense = 2
    canvas = Image.new("RGB", (width * dense, height * dense), _colour(rng))
    pen = ImageDraw.Draw(canvas)
    longest = max(canvas.size)
    # The number of marks grows with the area.
    for _ in range(40 + height * width // 500):
        middle = rng.uniform(0, canvas.size)
        reach = np.exp(rng.uniform(np.log(4), np.log(max(8, 0.25 * min(longest, 800)))))
        _mark(rng, pen, middle, reach)
    image = np.asarray(canvas.reduce(dense), np.float32)
    for step in (1, 3, 12):
        grain = rng.normal(0, 5, (height // step + 2, width // step + 2)).astype(np.float32)
        image = (
            image
            + np.asarray(Image.fromarray(grain).resize((width, height), Image.Resampling.BICUBIC))[..., None]
        )
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(n) for n in rng.integers(10, 246, 3))
    return red, green, blue


def _mark(rng: np.random.Generator, pen: ImageDraw.ImageDraw, middle: np.ndarray, reach: float) -> None:
    """One polygon, ellipse, or row of parallel lines."""
    kind = rng.integers(3)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = along[::-1] * (-1, 1)
    if kind == 0:
        angles = angle + np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
        pen.polygon(
            [(middle[0] + reach * np.cos(a), middle[1] + reach * np.sin(a)) for a in angles], _colour(rng)
        )
    elif kind == 1:
        a, b = reach * rng.uniform(0.2, 1, 2)
        pen.ellipse((middle[0] - a, middle[1] - b, middle[0] + a, middle[1] + b), _colour(rng))
    else:
        colour, gap, thick = _colour(rng), rng.uniform(3, 9), int(rng.integers(1, 4))
        for step in np.arange(-reach, reach, gap) / 2:
            ends = [middle + step * across + side * reach / 2 * along for side in (-1, 1)]
            pen.line([tuple(end) for end in ends], colour, thick)
