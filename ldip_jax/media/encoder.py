"""Frames into segments of coded video that decode on their own, and segments on disk."""

import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from av import VideoCodecContext, VideoFrame
from av.codec.context import Flags

from ldip_jax.atomic import atomic_open
from ldip_jax.errors import InputError
from ldip_jax.media.clip import Clip
from ldip_jax.media.coding import Coding


@contextmanager
def keep_scheduling() -> Iterator[None]:
    """Keep the scheduling of this process while an encoder starts.

    SVT-AV1 makes the whole process real-time if it may, as it may for root in a container. Nothing else would
    run on the machine while frames are computed.
    """
    # It also reports its settings each time, unless only fatal errors are to be reported.
    os.environ.setdefault("SVT_LOG", "0")
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            for thread in os.listdir("/proc/self/task"):
                with suppress(OSError):
                    os.sched_setscheduler(int(thread), policy, parameters)


def _pixel_shape(height: int, width: int, source: Clip | None) -> Fraction:
    """Square pixels stay square; others keep the shape of the whole picture."""
    if source is None or source.sample_aspect == 1:
        return Fraction(1)
    across, down = Fraction(width, source.width), Fraction(height, source.height)
    if abs(across - down) * max(source.width, source.height) < 1:
        return source.sample_aspect
    return (source.sample_aspect * down / across).limit_denominator(255)


def configure(
    context: VideoCodecContext, coding: Coding, height: int, width: int, fps: Fraction, source: Clip | None
) -> None:
    """Set the size, layout, colours and clock of an encoder; it counts frames."""
    context.height, context.width, context.pix_fmt = height, width, coding.layout
    context.sample_aspect_ratio = _pixel_shape(height, width, source)
    context.framerate, context.time_base = fps, 1 / fps
    if coding.color.matrix:
        context.colorspace, context.color_range = coding.color.matrix, 2 if coding.color.full_range else 1
    context.color_primaries, context.color_trc = coding.color.primaries, coding.color.transfer


class CodedPacket(NamedTuple):
    """A packet of a segment.

    Attributes:
        display_index: place of its frame among those of the segment, in the order in which they show.
        is_key_frame: whether it decodes on its own.
        data: its bytes.
    """

    display_index: int
    is_key_frame: bool
    data: bytes


class Encoder:
    """Encodes one segment: its first packet is a key frame, and nothing in it refers to other segments.

    Attributes:
        packets: what is encoded so far, in stored order.
    """

    def __init__(self, coding: Coding, height: int, width: int, fps: Fraction, source: Clip | None):
        context = VideoCodecContext.create(coding.encoder, "w")
        assert isinstance(context, VideoCodecContext)
        configure(context, coding, height, width, fps, source)
        context.options = dict(coding.options)
        # Parameter sets belong to the container.
        context.flags |= Flags.global_header.value
        with keep_scheduling():
            context.open()
        self._context, self._tick, self._count = context, 1 / fps, 0
        self.packets: list[CodedPacket] = []

    def encode(self, frame: VideoFrame | None) -> None:
        """Add a frame; None ends the segment."""
        if frame is not None:
            frame.pts, frame.time_base = self._count, self._tick
            self._count += 1
        for packet in self._context.encode(frame):
            assert packet.pts is not None
            self.packets.append(CodedPacket(packet.pts, bool(packet.is_keyframe), bytes(packet)))


def write_segment(path: Path, encoder: Encoder) -> int:
    """Write the packets of a segment; returns a checksum."""
    table = [[shown, key, len(data)] for shown, key, data in encoder.packets]
    head = json.dumps(table).encode() + b"\n"
    checksum = zlib.crc32(head)
    with atomic_open(path) as file:
        file.write(head)
        for _, _, data in encoder.packets:
            checksum = zlib.crc32(data, checksum)
            file.write(data)
    return checksum


def read_segment(path: Path) -> list[CodedPacket]:
    """What `write_segment` wrote."""
    with open(path, "rb") as file:
        return [CodedPacket(shown, key, file.read(size)) for shown, key, size in json.loads(file.readline())]


def checksum_of(path: Path) -> int | None:
    """The checksum of a file's content; None if it cannot be read."""
    checksum = 0
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                checksum = zlib.crc32(block, checksum)
    except OSError:
        return None
    return checksum


class PendingFrames:
    """Frames on disk that wait for the rest of their segment, as the encoder takes them."""

    def __init__(self, path: Path):
        self._path = path
        self._part = path.with_suffix(".part")
        self._file = open(self._part, "wb")  # noqa: SIM115
        self._checksum = 0

    def write(self, data: bytes) -> None:
        """Add a frame."""
        self._checksum = zlib.crc32(data, self._checksum)
        self._file.write(data)

    def finish(self) -> int:
        """Move the file to its name on disk; returns a checksum."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._part, self._path)
        return self._checksum

    def close(self) -> None:
        """Delete the file."""
        with suppress(OSError):
            self._file.close()
            self._part.unlink()


def read_pending_frames(path: Path, count: int) -> Iterator[bytes]:
    """The frames that `PendingFrames` wrote.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        size = path.stat().st_size // count
        with open(path, "rb") as file:
            for _ in range(count):
                yield file.read(size)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); leave --resume out") from error
