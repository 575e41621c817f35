"""The arguments of `--ref` and `--ref-mask`: the image file, its moment in the clip, and its mask."""

import argparse
import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ldip_jax.command import file_or_folder
from ldip_jax.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from ldip_jax.inference.reference_images import Still
    from ldip_jax.media.clip import Clip

_TIME = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)", re.ASCII)


@dataclass(frozen=True)
class ReferenceArgument:
    """An argument of `--ref`.

    Attributes:
        text: the argument itself.
        path: the image file.
        moment: a frame of the clip, or seconds from its first frame; None if the user gave no moment.
    """

    text: str
    path: Path
    moment: int | Fraction | None = None


def parse_reference(text: str) -> ReferenceArgument:
    """IMAGE, IMAGE@FRAME, IMAGE@MM:SS.S or IMAGE@HH:MM:SS.S; an existing file of that whole name wins.

    Raises:
        argparse.ArgumentTypeError: the text is empty, or an image is followed by @ and an invalid moment.
    """
    path = file_or_folder(text)
    head, at, tail = text.rpartition("@")
    if not at or not head or path.exists():
        return ReferenceArgument(text, path)
    moment = parse_moment(tail)
    if moment is not None:
        return ReferenceArgument(text, Path(head), moment)
    if Path(head).exists():
        what = "is neither a frame, such as 37, nor a time, such as 00:12.5"
        raise argparse.ArgumentTypeError(f"{text!r}: {tail!r} {what}")
    return ReferenceArgument(text, path)


def parse_moment(text: str) -> int | Fraction | None:
    """A frame, or seconds for MM:SS.S or HH:MM:SS.S; None: neither of them."""
    if text.isascii() and text.isdecimal():
        return int(text)
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds = int(match[1] or 0), int(match[2]), Fraction(match[3])
    if seconds >= 60 or (match[1] and minutes >= 60):
        return None
    return 3600 * hours + 60 * minutes + seconds


def frame_of(still: ReferenceArgument, clip: "Clip") -> int | None:
    """The frame that is shown at a still's moment, counted from 0; None if the still has no moment.

    Raises:
        InputError: the clip has no times, or ends before the moment.
    """
    if still.moment is None:
        return None
    if clip.fps is None and not isinstance(still.moment, int):
        raise InputError(
            f"{still.text}: images have no times; give a frame, such as {still.path}@37, or --fps too"
        )
    frame = frame_at(still.moment, clip)
    if clip.count is not None and frame >= clip.count:
        seconds = f" of {float(clip.count / clip.fps):.2f} seconds" if clip.fps is not None else ""
        last = f"its {clip.count} frames{seconds} are counted from 0"
        raise InputError(f"{still.text}: that moment is not in the clip; {last}")
    return frame


def frame_at(moment: int | Fraction, clip: "Clip") -> int:
    """The frame that is shown at a moment, which may be after the clip; a time needs a frame rate."""
    if isinstance(moment, int):
        return moment
    assert clip.fps is not None
    if clip.times is None:
        return int(moment * clip.fps)
    if moment >= clip.times[-1] + (clip.hold or 1 / clip.fps):
        return len(clip.times)
    return bisect_right(clip.times, moment) - 1


def read_stills(
    arguments: "Sequence[ReferenceArgument]",
    masks: "Sequence[str]",
    clip: "Clip",
    notify: "Callable[[str], object]",
) -> "list[Still]":
    """The stills, each with its moment and its mask.

    Args:
        masks: arguments of `--ref-mask`, IMAGE=MASK.
        notify: receives a line for each conversion while an image is read.

    Raises:
        InputError: a file cannot be read, two stills have the same name, a moment is outside the clip, or a
            mask does not fit.
    """
    from ldip_jax.inference.reference_images import Still

    stills: dict[str, Still] = {}
    for still in arguments:
        frame = frame_of(still, clip)
        image = _read_image(still.path, notify)
        name = still.path.stem
        if name in stills:
            raise InputError(f"{still.path}: there is another reference named {name}; rename one of them")
        stills[name] = Still(name, image, frame)
    for name, path in split_masks(arguments, masks):
        if stills[name].mask is not None:
            raise InputError(f"{path}: {name} has a mask already; give one mask for each still")
        mask = _read_image(path, notify).mean(axis=-1)
        height, width = stills[name].image.shape[:2]
        if mask.shape != (height, width):
            size = f"is {mask.shape[1]}x{mask.shape[0]}, but {name} is {width}x{height}"
            raise InputError(f"{path}: {size}; a mask is as large as its still")
        stills[name] = replace(stills[name], mask=mask)
    return list(stills.values())


def split_masks(arguments: "Sequence[ReferenceArgument]", masks: "Sequence[str]") -> list[tuple[str, Path]]:
    """IMAGE=MASK as the image's name and the mask's file; IMAGE is as in `--ref`, or its file, or its stem.

    Raises:
        InputError: there is no such still.
    """
    found = []
    for word in masks:
        places = [place for place, letter in enumerate(word) if letter == "="]
        if not places:
            raise InputError(f"--ref-mask {word}: is not IMAGE=MASK, such as photo.png=mask.png")
        match = next(
            (
                (still.path.stem, Path(word[place + 1 :]))
                for place in places
                for still in arguments
                if word[:place] in (still.text, str(still.path), still.path.stem)
            ),
            None,
        )
        if match is None:
            raise InputError(f"--ref-mask {word}: --ref names no still {word[: places[0]]}")
        found.append(match)
    return found


def _read_image(path: Path, notify: "Callable[[str], object]") -> "np.ndarray":
    from ldip_jax.media.images import read_image

    image, notes = read_image(path)
    for note in notes:
        notify(f"{path}: {note}")
    return image
