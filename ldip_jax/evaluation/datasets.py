"""The clips of a benchmark: where their ground truth is, their frames, and the LR frames made from these."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from ldip_jax.data.codecs import Codec
from ldip_jax.data.degradation import DEGRADATIONS, Frame
from ldip_jax.errors import InputError
from ldip_jax.media.clip import Clip
from ldip_jax.media.color import quantise
from ldip_jax.media.images import SUFFIXES
from ldip_jax.media.outputs import VIDEOS

LIST = "sep_testlist.txt"


class ClipSource(NamedTuple):
    """A clip: its name in tables, and its ground truth, a folder of images or a video."""

    name: str
    path: Path


@dataclass(frozen=True)
class Dataset:
    """A benchmark.

    Attributes:
        name, title: what the user types, and what tables show.
        clips: the names of its clips; empty: all clips that are found.
        folders: folders in the data folder that may hold the clips; the first that does is used.
        convention: the convention of its published tables, see `MEASURES`.
        protocol: the default protocol.
        middle_only: whether only the middle frame is scored.
    """

    name: str
    title: str
    clips: tuple[str, ...]
    folders: tuple[str, ...]
    convention: str = "basicsr-y"
    protocol: str = "bi-x4"
    middle_only: bool = False


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("vid4", "Vid4", ("calendar", "city", "foliage", "walk"), ("GT", "Vid4/GT", ".")),
        Dataset(
            "reds4",
            "REDS4",
            ("000", "011", "015", "020"),
            ("GT", "train_sharp", "train/train_sharp", "REDS4/GT", "."),
            convention="basicsr-rgb",
        ),
        Dataset(
            "reds-val",
            "REDS validation",
            tuple(f"{index:03d}" for index in range(30)),
            ("val_sharp", "val/val_sharp", "GT", "."),
            convention="basicsr-rgb",
        ),
        Dataset(
            "vimeo90k-t",
            "Vimeo-90K-T",
            (),
            ("sequences", "vimeo_septuplet/sequences", "GT", "."),
            middle_only=True,
        ),
        Dataset("udm10", "UDM10", (), ("GT", "UDM10/GT", "."), protocol="bd-x4"),
        Dataset("video_folder", "Own clips", (), (".",)),
    )
}


def _is_clip(path: Path) -> bool:
    """Whether this is a video, by its suffix, or a folder with an image in it."""
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return any(entry.suffix.lower() in SUFFIXES for entry in path.iterdir())
    return path.suffix.lower() in VIDEOS


def _name(path: Path) -> str:
    """A clip's name in tables."""
    return path.stem if path.is_file() else path.name


def find_clips(dataset: Dataset, data_dir: Path) -> tuple[list[ClipSource], list[str]]:
    """The clips of a data set, in name order, and notes, for example on missing clips.

    Raises:
        InputError: there is no such folder, it cannot be listed, or none of the clips is in it.
    """
    if not data_dir.is_dir():
        raise InputError(f"{data_dir}: no such folder; give the one that holds {dataset.title}")
    try:
        if dataset.name == "video_folder":
            return _clips_of_folder(data_dir)
        if dataset.name == "vimeo90k-t":
            return _septuplets(dataset, data_dir)
        for place in dataset.folders:
            folder = data_dir / place
            entries = sorted(folder.iterdir()) if folder.is_dir() else []
            found = {_name(path): path for path in entries if _is_clip(path)}
            names = [name for name in dataset.clips or found if name in found]
            if names:
                missing = [name for name in dataset.clips if name not in found]
                notes = [f"{len(missing)} of {len(dataset.clips)} clips are missing: {', '.join(missing)}"]
                return [ClipSource(name, found[name]) for name in names], notes if missing else []
    except OSError as error:
        raise InputError(f"{data_dir}: cannot be listed ({error.strerror}); check its permissions") from None
    raise _no_clips(dataset, data_dir)


def _clips_of_folder(data_dir: Path) -> tuple[list[ClipSource], list[str]]:
    """The clips in a folder, or the folder itself if it holds images but no clips."""
    found: dict[str, Path] = {}
    for path in sorted(data_dir.iterdir()):
        if _is_clip(path):
            name = _name(path)
            if name in found:
                raise InputError(f"{path}: has the same name as {found[name]}; rename one of them")
            found[name] = path
    stray = _is_clip(data_dir)
    if not found and stray:
        return [ClipSource(data_dir.resolve().name, data_dir)], []
    if not found:
        raise _no_clips(DATASETS["video_folder"], data_dir)
    note = f"{data_dir}: images beside the {len(found)} clips are left out; give them a folder of their own"
    return [ClipSource(name, path) for name, path in found.items()], [note] if stray else []


def _no_clips(dataset: Dataset, data_dir: Path) -> InputError:
    return InputError(f"{data_dir}: {_what_is_missing(dataset)}; docs/datasets.md shows the layout")


def _what_is_missing(dataset: Dataset) -> str:
    places = ", ".join(place for place in dataset.folders if place != ".")
    what = f"none of the clips {', '.join(dataset.clips[:4])}" if dataset.clips else "no clips"
    return f"holds {what}, neither itself nor in {places}" if places else f"holds {what}"


def _septuplets(dataset: Dataset, data_dir: Path) -> tuple[list[ClipSource], list[str]]:
    """The septuplets in the test list, or all if there is no list."""
    for place in dataset.folders:
        folder = data_dir / place
        lists = [path for path in (folder / LIST, folder.parent / LIST) if path.is_file()]
        if lists:
            lines = lists[0].read_text(encoding="utf-8", errors="replace").split()
            names = [line for line in lines if (folder / line).is_dir()]
            if names:
                missing = len(lines) - len(names)
                notes = [f"{missing} of the {len(lines)} clips of {lists[0].name} are missing"]
                return [ClipSource(name, folder / name) for name in names], notes if missing else []
        elif folder.is_dir():
            found = [path for path in sorted(folder.glob("*/*")) if path.is_dir() and _is_clip(path)]
            if found:
                note = f"no {LIST}: all {len(found)} clips are scored, which are not the published test set"
                return [ClipSource(f"{path.parent.name}/{path.name}", path) for path in found], [note]
    raise _no_clips(dataset, data_dir)


Bytes = UInt8[np.ndarray, "h w 3"]


class ClipFrames:
    """A clip's frames in 8 bits, cropped to `hr_size` from the upper left corner.

    Attributes:
        hr_size, lr_size: (height, width) of ground truth and LR frames.
    """

    def __init__(
        self,
        clip: Clip,
        hr_size: tuple[int, int],
        lr_size: tuple[int, int],
        degradation: str | None,
        codec: Codec | None = None,
    ):
        """
        Args:
            degradation: how LR frames are made; None: the frames are already LR.
            codec: compresses the whole LR clip; None: it is not compressed.
        """
        self._clip, self.hr_size, self.lr_size = clip, hr_size, lr_size
        self._degradation, self._codec = degradation, codec

    @cached_property
    def count(self) -> int:
        """Number of frames; if the file does not say, it is decoded once."""
        return self._clip.count if self._clip.count is not None else sum(1 for _ in self._clip)

    def hr_frames(self, places: Iterable[int]) -> Iterator[Bytes]:
        """Frames by number, in ascending order; nothing is read after the last of them.

        Raises:
            InputError: a frame is damaged or missing.
        """
        wanted = sorted(set(places))
        if not wanted:
            return
        chosen = iter(wanted)
        place = next(chosen)
        for index, frame in enumerate(self._clip):
            if index == place:
                yield quantise(frame, 8)[: self.hr_size[0], : self.hr_size[1]]
                if (place := next(chosen, -1)) < 0:
                    return

    def lr_frames(self, places: Sequence[int]) -> Iterator[Bytes]:
        """LR frames by number, in the order of `places`."""
        if self._codec is None:
            return _ordered(places, map(self._degrade, self.hr_frames(places)))
        # Frames of a compressed video depend on those around them, including ones that are not asked for.
        coded = self._codec(map(self._degrade, self.hr_frames(range(self.count))))
        wanted = set(places)
        return _ordered(places, (frame for place, frame in enumerate(coded) if place in wanted))

    def _degrade(self, frame: Frame) -> Frame:
        return frame if self._degradation is None else DEGRADATIONS[self._degradation](frame, self.lr_size)


def _ordered(order: Sequence[int], frames: Iterator[Bytes]) -> Iterator[Bytes]:
    """Put frames that come in ascending order into that of `order`; if it is another one, all are held."""
    ascending = sorted(set(order))
    if list(order) == ascending:
        yield from frames
        return
    held = dict(zip(ascending, frames, strict=True))
    for place in order:
        yield held[place]
