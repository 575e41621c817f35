"""Clips of camera moves over large images: real detail, with all correspondences exact.

An image is a flat scene over which a camera pans, zooms and turns. Frames show it reduced, so that they are
as sharp as their pixels allow.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from ldip_jax.data.clips import MOVE
from ldip_jax.data.synthetic import Layer, LayeredClip, corners, poses
from ldip_jax.errors import InputError
from ldip_jax.media.color import quantise
from ldip_jax.media.images import SUFFIXES, image_info, read_image

# Fewest and most pixels of the image per pixel of a frame; with fewer, frames would be softer than real ones.
_SHARPEST, _DENSEST = 1.0, 4.0
_MARGIN = 3
_TRIES = 20


@dataclass(frozen=True)
class CameraMoveClips:
    """A data set of camera moves over the images of a folder; equal attributes give equal clips.

    Attributes:
        folder: contains images, at any depth.
        size: (height, width) of the frames.
        count: number of frames of each clip.
        moves: number of moves over each image; an epoch shows all of them.
        seed: different seeds give different moves.
    """

    folder: Path
    size: tuple[int, int]
    count: int = 24
    moves: int = 16
    seed: int = 0
    files: tuple[Path, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Find the images and check their sizes.

        Raises:
            InputError: there is no such folder, no image in it, or an image is too small for the frames.
        """
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder; check data.data_dir")
        files = sorted(file for file in self.folder.rglob("*") if file.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(f"{self.folder}: no images in it; check data.data_dir")
        for file in files:
            info = image_info(file)
            if min(info.height - self.size[0], info.width - self.size[1]) < 2 * _MARGIN + 1:
                raise InputError(
                    f"{file}: {info.width}x{info.height} is too small for a camera of "
                    f"{self.size[1]}x{self.size[0]}; take it out or set data.size lower"
                )
        object.__setattr__(self, "files", tuple(files))

    @property
    def names(self) -> list[str]:
        """The paths of the images in `folder`."""
        return [file.relative_to(self.folder).as_posix() for file in self.files]

    def __len__(self) -> int:
        return len(self.files) * self.moves

    def __getitem__(self, index: int) -> LayeredClip:
        image, move = divmod(int(index), self.moves)
        picture = _read(self.files[image])
        rng = np.random.default_rng((self.seed, image, move))
        track = draw_camera_move(rng, picture.shape[:2], self.size, self.count)
        name = f"{self.names[image]}{MOVE}{move}"
        return LayeredClip(name, self.size, [Layer(picture, None, track)])


@lru_cache(maxsize=4)
def _read(file: Path) -> UInt8[np.ndarray, "h w 3"]:
    return quantise(read_image(file)[0], 8)


def draw_camera_move(
    rng: np.random.Generator, image_size: tuple[int, int], size: tuple[int, int], count: int
) -> Float[np.ndarray, "{count} 2 3"]:
    """Poses of a camera that never sees beyond the image: a steady move with a sway, up to 10 pixels a frame.

    Args:
        image_size, size: (height, width) of the image and of the frames.
    """
    limits = [(n - 2 * _MARGIN - 1) / (N - 1) for n, N in zip(image_size, size, strict=True)]
    widest = min(*limits, _DENSEST)
    for attempt in range(_TRIES):
        # Large moves are tried first; those that leave the image are drawn again, smaller.
        calm = 1.0 - attempt / (_TRIES - 1)
        steady = _smooth_paths(rng, count, calm)
        zoom = np.clip(
            np.exp(rng.uniform(np.log(_SHARPEST), np.log(max(widest * 0.9, _SHARPEST))))
            * np.exp(0.01 * steady[0]),
            _SHARPEST,
            widest,
        )
        turn = 0.006 * steady[1]
        path = 4.0 * zoom[:, None] * steady[2:].T
        middle = np.broadcast_to((np.array(size[::-1]) - 1) / 2, path.shape)
        seen = corners(size, poses(turn, zoom, middle, path))
        low, high = seen.min(axis=(0, 1)), seen.max(axis=(0, 1))
        slack = np.array(image_size[::-1]) - 1 - 2 * _MARGIN - (high - low)
        if (slack >= 0).all():
            return poses(turn, zoom, middle, path + _MARGIN - low + rng.uniform(0, 1, 2) * slack)
    raise AssertionError("a camera at rest always fits")


def _smooth_paths(rng: np.random.Generator, count: int, speed: float) -> Float[np.ndarray, "4 {count}"]:
    """Four smooth paths that start at 0, with steps of at most about `speed`."""
    time = np.arange(count)
    period, phase = rng.uniform(8, 40, (2, 4, 1))
    sway = np.sin(2 * np.pi * time / period + phase)
    return speed * (rng.uniform(-1, 1, (4, 1)) * time + rng.uniform(0, 2, (4, 1)) * (sway - sway[:, :1]))
