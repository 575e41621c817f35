"""Frames as the bytes of image files: made of clips on disk, and decoded again."""

import io
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ldip_jax.data.folders import SourceClip
from ldip_jax.errors import InputError
from ldip_jax.media.color import quantise
from ldip_jax.media.images import encode_png, image_info, read_image
from ldip_jax.media.reader import open_clip

# Formats that every reader of a prepared data set knows.
_PLAIN = frozenset({".png", ".jpg", ".jpeg", ".webp"})


class FrameEncoder:
    """Reads clips one after another; pieces of one video in order cost no second decoding."""

    def __init__(self) -> None:
        self._video: tuple[Path, int, Iterator[np.ndarray]] | None = None

    def frames(self, clip: SourceClip) -> Iterator[bytes]:
        """Each frame at the clip's size as PNG, or as its own file where that will do; all are decoded once.

        Raises:
            InputError: a frame is damaged; the message names it.
        """
        if not clip.is_video:
            return (encode_image(file, clip.size) for file in clip.files)
        return self._video_frames(clip)

    def _video_frames(self, clip: SourceClip) -> Iterator[bytes]:
        path = clip.files[0]
        if self._video is None or self._video[0] != path or self._video[1] > clip.first:
            self._video = (path, 0, open_clip(path).frames())
        _, number, frames = self._video
        # Not known what comes next until all of this clip is out.
        self._video = None
        for _ in islice(frames, clip.first - number):
            pass
        for _ in range(clip.count):
            frame = next(frames, None)
            if frame is None:
                raise InputError(f"{path}: has changed while it was read; start again")
            yield encode_png(_reduced(quantise(frame, 8), clip.size))
        self._video = (path, clip.first + clip.count, frames)


def encode_image(file: Path, size: tuple[int, int]) -> bytes:
    """The bytes of an image file at (height, width), as PNG unless it is that already.

    Raises:
        InputError: it is damaged or cannot be read.
    """
    info = image_info(file)
    pixels, _ = read_image(file)
    plain = file.suffix.lower() in _PLAIN and info.bits == 8 and not info.notes and not info.animated
    if plain and pixels.shape[:2] == size:
        return file.read_bytes()
    return encode_png(_reduced(quantise(pixels, 8), size))


def _reduced(pixels: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """Means over the area of each new pixel: they take the marks of compression with them."""
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BOX))


def decode_image(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of what `FrameEncoder` gave.

    Raises:
        OSError, ValueError, SyntaxError: damaged.
    """
    with closing(Image.open(io.BytesIO(data))) as image:
        return np.asarray(image.convert("RGB"))
