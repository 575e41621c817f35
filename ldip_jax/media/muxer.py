"""Writes coded frames to a video file, with the input's timing, sound and metadata."""

import math
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av import Packet
from av.codec.codec import UnknownCodecError
from av.container import Flags
from av.error import FFmpegError
from av.video.stream import VideoStream

from ldip_jax.errors import InputError
from ldip_jax.media.attachments import Attachments, container_options
from ldip_jax.media.clip import Clip
from ldip_jax.media.coding import Coding
from ldip_jax.media.encoder import CodedPacket, configure, keep_scheduling
from ldip_jax.media.outputs import CONTAINERS
from ldip_jax.media.tracks import Tracks

DEFAULT_RATE = Fraction(25)


class Muxer:
    """Writes segments of packets to a video file, one after the other.

    Args:
        file: what is written.
        path: the output that it will be, for messages; its suffix decides the container.
        fps: frames per second; None: those of `like`.
        like: the input.

    Attributes:
        notes: what was decided, and what is left out.
        fps: frames per second, on average.

    Raises:
        InputError: the encoder does not take such frames.
    """

    def __init__(
        self,
        file: Path,
        path: Path,
        coding: Coding,
        *,
        height: int,
        width: int,
        fps: Fraction | None,
        source: Clip | None,
    ):
        self.notes = [coding.note]
        container = CONTAINERS[path.suffix.lower()]
        self._delay = coding.delay
        self._set_clock(fps, source if source is not None and source.fps is not None else None)
        source = source if source is not None and source.kind == "video" else None
        if source is not None and source.color.bits > coding.color.bits:
            self.notes.append(f"{source.color.bits} bits reduced to {coding.color.bits}")
        # Numbers of the frames so far, of which only the last ones are needed, and how many there were.
        self._numbers: list[int] = []
        self._stored, self._last = 0, -1
        self._waiting: Packet | None = None
        self._first_dts: int | None = None
        self._shown_last: int | None = None
        self._tracks: Tracks | None = None
        options = {} if source is None else container_options(container, source.path)
        # By its name: where the library writes through Python, Ctrl-C during a write is lost.
        self._output = av.open(f"file:{file}", "w", format=container, container_options=options)
        # Without random numbers in the file: the same frames give the same bytes.
        self._output.flags |= Flags.bitexact.value
        attachments = None
        try:
            stream = self._output.add_stream(coding.encoder, rate=self.fps, options=dict(coding.options))
            assert isinstance(stream, VideoStream)
            self._stream = stream
            configure(stream.codec_context, coding, height, width, self.fps, source)
            stream.time_base = self._tick
            if coding.encoder == "libx265" and container != "matroska":
                # Apple's players know H.265 by this tag only.
                stream.codec_context.codec_tag = "hvc1"
            if source is not None:
                self._tracks = Tracks(self._output, container, source)
                self._offset = source.start - self._tracks.start
                attachments = Attachments(
                    self._output, stream, container, source.path, source.frame_metadata.stereo, coding.dropped
                )
                self.notes += [*self._tracks.notes, *attachments.notes]
            with keep_scheduling():
                self._output.start_encoding()
            if attachments is not None:
                attachments.begin()
        except BaseException as error:
            self.close()
            if isinstance(error, FFmpegError | UnknownCodecError) and not isinstance(error, OSError):
                raise InputError(
                    f"{path}: {coding.encoder} does not take {width}x{height} frames ({error}); "
                    "give a folder for PNG instead"
                ) from error
            raise

    def _set_clock(self, fps: Fraction | None, source: Clip | None) -> None:
        known = fps or (source.fps if source is not None else None)
        self.fps = known or DEFAULT_RATE
        if known is None:
            self.notes.append(f"{DEFAULT_RATE} frames per second, since images have no frame rate")
        timed = source if source is not None and fps is None else None
        self._times, self._hold, self._count = None, None, None
        if timed is not None:
            self._times, self._hold, self._count = timed.times, timed.hold, timed.count
        self._offset = Fraction(0)
        # Whole ticks per frame, and fine enough for the offset between pictures and sound.
        ticks = self.fps.numerator * -(-1000 // self.fps.numerator)
        if self._times is not None:
            ticks = math.lcm(1000, *(seconds.denominator for seconds in self._times))
            ticks = ticks if ticks <= 1_000_000 else 90_000
        self._tick = Fraction(1, ticks)

    def _seconds(self, number: int) -> Fraction:
        """When a frame is shown, on the output's clock."""
        known = self._times is not None and number < len(self._times)
        seconds = self._times[number] if self._times is not None and known else number / self.fps
        return seconds + self._offset

    def _ticks(self, seconds: Fraction) -> int:
        return round(seconds / self._tick)

    def add(self, packets: Sequence[CodedPacket], numbers: Sequence[int], *, last: bool) -> None:
        """Add a segment.

        Args:
            packets: in stored order.
            numbers: of its frames in the clip, in the order in which they show.
            last: whether no segment follows.
        """
        begin = self._stored - len(self._numbers)
        self._numbers += numbers
        self._last = numbers[-1]
        # Nothing is reordered in so short a clip.
        delay = 0 if last and self._stored + len(numbers) <= 2 else self._delay
        for coded in packets:
            packet = Packet(coded.data)
            packet.stream, packet.time_base = self._stream, self._tick
            number = numbers[coded.display_index]
            packet.pts = self._ticks(self._seconds(number))
            packet.dts = self._decode_time(self._stored - delay - begin)
            packet.duration = self._ticks(1 / self.fps)
            if number + 1 == self._count:
                self._shown_last = packet.pts
                packet.duration = self._ticks(self._hold or 1 / self.fps)
            packet.is_keyframe = coded.is_key_frame
            self._stored += 1
            self._mux(packet)
        if self._delay:
            self._numbers = self._numbers[-self._delay :]
        else:
            self._numbers = []

    def _decode_time(self, place: int) -> int:
        """When a packet is decoded: when the frame at this place in `_numbers` is shown."""
        if place < 0:
            return self._ticks(self._seconds(self._numbers[0]) + place / self.fps)
        return self._ticks(self._seconds(self._numbers[place]))

    def _mux(self, packet: Packet) -> None:
        if self._waiting is None:
            self._first_dts = packet.dts
        else:
            self._output.mux(self._waiting)
        self._waiting = packet
        if self._tracks is not None and packet.dts is not None:
            self._tracks.advance(packet.dts * self._tick)

    def _mux_waiting(self) -> None:
        """Write the packet stored last, which may not be shown last."""
        packet, first_dts, last = self._waiting, self._first_dts, self._shown_last
        if packet is None:
            return
        # MP4 counts the track's length in stored order.
        stored = self._output.format.name != "matroska"
        if stored and last is not None and first_dts is not None and packet.dts is not None:
            length = last + self._ticks(self._hold or 1 / self.fps) - self._ticks(self._offset)
            packet.duration = max(1, length - (packet.dts - first_dts))
        self._output.mux(packet)

    def finish(self) -> None:
        """Write what is still held back."""
        self._mux_waiting()
        if self._tracks is not None:
            known_notes = len(self._tracks.notes)
            early = self._count is not None and self._last + 1 < self._count
            self._tracks.finish(self._seconds(self._last + 1) if early else None)
            self._tracks.close()
            self.notes += self._tracks.notes[known_notes:]
        self._output.close()

    def close(self) -> None:
        """Close the file as it is."""
        with suppress(Exception):
            self._output.close()
        if self._tracks is not None:
            self._tracks.close()
