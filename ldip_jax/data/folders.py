"""Finds clips on disk: in the official layouts of the benchmarks, or in any folder of images and videos.

Everything that can be checked without decoding is checked: the numbers of clips and frames, names, and sizes.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from ldip_jax.errors import InputError
from ldip_jax.media.images import SUFFIXES, image_info
from ldip_jax.media.outputs import VIDEOS
from ldip_jax.media.reader import open_clip

# Longer shots, in frames, are split into several clips, so that an epoch covers all of them.
MAX_SHOT_FRAMES = 100
REDS_CLIPS = {"train": 240, "val": 30}
REDS_FRAMES = 100
REDS_SIZE = (720, 1280)
REDS4 = ("000", "011", "015", "020")
# At most this many errors are named; the rest is counted.
_MAX_NAMED = 3


@dataclass(frozen=True)
class SourceClip:
    """Frames that belong together.

    Attributes:
        name: unique in its data set; `@first-last` at the end marks a part of a longer clip.
        count: number of frames.
        size: (height, width) that the frames are to have.
        files: one image file for each frame; or the video that contains them, from `first` on.
        first: place of the first frame in the video.
        fingerprint: of its frames (`fingerprints`); None if it is not known.
    """

    name: str
    count: int
    size: tuple[int, int]
    files: tuple[Path, ...]
    first: int = 0
    fingerprint: str | None = None

    @property
    def is_video(self) -> bool:
        return len(self.files) == 1 and self.files[0].suffix.lower() not in SUFFIXES


Splits = dict[str, list[SourceClip]]


def reduce_size(clip: SourceClip, factor: float) -> SourceClip:
    """The clip with frames of `factor` times the size."""
    height, width = (max(1, round(side * factor)) for side in clip.size)
    return replace(clip, size=(height, width))


class SourceErrors:
    """Collects what is wrong with a source, so that all of it is reported at once."""

    def __init__(self, source: Path):
        self._source, self._errors = source, []

    def add(self, error: str) -> None:
        self._errors.append(error)

    def raise_if_any(self) -> None:
        """Report all errors, if there are any.

        Raises:
            InputError: an error was added.
        """
        if self._errors:
            more = len(self._errors) - _MAX_NAMED
            tail = f"; and {more} more" if more > 0 else ""
            raise InputError(f"{self._source}: {'; '.join(self._errors[:_MAX_NAMED])}{tail}")


def _image_clip(
    name: str, files: list[Path], size: tuple[int, int] | None, errors: SourceErrors
) -> SourceClip | None:
    """A clip of images, which must all have the given size, or else that of the first image."""
    for file in files:
        try:
            info = image_info(file)
        except InputError as error:
            errors.add(str(error))
            return None
        size = size or (info.height, info.width)
        if (info.height, info.width) != size:
            errors.add(f"{name}/{file.name} is {info.width}x{info.height}, not {size[1]}x{size[0]}")
            return None
    assert size is not None
    return SourceClip(name, len(files), size, tuple(files))


def _numbered_clip(
    folder: Path, name: str, expected: list[str], size: tuple[int, int] | None, errors: SourceErrors
) -> SourceClip | None:
    """A clip whose file names are known."""
    if not folder.is_dir():
        errors.add(f"{name} is missing")
        return None
    files = [folder / file for file in expected]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        errors.add(f"{name} has {len(files) - len(missing)} of {len(files)} frames, {missing[0]} is missing")
        return None
    return _image_clip(name, files, size, errors)


def _first_folder(source: Path, choices: list[str], errors: SourceErrors) -> Path | None:
    """The first of several folders that exists."""
    found = next((source / choice for choice in choices if (source / choice).is_dir()), None)
    if found is None:
        errors.add(f"there is no {' or '.join(choices)} in it")
    return found


def find_reds(source: Path, on_clip: Callable[[], None]) -> Splits:
    """REDS: `train_sharp/000` ... `239` and `val_sharp/000` ... `029`, 100 frames of 1280x720 each.

    `reds4` has the four training clips that are generally used for tests, `train` the other 236, and `val`
    the official validation clips. `train/train_sharp` and `val/val_sharp`, as the archives unpack, also work.

    Raises:
        InputError: clips or frames are missing or have the wrong size.
    """
    frames = [f"{number:08d}.png" for number in range(REDS_FRAMES)]
    errors = SourceErrors(source)
    splits: Splits = {"train": [], "reds4": [], "val": []}
    for part, count in REDS_CLIPS.items():
        folder = _first_folder(source, [f"{part}_sharp", f"{part}/{part}_sharp"], errors)
        for clip in [f"{number:03d}" for number in range(count)] if folder else []:
            assert folder is not None
            found = _numbered_clip(folder / clip, f"{part}_sharp/{clip}", frames, REDS_SIZE, errors)
            on_clip()
            if found:
                splits["reds4" if part == "train" and clip in REDS4 else part].append(found)
    errors.raise_if_any()
    return splits


def find_vimeo90k(source: Path, on_clip: Callable[[], None]) -> Splits:
    """Vimeo-90K septuplets: `sequences/00001/0001/im1.png` ... `im7.png`, 448x256, listed in two files.

    Raises:
        InputError: a list, clips or frames are missing, or frames have the wrong size.
    """
    errors = SourceErrors(source)
    if (source / "vimeo_septuplet").is_dir():
        source = source / "vimeo_septuplet"
    splits: Splits = {}
    for split in ("train", "test"):
        listing = source / f"sep_{split}list.txt"
        try:
            names = listing.read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError):
            errors.add(f"{listing.name} is missing or no text")
            continue
        splits[split] = []
        for name in names:
            found = _numbered_clip(
                source / "sequences" / name, name, [f"im{n}.png" for n in range(1, 8)], (256, 448), errors
            )
            on_clip()
            if found:
                splits[split].append(found)
    errors.raise_if_any()
    return splits


def find_vid4(source: Path, on_clip: Callable[[], None]) -> Splits:
    """Vid4: `calendar`, `city`, `foliage` and `walk`, in `GT` or directly in the folder.

    Raises:
        InputError: clips or frames are missing.
    """
    folder = source / "GT" if (source / "GT").is_dir() else source
    counts = {"calendar": 41, "city": 34, "foliage": 49, "walk": 47}
    return _test_set(source, {name: (_images(folder / name), n) for name, n in counts.items()}, on_clip)


def find_udm10(source: Path, on_clip: Callable[[], None]) -> Splits:
    """UDM10: ten clips of 32 frames, in `GT` or directly in the folder; each may have a subfolder `truth`.

    Raises:
        InputError: clips or frames are missing.
    """
    folder = source / "GT" if (source / "GT").is_dir() else source
    clips = {c.name: _images(c / "truth") or _images(c) for c in _entries(folder) if c.is_dir()}
    clips = {name: files for name, files in clips.items() if files}
    if len(clips) != 10:
        raise InputError(f"{folder}: holds {len(clips)} clips, not the ten of UDM10; check --source")
    return _test_set(source, {name: (files, 32) for name, files in clips.items()}, on_clip)


def _test_set(source: Path, clips: dict[str, tuple[list[Path], int]], on_clip: Callable[[], None]) -> Splits:
    """Clips with known numbers of frames, whatever the names of the files."""
    errors = SourceErrors(source)
    found = []
    for name, (files, count) in clips.items():
        on_clip()
        if len(files) != count:
            errors.add(f"{name} has {len(files)} of {count} frames" if files else f"{name} is missing")
        elif clip := _image_clip(name, files, None, errors):
            found.append(clip)
    errors.raise_if_any()
    return {"test": found}


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check --source")
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    return [file for file in _entries(folder) if file.suffix.lower() in SUFFIXES] if folder.is_dir() else []


def find_clips(source: Path, on_clip: Callable[[], None], shots: Path | None = None) -> Splits:
    """Any folder: each folder with images in it is a clip, and so is each video file, at any depth.

    Args:
        shots: a JSON file, `{"NAME": [[first, last], ...]}`, with the first and last frame of each shot of a
            clip, counted from 0; NAME is the clip's path in `source`. Clips that are not named are one shot.

    Raises:
        InputError: there is no clip, a clip is damaged, or shots do not fit.
    """
    ranges = _read_shots(shots) if shots else {}
    errors = SourceErrors(source)
    clips: list[SourceClip] = []
    for path in _clip_paths(source):
        name = path.relative_to(source).as_posix() if path != source else source.resolve().name
        whole = _open_source(path, name, errors)
        on_clip()
        if whole:
            clips += _split_shots(whole, ranges.pop(name, [(0, whole.count - 1)]), errors)
    for name in ranges:
        errors.add(f"{shots} names {name}, which does not exist")
    errors.raise_if_any()
    if not clips:
        raise InputError(f"{source}: no folder of images and no video in it; check --source")
    return {"train": clips}


def _clip_paths(source: Path) -> Iterator[Path]:
    """Folders of images and video files; other files are ignored."""
    if _images(source):
        yield source
        return
    for entry in _entries(source):
        if entry.is_dir():
            yield from _clip_paths(entry)
        elif entry.suffix.lower() in VIDEOS:
            yield entry


def _open_source(path: Path, name: str, errors: SourceErrors) -> SourceClip | None:
    if path.is_dir():
        return _image_clip(name, _images(path), None, errors)
    try:
        clip = open_clip(path)
        count = clip.count if clip.count is not None else sum(1 for _ in clip)
    except InputError as error:
        errors.add(str(error))
        return None
    return SourceClip(name, count, (clip.height, clip.width), (path,))


def _read_shots(path: Path) -> dict[str, list[tuple[int, int]]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: [(int(first), int(last)) for first, last in shots] for name, shots in content.items()}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check --shots") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f'{path}: is not a list of shots; write {{"NAME": [[FIRST, LAST], ...]}}') from error


def _split_shots(whole: SourceClip, shots: list[tuple[int, int]], errors: SourceErrors) -> list[SourceClip]:
    """The shots of a clip, with long ones split into equal parts."""
    pieces = []
    for first, last in shots:
        if not 0 <= first <= last < whole.count:
            errors.add(f"{whole.name} has {whole.count} frames, no shot from {first} to {last}")
            return []
        count = last - first + 1
        parts = -(-count // MAX_SHOT_FRAMES)
        ends = [first + count * part // parts for part in range(parts + 1)]
        for begin, end in pairwise(ends):
            is_whole = (begin, end) == (0, whole.count)
            files = whole.files if whole.is_video else whole.files[begin:end]
            name = whole.name if is_whole else f"{whole.name}@{begin}-{end - 1}"
            pieces.append(SourceClip(name, end - begin, whole.size, files, begin if whole.is_video else 0))
    return pieces
