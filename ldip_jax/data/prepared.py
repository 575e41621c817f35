"""Frames of prepared data sets: they are encoded for packing, and read and decoded one by one."""

import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8
from PIL import Image

from ldip_jax.data.folders import SourceClip
from ldip_jax.errors import InputError
from ldip_jax.media.color import quantise
from ldip_jax.media.images import encode_png, image_info, read_image
from ldip_jax.media.reader import open_clip

# Formats that every reader of a prepared data set can decode.
_PLAIN = frozenset({".png", ".jpg", ".jpeg", ".webp"})


class FrameEncoder:
    """Encodes the frames of clips, one clip after another; decodes a video once if its parts are in order."""

    def __init__(self) -> None:
        self._video: tuple[Path, int, Iterator[np.ndarray]] | None = None

    def frames(self, clip: SourceClip) -> Iterator[bytes]:
        """Each frame at the clip's size: its file as it is if that will do, else a PNG. All are decoded once.

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
        # The next frame of the video is not known until this clip has been read completely.
        self._video = None
        for _ in islice(frames, clip.first - number):
            pass
        for _ in range(clip.count):
            frame = next(frames, None)
            if frame is None:
                raise InputError(f"{path}: changed while it was being read; start again")
            yield encode_png(_reduce(quantise(frame, 8), clip.size))
        self._video = (path, clip.first + clip.count, frames)


def encode_image(file: Path, size: tuple[int, int]) -> bytes:
    """An image encoded at `size` (height, width): the bytes of its file if these will do, else a PNG.

    Raises:
        InputError: the file is damaged or cannot be read.
    """
    info = image_info(file)
    pixels, _ = read_image(file)
    plain = file.suffix.lower() in _PLAIN and info.bits == 8 and not info.notes and not info.animated
    if plain and pixels.shape[:2] == size:
        return file.read_bytes()
    return encode_png(_reduce(quantise(pixels, 8), size))


def _reduce(pixels: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """The image reduced to `size` (height, width) by area means, which also remove compression artefacts."""
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BOX))


def decode_image(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an image that `FrameEncoder` encoded.

    Raises:
        OSError, ValueError, SyntaxError: the data is damaged.
    """
    with closing(Image.open(io.BytesIO(data))) as image:
        return np.asarray(image.convert("RGB"))


class PreparedClips:
    """The clips of a split of a prepared data set, in order."""

    def __init__(self, dataset: str, data_dir: str | Path, split: str = "train", min_frames: int = 1):
        """
        Args:
            dataset: its name, such as "reds".
            data_dir: the `--output` that it was prepared in.
            split: such as "train", or several, "train+val".
            min_frames: shorter clips are left out.

        Raises:
            InputError: there is no prepared data set, it cannot be read, it lacks the split, or no clip is
                long enough.
        """
        self._dataset, self._data_dir = dataset, Path(data_dir)
        metadata = self._builder.info.metadata
        clips = metadata["clips"]
        self._fingerprints: dict[str, str] = metadata.get("fingerprints", {})
        self._clips: list[PreparedClip] = []
        for part in split.split("+"):
            if part not in clips or not clips[part]:
                splits = ", ".join(name for name, found in clips.items() if found)
                raise InputError(f"{self.folder}: has no split {part}; choose from {splits}")
            self._clips += [
                PreparedClip(self, part, name, first, count, (height, width))
                for name, first, count, height, width in clips[part]
                if count >= min_frames
            ]
        if not self._clips:
            raise InputError(
                f"{self.folder}: no clip of {split} has {min_frames} frames; set data.clip lower"
            )

    @property
    def folder(self) -> Path:
        """The folder with its files, those of the newest version."""
        versions = sorted((self._data_dir / self._dataset).glob("[0-9]*"))
        return versions[-1] if versions else self._data_dir / self._dataset

    @property
    def names(self) -> list[str]:
        """The names of its clips."""
        return [clip.name for clip in self._clips]

    @property
    def named_fingerprints(self) -> list[tuple[str, str | None]]:
        """The name of each clip, and its fingerprint; None if the data set was prepared without."""
        return [(name, self._fingerprints.get(name)) for name in self.names]

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> "PreparedClip":
        return self._clips[index]

    def __getstate__(self) -> dict[str, Any]:
        # Workers open the files themselves.
        return {**{k: v for k, v in vars(self).items() if k != "_builder"}, "_sources": {}}

    @cached_property
    def _builder(self) -> Any:
        folder = self.folder
        if not (folder / "dataset_info.json").is_file():
            raise InputError(
                f"{folder}: no prepared data set; make it with ldip prepare {self._dataset} --source DIR "
                f"--output {self._data_dir}"
            )
        try:
            return tfds.builder_from_directory(str(folder))
        except Exception as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(f"{folder}: cannot be read ({reason}); prepare it again") from error

    @cached_property
    def _sources(self) -> dict[str, Any]:
        return {}

    def read(self, split: str, example: int) -> bytes:
        """The encoded bytes of a frame."""
        if split not in self._sources:
            self._sources[split] = self._builder.as_data_source(split)
        return self._sources[split][example]["image"]


@dataclass(frozen=True)
class PreparedClip:
    """See `Footage`."""

    data: PreparedClips
    split: str
    name: str
    first: int
    count: int
    size: tuple[int, int]

    def frame(self, number: int) -> UInt8[np.ndarray, "h w 3"]:
        what = f"{self.data.folder}: frame {number} of {self.name}"
        try:
            image = decode_image(self.data.read(self.split, self.first + number))
        except InputError:
            raise
        except Exception as error:
            # The readers do not document which errors they raise.
            raise InputError(f"{what} is damaged; delete the folder and prepare it again") from error
        if image.shape[:2] != self.size:
            raise InputError(f"{what} has another size; delete the folder and prepare it again")
        return image
