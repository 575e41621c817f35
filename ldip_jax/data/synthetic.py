"""Scenes that nobody has to download: textured layers under a moving camera, all correspondences exact."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from ldip_jax.data.layers import Layer, LayeredClip, corners, poses
from ldip_jax.errors import InputError

# Samples of the bicubic kernel reach so far beyond a place.
_MARGIN = 4
_SMALLEST = 16


@dataclass(frozen=True)
class SyntheticClips:
    """A data set of made-up clips, the same for the same numbers; made when asked for, on any machine.

    Attributes:
        size: (height, width) of the frames.
        count: frames of each clip.
        scenes: number of clips.
        seed: another seed gives other scenes.
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
    """A background seen by a moving camera, and two to four things moving before it."""
    rng = np.random.default_rng((seed, index))
    layers = [_background(rng, size, count), *(_thing(rng, size, count) for _ in range(rng.integers(2, 5)))]
    return LayeredClip(f"synthetic/{seed}-{index:04d}", size, layers)


def _drift(rng: np.random.Generator, count: int, speed: float) -> Float[np.ndarray, "{count}"]:
    """A smooth path from 0: a steady part of up to `speed` a frame, and a sway."""
    time = np.arange(count, dtype=np.float64)
    sway = np.sin(2 * np.pi * (time / rng.uniform(12, 40) + rng.uniform()))
    return rng.uniform(-speed, speed) * time + rng.uniform(0, 3) * speed * (sway - sway[0])


def _motion(rng: np.random.Generator, count: int, speed: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn, zoom and path (x, y)."""
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


def _thing(rng: np.random.Generator, size: tuple[int, int], count: int) -> Layer:
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
    """A blob of four to eight corners, or an ellipse; its edge is one pixel wide."""
    dense = 4
    angles = np.linspace(0, 2 * np.pi, int(rng.integers(4, 9)) if rng.integers(2) else 48, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * half + (side - 1) / 2
    image = Image.new("L", (side * dense, side * dense))
    ImageDraw.Draw(image).polygon([tuple((place + 0.5) * dense) for place in ring], fill=255)
    return np.asarray(image.reduce(dense))


def picture(rng: np.random.Generator, size: tuple[int, int]) -> UInt8[np.ndarray, "{size[0]} {size[1]} 3"]:
    """A texture with structure at every size down to a pixel: shapes, lines, rows of marks, and noise.

    The finest of it is lost in x4 reductions, so that references matter.
    """
    height, width = size
    dense = 2
    canvas = Image.new("RGB", (width * dense, height * dense), _colour(rng))
    pen = ImageDraw.Draw(canvas)
    longest = max(canvas.size)
    # As many per area whatever the size.
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
