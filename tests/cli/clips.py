"""Clips in folders: written, read back and listed."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from ldip_jax.media.images import read_image
from tests.networks import LR


def random_frames(rng: np.random.Generator, count: int, size: tuple[int, int] = LR) -> list[np.ndarray]:
    """8-bit frames that all differ."""
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(count)]


def write_folder(folder: Path, frames: list[np.ndarray], name: str = "shot_{:02d}.png") -> Path:
    """A folder of images."""
    folder.mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / name.format(index))
    return folder


def read_folder(folder: Path) -> np.ndarray:
    """A folder's images in order of name, `t h w 3`."""
    return np.stack([read_image(path)[0] for path in sorted(folder.iterdir())])


def listing(folder: Path) -> dict[str, str]:
    """Everything below a folder, including hidden files, with hashes of the contents."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }
