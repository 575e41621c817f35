"""A track of sound or subtitles for another file: copied, or encoded again as AAC."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from av import AudioFormat, AudioFrame, AudioResampler, Packet
from av.audio.stream import AudioStream
from av.codec import Codec
from av.container import OutputContainer
from av.stream import Stream

from ldip_jax.media.layouts import aac_layout

_FRAME = 1024
# What an encoder puts before the sound is shorter, in seconds; more than that was cut away by someone.
_LONGEST_LEAD = Fraction(3, 25)
# Clocks that are this far off what was decoded, in seconds, are followed; less is rounding of coarse clocks.
_DRIFT = Fraction(3, 20)
# A longer gap is an error of the clock.
_LONGEST_GAP = 3600


class CopiedTrack:
    """Packets as they are, without what the file cuts away.

    Attributes:
        stream: of the output.
        dropped: packets left out since they repeat or step back in time.
    """

    def __init__(self, output: OutputContainer, source: Stream):
        self.stream: Stream = output.add_stream_from_template(source)
        self.dropped = 0
        self._last: int | None = None
        # Packets before the first that is heard: an encoder's lead-in, or sound that was cut away.
        self._silent: list[Packet] = []
        self._cut = False

    def packets(self, packet: Packet, shift: Fraction) -> Iterator[Packet]:
        """The packet, `shift` seconds earlier, with the encoder's lead-in before the first."""
        if packet.size == 0 or (packet.dts is None and packet.pts is None):
            return
        if packet.is_discard:
            if self._last is None:
                self._silent.append(packet)
            return
        if self._silent and packet.pts is not None:
            lead = (packet.pts - (self._silent[0].pts or 0)) * Fraction(packet.time_base)
            self._cut, silent, self._silent = lead > _LONGEST_LEAD, self._silent, []
            for before in () if self._cut else silent:
                yield from self._shifted(before, shift)
            if self._cut and packet.pts < (packet.stream.start_time or 0):
                # Begins before the cut.
                return
        yield from self._shifted(packet, shift)

    def _shifted(self, packet: Packet, shift: Fraction) -> Iterator[Packet]:
        ticks = round(shift / Fraction(packet.time_base))
        packet.pts = None if packet.pts is None else packet.pts - ticks
        packet.dts = packet.pts if packet.dts is None else packet.dts - ticks
        if self.stream.type == "audio":
            if packet.dts is not None and self._last is not None and packet.dts <= self._last:
                self.dropped += 1
                return
            self._last = packet.dts
        packet.stream = self.stream
        yield packet


class TranscodedTrack:
    """Sound decoded and encoded again as AAC; it follows the clock but is counted in samples.

    Args:
        output: the container being written.
        source: the track.
        layout: of its first frames.

    Attributes:
        stream: of the output.
        dropped: packets and frames left out: damaged, or stepping back in time.
        mixed: the layout of AAC where it does not keep every channel; else None.

    Raises:
        FFmpegError, ValueError: it cannot be converted.
    """

    def __init__(self, output: OutputContainer, source: AudioStream, layout: str):
        context = source.codec_context
        rate = context.sample_rate if context.sample_rate in (Codec("aac", "w").audio_rates or ()) else 48000
        found = aac_layout(layout)
        if found is None:
            raise ValueError(f"{layout} are too many")
        target, kept = found
        self.mixed = None if kept else target
        self.dropped = 0
        self._rate, self._layout = rate, target
        self._resampler: AudioResampler | None = None
        self._kind: tuple[str, str, int] | None = None
        self._check_conversion(context.format.name, layout, context.sample_rate)
        stream = output.add_stream("aac", rate=rate, layout=target)
        stream.bit_rate = 96_000 * max(1, min(stream.codec_context.layout.nb_channels, 6))
        self.stream: Stream = stream
        self._encode = stream.encode
        # Samples of the output's clock handed to the encoder; and seconds decoded since `_begin`.
        self._next: int | None = None
        self._begin = self._decoded = Fraction(0)

    @property
    def layout(self) -> str:
        """The layout of the new track."""
        return self._layout

    def _check_conversion(self, sample_format: str, layout: str, rate: int) -> None:
        resampler = AudioResampler("fltp", self._layout, self._rate, frame_size=_FRAME)
        resampler.resample(_silence(sample_format, layout, rate, _FRAME))
        resampler.resample(None)

    def packets(self, packet: Packet, shift: Fraction) -> Iterator[Packet]:
        """The packets made from this one, `shift` seconds earlier; an empty packet flushes the rest."""
        frames: Any = ()
        try:
            frames = packet.decode()
        except Exception:
            # A damaged packet is a short silence, no reason to lose the pictures.
            self.dropped += 1
        for frame in frames:
            yield from self._frame(frame, shift)
        if packet.size == 0:
            yield from self._flush()
            yield from self._encode(None)

    def _frame(self, frame: AudioFrame, shift: Fraction) -> Iterator[Packet]:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if frame.samples == 0 or kind[2] <= 0:
            return
        if kind != self._kind:
            # The track changes its layout, rate or format.
            yield from self._flush()
            self._kind = kind
            self._resampler = AudioResampler("fltp", self._layout, self._rate, frame_size=_FRAME)
        if frame.pts is not None:
            seconds = frame.pts * Fraction(frame.time_base or 0) - shift
            if self._next is None:
                self._next, self._begin = round(seconds * self._rate), seconds
            off = seconds - (self._begin + self._decoded)
            if off < -_DRIFT:
                self.dropped += 1
                return
            if off > _LONGEST_GAP:
                self._begin += off
            elif off > _DRIFT:
                yield from self._fill_gap(kind, off)
        elif self._next is None:
            self._next = 0
        self._decoded += Fraction(frame.samples, kind[2])
        yield from self._encode_frame(frame)

    def _fill_gap(self, kind: tuple[str, str, int], seconds: Fraction) -> Iterator[Packet]:
        """Fill a gap of the track."""
        left = round(seconds * kind[2])
        self._decoded += Fraction(left, kind[2])
        while left > 0:
            count = min(left, kind[2])
            yield from self._encode_frame(_silence(*kind, count))
            left -= count

    def _encode_frame(self, frame: AudioFrame | None) -> Iterator[Packet]:
        if self._resampler is None:
            return
        if frame is not None:
            frame.pts = None
        for piece in self._resampler.resample(frame):
            piece.pts, piece.time_base = self._next, Fraction(1, self._rate)
            self._next = (self._next or 0) + piece.samples
            yield from self._encode(piece)

    def _flush(self) -> Iterator[Packet]:
        yield from self._encode_frame(None)
        self._resampler = None


def _silence(sample_format: str, layout: str, rate: int, samples: int) -> AudioFrame:
    frame = AudioFrame(sample_format, layout, samples)
    quiet = 128 if AudioFormat(sample_format).name in ("u8", "u8p") else 0
    for plane in frame.planes:
        plane.update(np.full(plane.buffer_size, quiet, np.uint8).tobytes())
    frame.sample_rate = rate
    return frame
