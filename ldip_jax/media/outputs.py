"""Outputs: which kind a path stands for, and whether it can be written."""

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ldip_jax.errors import InputError
from ldip_jax.media.images import SUFFIXES

# Suffixes of video files that are written, with the library's name of the container.
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
# Suffixes by which video files are known; those that are not written are only read.
VIDEOS = frozenset(
    {*CONTAINERS, ".avi", ".webm", ".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".wmv", ".asf"}
    | {".flv", ".f4v", ".ogv", ".ogg", ".3gp", ".mxf", ".y4m", ".h264", ".hevc"}
)


def output_kind(path: str | Path) -> Literal["video", "folder", "image"]:
    """Video by suffix, one image for `.png`, else a folder.

    Raises:
        InputError: the suffix of a format that is not written.
    """
    suffix = Path(path).suffix.lower()
    if suffix in CONTAINERS:
        return "video"
    if suffix in VIDEOS:
        raise InputError(f"{path}: {suffix} is not written; choose {', '.join(CONTAINERS)}, or give a folder")
    if suffix == ".png":
        return "image"
    if suffix in SUFFIXES:
        raise InputError(f"{path}: {suffix} is not written; give .png for one image, or a folder")
    return "folder"


def check_output(
    path: str | Path,
    *,
    overwrite: bool = False,
    inputs: Sequence[str | Path] = (),
    names: Sequence[str] | None = None,
) -> None:
    """Check before any work that an output can be written; changes nothing on disk.

    Args:
        path: video file, `.png` file or folder to be.
        overwrite: an existing output may be replaced.
        inputs: files and folders that must survive.
        names: files that will be written into a folder, besides `00000000.png` ...; with them, a folder that
            holds anything else is refused, since overwriting replaces all of it. None: not known yet.

    Raises:
        InputError: unknown format, exists already, is an input, or cannot be written.
    """
    path = Path(path)
    kind = output_kind(path)
    try:
        for source in map(Path, inputs):
            if path.exists() and source.exists() and path.samefile(source):
                raise InputError(f"{path}: is also an input; give the output another name")
            if path.is_dir() and source.is_file() and path.samefile(source.parent):
                raise InputError(f"{path}: holds the input {source.name}; choose another folder")
        if kind == "folder":
            _check_folder(path, overwrite, None if names is None else frozenset(names))
        elif path.is_dir():
            raise InputError(f"{path}: is a folder, but a {path.suffix} file is needed; choose another name")
        elif os.path.lexists(path) and not path.is_file():
            raise InputError(f"{path}: is not a regular file; choose another name")
        elif path.exists() and not overwrite:
            raise InputError(f"{path}: exists already; add --overwrite or choose another name")
    except OSError as error:
        raise _unwritable(path, error) from error
    check_writable(path)


def _check_folder(path: Path, overwrite: bool, names: frozenset[str] | None) -> None:
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise InputError(f"{path}: is a file, but a folder is needed; choose another name")
    entries = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    if entries and not overwrite:
        raise InputError(f"{path}: exists already and is not empty; add --overwrite or choose another name")
    for name in entries:
        if names is not None and not is_replaceable(path / name, names):
            raise InputError(f"{path}: holds {name}, which is not replaced; choose a new or empty folder")


def is_replaceable(path: Path, names: frozenset[str]) -> bool:
    """A file that a run of this kind writes, and may therefore replace."""
    return path.is_file() and (path.name in names or re.fullmatch(r"\d{8}\.png", path.name) is not None)


def check_parent(path: Path, display_name: str | None = None) -> None:
    """
    Args:
        display_name: what to call `path` in the message; None: by its name.

    Raises:
        InputError: the folder that `path` lies in does not exist.
    """
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"{display_name or path}: {folder} is not an existing folder; create it first")


def check_writable(path: Path) -> None:
    """Make a nameless file where `path` will be (or what it links to), or in its nearest existing parent.

    Raises:
        InputError: that fails; names `path`.
    """
    place = Path(os.path.realpath(path))
    folder = place if place.is_dir() else place.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be written ({error.strerror or error}); choose another place")
