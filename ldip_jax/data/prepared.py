"""Reading prepared data sets: clips whose frames are read and decoded one by one."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from ldip_jax.data.encoded import decode_image
from ldip_jax.errors import InputError

_PREPARE = "python -m ldip_jax.data.prepare"


class PreparedClips:
    """The clips of a split of a prepared data set, in order."""

    def __init__(self, dataset: str, data_dir: str | Path, split: str = "train", fewest_frames: int = 1):
        """
        Args:
            dataset: its name, such as "reds".
            data_dir: the `--output` that it was prepared in.
            split: such as "train", or several, "train+val".
            fewest_frames: shorter clips are left out.

        Raises:
            InputError: nothing there, something else, no such split, no clip long enough.
        """
        self._dataset, self._data_dir = dataset, Path(data_dir)
        clips = self._builder.info.metadata["clips"]
        self._clips: list[PreparedClip] = []
        for part in split.split("+"):
            if part not in clips or not clips[part]:
                splits = ", ".join(name for name, found in clips.items() if found)
                raise InputError(f"{self.folder}: has no split {part}; choose from {splits}")
            self._clips += [
                PreparedClip(self, part, name, first, count, (height, width))
                for name, first, count, height, width in clips[part]
                if count >= fewest_frames
            ]
        if not self._clips:
            raise InputError(
                f"{self.folder}: no clip of {split} has {fewest_frames} frames; set data.clip lower"
            )

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        versions = sorted((self._data_dir / self._dataset).glob("[0-9]*"))
        return versions[-1] if versions else self._data_dir / self._dataset

    @property
    def names(self) -> list[str]:
        """Of its clips."""
        return [clip.name for clip in self._clips]

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
                f"{folder}: no prepared data set; make it with {_PREPARE} {self._dataset} --source DIR "
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
        """The bytes of a frame."""
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
            # The readers do not say which errors they raise.
            raise InputError(f"{what} is damaged; delete the folder and prepare it again") from error
        if image.shape[:2] != self.size:
            raise InputError(f"{what} has another size; delete the folder and prepare it again")
        return image
