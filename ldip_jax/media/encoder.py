"""Frames into a video file: H.264 or H.265, or an exact codec, with the input's colours, timing and sound."""

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av import VideoFrame
from av.codec.codec import UnknownCodecError
from av.error import FFmpegError
from av.video.stream import VideoStream
from jaxtyping import Float

from ldip_jax.atomic import atomic_open
from ldip_jax.errors import InputError
from ldip_jax.media.clip import Clip
from ldip_jax.media.color import BT709, SRGB, Color
from ldip_jax.media.frames import FromRgb
from ldip_jax.media.outputs import CONTAINERS
from ldip_jax.media.tracks import Tracks

DEFAULT_RATE = Fraction(25)
DEFAULT_CRF = 18
_LIBRARIES = {"h264": ("libx264", "H.264"), "h265": ("libx265", "H.265")}
# Below about 50 columns x265 writes beyond its buffers and may abort the process.
_SMALLEST_H265 = 64


@dataclass(frozen=True)
class Coding:
    """An encoder with its settings, and one sentence about them."""

    encoder: str
    layout: str
    color: Color
    options: dict[str, str]
    note: str


def choose_coding(
    path: Path,
    *,
    height: int,
    width: int,
    like: Clip | None,
    bit_depth: int,
    crf: int | None,
    lossless: bool,
    codec: str,
) -> Coding:
    """The encoder for a video file.

    Raises:
        InputError: settings that do not go together.
    """
    if codec not in _LIBRARIES:
        raise InputError(f"codec {codec}: not available; choose h264 or h265")
    if bit_depth not in (8, 16):
        raise InputError(f"bit depth {bit_depth}: choose 8 or 16 (video is then written with 10 bits)")
    if lossless:
        return _lossless(path, like, bit_depth)
    crf = DEFAULT_CRF if crf is None else crf
    if not 0 <= crf <= 51:
        raise InputError(f"crf {crf}: choose a number from 0 (best) to 51 (smallest), such as {DEFAULT_CRF}")
    if codec == "h265" and width < _SMALLEST_H265:
        raise InputError(f"{path}: H.265 needs frames of at least {_SMALLEST_H265} columns; take h264")
    encoder, name = _LIBRARIES[codec]
    bits = 8 if bit_depth == 8 else 10
    # Tagged in full, in the coding of the input: no player may guess another matrix from the larger size.
    color = BT709 if like is None or like.color.matrix == 0 else like.color
    odd = height % 2 or width % 2
    layout = ("yuv444p" if odd else "yuv420p") + ("" if bits == 8 else "10le")
    options = {"crf": str(crf), "preset": "medium"}
    if codec == "h265":
        options["x265-params"] = "log-level=error"
    note = f"{name}, crf {crf}, {bits} bits, {color}"
    if odd:
        note += ", 4:4:4 chroma since the size is odd"
    return Coding(encoder, layout, replace(color, bits=bits), options, note)


def _lossless(path: Path, like: Clip | None, bit_depth: int) -> Coding:
    """Codecs of R'G'B', since no Y'CbCr of the same bits gives every R'G'B' colour back."""
    color = replace(SRGB if like is None else like.color, matrix=0, full_range=True, bits=bit_depth)
    if CONTAINERS[path.suffix.lower()] == "matroska":
        layout = "bgr0" if bit_depth == 8 else "rgb48le"
        note = f"lossless FFV1, RGB, {bit_depth} bits"
        return Coding("ffv1", layout, color, {"level": "3", "slicecrc": "1"}, note)
    if bit_depth == 16:
        raise InputError(f"{path}: lossless video of 16 bits needs .mkv; end the name so, or take 8 bits")
    note = "lossless H.264, RGB, 8 bits, which few players show"
    return Coding("libx264rgb", "rgb24", color, {"qp": "0", "preset": "medium"}, note)


def _pixel_shape(height: int, width: int, like: Clip | None) -> Fraction:
    """Square pixels stay square; others keep the shape of the whole picture."""
    if like is None or like.sample_aspect == 1:
        return Fraction(1)
    across, down = Fraction(width, like.width), Fraction(height, like.height)
    if abs(across - down) * max(like.width, like.height) < 1:
        return like.sample_aspect
    return (like.sample_aspect * down / across).limit_denominator(255)


class VideoSink:
    """Encodes frames into a file that appears under its name at `finish` only.

    Raises:
        InputError: the encoder does not take such frames, or the file cannot be written.
    """

    def __init__(
        self, path: Path, coding: Coding, *, height: int, width: int, fps: Fraction | None, like: Clip | None
    ):
        self.notes = [coding.note]
        container = CONTAINERS[path.suffix.lower()]
        like = like if like is not None and like.kind == "video" else None
        self._set_clock(fps, like)
        if like is not None and like.color.bits > coding.color.bits:
            self.notes.append(f"{like.color.bits} bits reduced to {coding.color.bits}")
        self._convert = FromRgb(coding.color, coding.layout)
        self._number = 0
        self._waiting: av.Packet | None = None
        self._tracks: Tracks | None = None
        self._file = atomic_open(path)
        self._output = av.open(self._file.__enter__(), "w", format=container)
        try:
            stream = self._output.add_stream(coding.encoder, rate=self._fps, options=coding.options)
            assert isinstance(stream, VideoStream)
            self._stream = stream
            self._configure(coding, height, width, container, _pixel_shape(height, width, like))
            if like is not None:
                self._tracks = Tracks(self._output, container, like.path, like.start)
                self._offset = like.start - self._tracks.start
                self.notes += self._tracks.notes
            self._output.start_encoding()
        except BaseException as error:
            self.discard()
            if isinstance(error, FFmpegError | UnknownCodecError) and not isinstance(error, OSError):
                raise InputError(
                    f"{path}: {coding.encoder} does not take {width}x{height} frames ({error}); "
                    "give a folder for PNG instead"
                ) from error
            raise

    def _set_clock(self, fps: Fraction | None, like: Clip | None) -> None:
        known = fps or (like.fps if like is not None else None)
        self._fps = known or DEFAULT_RATE
        if known is None:
            self.notes.append(f"{DEFAULT_RATE} frames per second, since images have no frame rate")
        timed = like if like is not None and fps is None else None
        self._times, self._hold, self._count = None, None, None
        if timed is not None:
            self._times, self._hold, self._count = timed.times, timed.hold, timed.count
        # Ticks: when the last frame shows, and the first packet's decoding time.
        self._last, self._begun = None, None
        self._offset = Fraction(0)
        # Whole ticks per frame, and fine enough for the offset between pictures and sound.
        ticks = self._fps.numerator * -(-1000 // self._fps.numerator)
        if self._times is not None:
            ticks = math.lcm(1000, *(seconds.denominator for seconds in self._times))
            ticks = ticks if ticks <= 1_000_000 else 90_000
        self._tick = Fraction(1, ticks)

    def _configure(self, coding: Coding, height: int, width: int, container: str, aspect: Fraction) -> None:
        context = self._stream.codec_context
        context.height, context.width, context.pix_fmt = height, width, coding.layout
        context.sample_aspect_ratio = aspect
        context.time_base = self._tick
        if coding.color.matrix:
            context.colorspace, context.color_range = coding.color.matrix, 2 if coding.color.full_range else 1
        context.color_primaries, context.color_trc = coding.color.primaries, coding.color.transfer
        if coding.encoder == "libx265" and container != "matroska":
            # Apple's players know H.265 by this tag only.
            context.codec_tag = "hvc1"

    def write(self, rgb: Float[np.ndarray, "h w 3"]) -> None:
        if self._times is not None and self._number < len(self._times):
            seconds = self._times[self._number]
        else:
            seconds = self._number / self._fps
        frame = self._convert(rgb)
        frame.pts, frame.time_base = round((seconds + self._offset) / self._tick), self._tick
        if self._number + 1 == self._count:
            self._last = frame.pts
        self._mux(frame)
        if self._tracks is not None:
            self._tracks.advance(seconds + self._offset)
        self._number += 1

    def _mux(self, frame: VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            # Encoders leave this open, and the muxer then has to guess how long the last frame shows.
            shown_last = self._last is not None and packet.pts == self._last
            packet.duration = self._ticks(self._hold if shown_last else None)
            if frame is None and self._number <= 2:
                # Nothing is reordered yet, but x265 gives such clips random decoding times.
                packet.dts = packet.pts
            if self._waiting is None:
                self._begun = packet.dts
            else:
                self._output.mux(self._waiting)
            self._waiting = packet

    def _ticks(self, seconds: Fraction | None) -> int:
        """A frame's duration, the usual one unless another is given."""
        return round((seconds or 1 / self._fps) / self._tick)

    def _mux_waiting(self) -> None:
        """The packet stored last, which may not show last."""
        packet, begun, last = self._waiting, self._begun, self._last
        if packet is None:
            return
        # MP4 counts the track's length in stored order.
        stored = self._output.format.name != "matroska"
        if stored and last is not None and begun is not None and packet.dts is not None:
            length = last + self._ticks(self._hold) - round(self._offset / self._tick)
            packet.duration = max(1, length - (packet.dts - begun))
        self._output.mux(packet)

    def finish(self) -> None:
        """Write what is still held back and give the file its name."""
        self._mux(None)
        self._mux_waiting()
        if self._tracks is not None:
            self._tracks.advance(None)
            self._tracks.close()
        self._output.close()
        self._file.__exit__(None, None, None)

    def discard(self) -> None:
        """Leave nothing behind."""
        with suppress(Exception):
            self._output.close()
        if self._tracks is not None:
            self._tracks.close()
        failure = RuntimeError("discarded")
        with suppress(InputError):
            self._file.__exit__(RuntimeError, failure, None)
