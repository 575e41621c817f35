"""Opens the user's input: a video file, a folder of images, or one image."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from ldip_jax.errors import InputError
from ldip_jax.media.clip import Clip
from ldip_jax.media.color import SRGB
from ldip_jax.media.image_files import NotAnImageError
from ldip_jax.media.images import SUFFIXES, ImageInfo, image_info, read_image
from ldip_jax.media.pages import open_pages
from ldip_jax.media.video import open_video


def open_clip(path: str | Path, *, lenient: bool = False) -> Clip:
    """Open a video file, a folder of images, or one image, animated or of one frame, as a clip.

    Images come in the order of the numbers in their names where all names share a pattern, else in name
    order.

    Everything that can be checked without decoding is checked here: the sizes of all images, and that a
    video file is whole.

    Args:
        lenient: a damaged frame of a video or folder, or one of another size, becomes a gap: `Clip.decode`
            gives None in its place, and a file that is cut short is a shorter clip.

    Raises:
        InputError: nothing there, nothing to read, a damaged file, frames of several sizes.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path, lenient)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the name")
    if not path.is_file():
        raise InputError(f"{path}: is neither a file nor a folder; give a video, an image or a folder")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty; give a video, an image or a folder of images")
    try:
        info = image_info(path)
    except NotAnImageError:
        return open_video(path, lenient=lenient)
    if info.paged:
        return open_pages(path, info)
    if info.animated:
        return open_video(path, lenient=lenient)
    return _image_clip(path, "image", [path], [info], info.first_picture_notes)


def _image_clip(
    path: Path,
    kind: Literal["images", "image"],
    files: list[Path],
    infos: list[ImageInfo],
    notes: list[str],
    lenient: bool = False,
) -> Clip:
    height, width = infos[0].height, infos[0].width

    def decode(first: int) -> Iterator[np.ndarray | None]:
        for file in files[first:]:
            try:
                frame, _ = read_image(file)
            except InputError:
                if not lenient:
                    raise
                yield None
                continue
            if frame.shape[:2] != (height, width):
                if lenient:
                    yield None
                    continue
                raise InputError(f"{file}: has changed its size while the clip was read; start again")
            yield frame

    return Clip(
        path=path,
        kind=kind,
        height=height,
        width=width,
        count=len(files),
        fps=None,
        names=[f"{file.stem}.png" for file in files],
        notes=notes,
        color=replace(SRGB, bits=max(info.bits for info in infos)),
        decode=decode,
    )


def _open_folder(path: Path, lenient: bool) -> Clip:
    try:
        entries = sorted((e for e in path.iterdir() if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise InputError(f"{path}: cannot be listed ({error.strerror}); check its permissions") from error
    present = [e for e in entries if not e.is_dir()]
    files = [e for e in present if e.suffix.lower() in SUFFIXES]
    others = [e for e in present if e.suffix.lower() not in SUFFIXES]
    if not files:
        found = f"it holds {others[0].name}" if others else "only folders" if entries else "it is empty"
        raise InputError(f"{path}: no images in this folder ({found}); give PNG, JPEG, TIFF or WebP files")
    files, order = _sort_files(files)
    infos = _infos(files, lenient)
    for file, info in zip(files, infos, strict=True):
        if lenient:
            continue
        if (info.height, info.width) != (infos[0].height, infos[0].width):
            raise InputError(
                f"{file}: is {info.width}x{info.height}, but {files[0].name} is "
                f"{infos[0].width}x{infos[0].height}; all frames of a clip must have one size"
            )
    by_stem: dict[str, Path] = {}
    for file in files:
        other = by_stem.setdefault(file.stem.casefold(), file)
        if other != file:
            raise InputError(f"{file}: would share its output name with {other.name}; rename or remove one")
    return _image_clip(path, "images", files, infos, [*order, *_folder_notes(files, others, infos)], lenient)


def _infos(files: list[Path], lenient: bool) -> list[ImageInfo]:
    """The files' headers; lenient: a damaged one is taken to be like the first that is not."""
    infos: list[ImageInfo | None] = []
    for file in files:
        try:
            infos.append(image_info(file))
        except InputError:
            if not lenient:
                raise
            infos.append(None)
    first = next((info for info in infos if info is not None), None)
    return [info or first or image_info(file) for file, info in zip(files, infos, strict=True)]


def _natural_key(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _sort_files(files: list[Path]) -> tuple[list[Path], list[str]]:
    """Files in name order, by the numbers in their names if these differ in nothing else; and a note."""
    natural = sorted(files, key=lambda file: _natural_key(file.name))
    if natural == files:
        return files, []
    # The two orders part where one name is a longer number.
    earlier, later = next((a, b) for a, b in pairwise(files) if _natural_key(a.name) > _natural_key(b.name))
    if len({re.sub(r"\d+", "0", file.stem) for file in files}) == 1:
        return natural, [f"taken in the order of their numbers: {later.name} before {earlier.name}"]
    return files, [f"name order puts {earlier.name} before {later.name}; pad the numbers if that is wrong"]


def _folder_notes(files: list[Path], others: list[Path], infos: list[ImageInfo]) -> list[str]:
    notes = []
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        notes.append(f"files that are not images are ignored: {others[0].name}{more}")
    for note, count in Counter(note for info in infos for note in info.first_picture_notes).items():
        notes.append(note if count == len(files) else f"{note} ({count} of {len(files)} images)")
    return notes
