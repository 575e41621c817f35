"""The frames of a clip as `ldip upscale` takes them: a part of it, with what becomes of damaged frames."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ldip_jax.cli.reference_arguments import frame_at
from ldip_jax.errors import InputError
from ldip_jax.media.clip import Clip
from ldip_jax.media.reader import open_clip
from ldip_jax.media.y4m import PIPE, open_pipe


def open_source(args: argparse.Namespace, path: Path) -> Clip:
    """The clip at `path`, or on standard input, with the rate of --fps.

    Raises:
        InputError: it cannot be read, or has a frame rate already.
    """
    clip = open_pipe() if path == PIPE else open_clip(path, lenient=args.on_error != "stop")
    if args.fps is None:
        return clip
    if clip.fps is not None:
        raise InputError(f"--fps: {path} has a frame rate already; leave --fps out")
    return replace(clip, fps=args.fps)


def requested_part(args: argparse.Namespace, clip: Clip) -> tuple[int, int | None]:
    """The first frame of the part to upscale, and the first one after it; None: up to the end.

    Raises:
        InputError: the part is not in the clip, or holds no frame.
    """
    first = 0 if args.start is None else _frame(clip, "--start", args.start)
    if clip.count is not None and first >= clip.count:
        raise InputError(f"--start {args.start}: {clip.path} has only {clip.count} frames, counted from 0")
    stop = clip.count
    if args.end is not None:
        end = _frame(clip, "--end", args.end)
        if end <= first:
            raise InputError(f"--end {args.end}: no frame lies between --start and it")
        stop = end if stop is None else min(end, stop)
    if args.frames is not None:
        stop = first + args.frames if stop is None else min(first + args.frames, stop)
    return first, stop


def _frame(clip: Clip, flag: str, moment: int | Fraction) -> int:
    if clip.fps is None and not isinstance(moment, int):
        raise InputError(f"{flag}: images have no times; give a frame, such as {flag} 37, or --fps too")
    return frame_at(moment, clip)


class FrameSource:
    """The frames of a clip one by one.

    Attributes:
        numbers: those of the frames so far in the clip.
        held, skipped: how many damaged frames the one before replaces, and how many are left out.
        error: what ended the clip early; only if damaged frames are to stop it.
    """

    def __init__(self, clip: Clip, on_error: str):
        self._clip, self._on_error = clip, on_error
        self.numbers: list[int] = []
        self.held = self.skipped = 0
        self.error: InputError | None = None

    def frames(self) -> Iterator[Float[np.ndarray, "h w 3"]]:
        """The frames.

        Raises:
            InputError: the first frame is damaged already.
        """
        last: np.ndarray | None = None
        missing: list[int] = []
        stream = self._clip.decode(0)
        number = 0
        while True:
            try:
                frame = next(stream)
            except StopIteration:
                return
            except InputError as error:
                if self._on_error != "stop" or not self.numbers:
                    raise
                self.error = error
                return
            if frame is not None:
                last = frame
            elif self._on_error == "skip":
                self.skipped += 1
                number += 1
                continue
            missing.append(number)
            number += 1
            if last is None:
                # Nothing to show yet: the first whole frame will stand for these too.
                continue
            self.held += len(missing) - (frame is not None)
            for place in missing:
                self.numbers.append(place)
                yield last
            missing = []

    @property
    def notes(self) -> list[str]:
        """What became of damaged frames."""
        notes = []
        for count, what in ((self.held, "replaced by their neighbours"), (self.skipped, "left out")):
            if count:
                notes.append(f"{self._clip.path}: {count} damaged frame{'s' * (count != 1)} {what}")
        return notes
