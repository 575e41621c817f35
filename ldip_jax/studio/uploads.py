"""What a page uploads: bounded in size, kept under names of our own, and looked at before it is used."""

import itertools
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt
from PIL import Image

from ldip_jax.errors import InputError
from ldip_jax.media.color import quantise
from ldip_jax.media.images import SUFFIXES, read_image
from ldip_jax.media.outputs import VIDEOS
from ldip_jax.media.reader import open_clip
from ldip_jax.memory import show_size

Kind = Literal["clip", "still"]
# The longer side of the pictures that stand for uploads.
SIDE = 480
_LONGEST_NAME = 80
# Space on the disk that uploads leave free.
_MIN_FREE = 1 << 28


@dataclass(frozen=True)
class Upload:
    """A file that was uploaded and can be used.

    Attributes:
        key: its name among the files of the page, such as "still-3"; made by us.
        name: what the user calls it; only shown.
        path: where it is.
        size: its bytes.
        picture: a small picture of it.
        about: what to show of it: "width", "height", and of a clip "frames" and "seconds".
    """

    key: str
    name: str
    path: Path
    size: int
    picture: Path
    about: dict[str, Any]


def clean_name(text: str, kind: Kind) -> str:
    """The last part of a client's file name, without anything that is not text; only for people to read."""
    last = text.replace("\\", "/").rpartition("/")[2]
    shown = "".join(letter for letter in last if letter.isprintable()).strip()
    if len(shown) > _LONGEST_NAME:
        stem, dot, suffix = shown.rpartition(".")
        shown = f"{(stem or suffix)[: _LONGEST_NAME - 12]}…{dot}{suffix[-8:]}"
    return shown if shown.strip(".") else kind


def own_path(folder: Path, key: str, name: str, kind: Kind) -> Path:
    """Where an upload is kept: our own name, with an extension that is known.

    Raises:
        InputError: the extension of the user's file is not one of these.
    """
    suffix = Path(name).suffix.lower()
    known = SUFFIXES if kind == "still" else VIDEOS | SUFFIXES
    if suffix not in known:
        wanted = "an image, such as a JPEG or PNG" if kind == "still" else "a video, such as an MP4 or MOV"
        raise InputError(f"{name}: is not {wanted}; choose another file")
    return folder / f"{key}{suffix}"


class UploadSpace:
    """How much the files of one page may still take."""

    def __init__(self, folder: Path, limit: int):
        self.folder, self.limit, self.used = folder, limit, 0

    def check(self, name: str, size: int) -> None:
        """
        Raises:
            InputError: `size` more bytes are too much.
        """
        if self.used + size > self.limit:
            raise InputError(
                f"{name}: the clip and stills of a page may take {show_size(self.limit)};"
                " ldip studio --max-upload allows more"
            )
        if size + _MIN_FREE > shutil.disk_usage(self.folder).free:
            raise InputError(
                f"{name}: too little space on the disk; free some, or set TMPDIR to another disk"
            )


async def receive(stream: AsyncIterator[bytes], path: Path, name: str, space: UploadSpace) -> int:
    """Write what a client sends to a file; returns its bytes, which then count as used.

    Raises:
        InputError: it is empty, or larger than the space left. No file is left then.
    """
    size = 0
    try:
        with open(path, "xb") as file:
            async for part in stream:
                size += len(part)
                space.check(name, size)
                file.write(part)
        if not size:
            raise InputError(f"{name}: is empty; choose another file")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    space.used += size
    return size


def describe(path: Path, kind: Kind, picture: Path) -> dict[str, Any]:
    """Look at a file and make a small picture of it; returns what `Upload.about` holds.

    Raises:
        InputError: it cannot be used.
    """
    if kind == "still":
        image, notes = read_image(path)
        _save(picture, image)
        return {"width": image.shape[1], "height": image.shape[0], "notes": notes}
    with open_clip(path) as clip:
        if clip.kind == "image":
            raise InputError(f"{path}: is a single image, not a clip; drop it where stills go")
        first = next(itertools.islice(clip.frames(), 1), None)
        if first is None or clip.count is None:
            raise InputError(f"{path}: has no frames; choose another file")
        _save(picture, first)
        seconds = None if clip.fps is None else round(float(clip.seconds(clip.count)), 3)
        return {
            "width": clip.width,
            "height": clip.height,
            "frames": clip.count,
            "seconds": seconds,
            "notes": clip.notes,
        }


def clip_frames(path: Path, places: list[int]) -> dict[int, UInt[np.ndarray, "h w 3"]]:
    """These frames of a clip, of 8 bits; the frame before stands for a damaged one."""
    found, last = {}, None
    with open_clip(path, lenient=True) as clip:
        for place, frame in enumerate(clip.decode(0)):
            last = last if frame is None else frame
            if last is not None:
                found |= {
                    wanted: quantise(last, 8) for wanted in places if wanted <= place and wanted not in found
                }
            if len(found) == len(places):
                break
    return found


def _save(path: Path, image: Float[np.ndarray, "h w 3"]) -> None:
    small = Image.fromarray(quantise(image, 8))
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    small.save(path, "JPEG", quality=88)
