"""YUV4MPEG2 (y4m) on standard input and output: how other programs pass frames through a pipe."""

import sys
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import av
import numpy as np
from av import VideoFrame
from av.error import EOFError as EndOfFile
from jaxtyping import Float

from ldip_jax.errors import InputError
from ldip_jax.media.clip import Clip
from ldip_jax.media.color import BT709, UNSAID, Color, assume_color
from ldip_jax.media.frames import FromRgb, ToRgb, bits_of, is_grey
from ldip_jax.media.muxer import DEFAULT_RATE
from ldip_jax.media.run_folder import Step
from ldip_jax.untrusted import reason

PIPE = Path("-")
_REMEDY = "pipe YUV4MPEG2 into it, as by ffmpeg -f yuv4mpegpipe -"


def open_pipe() -> Clip:
    """Standard input as a clip, whose frames can be taken only once and from the first on.

    Raises:
        InputError: it is not YUV4MPEG2.
    """
    try:
        container = av.open("pipe:0", format="yuv4mpegpipe")
        stream = container.streams.video[0]
        frames = container.decode(stream)
        first = next(frames)
    except Exception as error:
        raise InputError(f"-: standard input cannot be read ({reason(error)}); {_REMEDY}") from error
    assert isinstance(first, VideoFrame)
    tags = Color(
        matrix=UNSAID,
        primaries=UNSAID,
        transfer=UNSAID,
        full_range=int(first.color_range) == 2 or (is_grey(first.format) and int(first.color_range) != 1),
        bits=bits_of(first.format),
    )
    color = assume_color(tags, first.height, first.width)
    to_rgb = ToRgb(color, "C420jpeg" in str(stream.metadata))

    def decode(begin: int) -> Iterator[np.ndarray | None]:
        number, frame = 0, first
        while True:
            if number >= begin:
                yield to_rgb(frame)
            number += 1
            try:
                following = next(frames)
            except (StopIteration, EndOfFile):
                return
            except Exception as error:
                raise InputError(f"-: is damaged at frame {number} ({reason(error)})") from error
            assert isinstance(following, VideoFrame)
            frame = following

    return Clip(
        path=PIPE,
        kind="images",
        height=first.height,
        width=first.width,
        count=None,
        fps=stream.average_rate or stream.guessed_rate or DEFAULT_RATE,
        names=[],
        notes=[],
        color=color,
        decode=decode,
        sample_aspect=stream.sample_aspect_ratio or Fraction(1),
        assumptions=[f"no colour matrix is tagged: {color} is assumed from its size"],
    )


class PipeWriter:
    """Writes frames to standard output as YUV4MPEG2; used like `Writer`, but can never resume.

    Args:
        like: the input, whose rate and colours are kept.
        deep: 10 bits instead of 8.
    """

    complete = False
    resumable_folder: Path | None = None
    resumed_frames = discarded_frames = 0
    steps: tuple[Step, ...] = ()

    def held_bytes(self, count: int | None) -> int:
        """As of `Writer`: nothing waits."""
        del count
        return 0

    def __init__(self, height: int, width: int, source: Clip, *, high_depth: bool):
        odd = bool(height % 2 or width % 2)
        bits = 10 if high_depth else 8
        base = BT709 if source.color.matrix == 0 else source.color
        color = Color(base.matrix, base.primaries, base.transfer, base.full_range, bits)
        layout = f"yuv{'444' if odd else '420'}p" + ("10le" if high_depth else "")
        self.path = PIPE
        self.notes = [f"YUV4MPEG2, {bits} bits, {color}, without sound"]
        self.finished = 0
        self._convert = FromRgb(color, layout)
        chroma = ("444" if odd else "420" if high_depth else "420mpeg2") + (
            "p10 XYSCSS=" if high_depth else ""
        )
        chroma += ("444P10" if odd else "420P10") if high_depth else ""
        fps, aspect = source.fps or DEFAULT_RATE, source.sample_aspect
        self._head = (
            f"YUV4MPEG2 W{width} H{height} F{fps.numerator}:{fps.denominator} Ip"
            f" A{aspect.numerator}:{aspect.denominator} C{chroma}"
            f" XCOLORRANGE={'FULL' if color.full_range else 'LIMITED'}\n"
        )
        self._file: BinaryIO = sys.stdout.buffer

    def __enter__(self) -> "PipeWriter":
        return self

    def begin(self, count: int) -> None:
        """As of `Writer`; nothing to do."""

    def write(self, frame: Float[np.ndarray, "h w 3"], number: int | None = None) -> None:
        """Write a frame of R'G'B' in [0, 1]; values beyond are clipped.

        Raises:
            BrokenPipeError: nobody reads it any more.
        """
        if self.finished == 0:
            self._file.write(self._head.encode())
        self._file.write(b"FRAME\n" + self._convert.to_bytes(self._convert(frame)))
        self._file.flush()
        self.finished += 1

    def end(self, extra: Mapping[str, Any] | None = None) -> None:
        """As of `Writer`; nothing to do."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
