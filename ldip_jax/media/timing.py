"""When the frames of a video file are shown: from its packets if these state it, else from the frames."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av import CodecContext, Packet, VideoCodecContext
from av.container import InputContainer
from av.video.stream import VideoStream

from ldip_jax.errors import InputError
from ldip_jax.media.clock import Clock
from ldip_jax.media.container import damaged_error, decode_frames, open_container, video_stream
from ldip_jax.media.sizes import SizeCheck

_DEFAULT_RATE = Fraction(25)


@dataclass(frozen=True)
class Timing:
    """The number of frames, their times, and how many are left out; see `Clip` for the rest."""

    count: int
    fps: Fraction
    left_out: int = 0
    times: list[Fraction] | None = None
    hold: Fraction | None = None


@dataclass
class _Packets:
    """What the packets of the video stream state.

    Attributes:
        stamps: when each shows, in ticks of `unit`, in stored order; None: not said.
        end: when the last to show ends.
        duration: of the packet stored last.
        had_suspects: one was marked as damaged where files are joined, and is whole.
    """

    unit: Fraction
    rates: list[Fraction]
    stated_end: Fraction | None
    stamps: list[int | None]
    end: int | None = None
    duration: int = 0
    had_suspects: bool = False


def read_timing(
    path: Path, clock: Clock, first_pts: int | None, may_hide: bool, *, lenient: bool = False
) -> Timing:
    """Read all packets; also decode all frames if packets do not state when frames are shown.

    Finds a file that is truncated before any work is done on it.

    Args:
        path: the file.
        clock: its clock.
        first_pts: of the first frame that can be decoded.
        may_hide: there may be packets that make no frame of their own.
        lenient: take what there is of a damaged file.

    Raises:
        InputError: damaged or cut short.
    """
    read = _read_packets(path, clock, lenient)
    known = [stamp for stamp in read.stamps if stamp is not None]
    shown: list[int] = []
    if first_pts is not None:
        shown = sorted({stamp for stamp in known if stamp >= first_pts})
    left_out = 0 if first_pts is None else sum(stamp < first_pts for stamp in known)
    certain = first_pts is not None and len(known) == len(read.stamps) == len(shown) + left_out
    # Frames that are stored in the order in which they show: the last packet is the last to show.
    in_order, last = known == sorted(known), read.duration
    if may_hide or read.had_suspects or clock.restarts or not certain:
        shown, last = _decode(path, clock, read, lenient)
        in_order = True
    fps, times = rate_of(shown, read.unit, read.rates)
    until = read.stated_end
    if until is None and in_order and last:
        until = (shown[-1] + last) * read.unit
    hold = None if until is None else until - shown[-1] * read.unit
    if hold is not None and (hold <= 0 or (times is None and hold * fps < Fraction(3, 2))):
        hold = None
    return Timing(len(shown), fps, left_out, times, hold)


def _read_packets(path: Path, clock: Clock, lenient: bool) -> _Packets:
    with open_container(path) as container:
        stream = video_stream(path, container)
        rates = [rate for rate in (stream.guessed_rate, stream.average_rate, stream.base_rate) if rate]
        read = _Packets(stream.time_base or Fraction(1, 1000), rates, None, [])
        key_seen = False
        corruption, sizes = (
            _CorruptionCheck(path, stream.codec_context),
            SizeCheck(path, stream.codec_context),
        )
        try:
            for packet in clock.packets(container, [stream]):
                if packet.size == 0 or packet.is_discard:
                    continue
                key_seen |= packet.is_keyframe
                if key_seen and not lenient:
                    corruption.check_packet(packet, len(read.stamps))
                    sizes.check_packet(packet, len(read.stamps))
                read.stamps.append(packet.pts)
                shown = packet.pts if packet.pts is not None else packet.dts
                if shown is not None:
                    read.duration = packet.duration or 0
                    read.end = (
                        shown + read.duration if read.end is None else max(read.end, shown + read.duration)
                    )
        except InputError:
            raise
        except Exception as error:
            if not lenient or not read.stamps:
                raise damaged_error(path, len(read.stamps)) from error
        corruption.end()
        read.had_suspects = corruption.found_intact
        read.stated_end = _stated_end(container, stream)
        # Matroska counts to the end of the last frame; the lists of edits of MP4 are less precise.
        frames_off = Fraction(3, 2) if "matroska" in container.format.name else 3
        slack = frames_off / (stream.average_rate or _DEFAULT_RATE)
    if (
        read.stated_end is not None
        and read.end is not None
        and read.stated_end - read.end * read.unit > slack
    ):
        if lenient:
            read.stated_end = None
            return read
        held = f"{float(read.end * read.unit):.2f} of {float(read.stated_end):.2f} seconds"
        raise damaged_error(path, len(read.stamps), f"is truncated ({held})")
    return read


class _CorruptionCheck:
    """Packets that a demuxer marks as damaged, which may only mean that two files are joined there.

    What follows such a packet is looked at: where files are joined, a new key frame comes at once, and a
    decoder that forgives nothing takes the packets before it.

    Attributes:
        found_intact: there were such packets, and they are whole.
    """

    def __init__(self, path: Path, context: VideoCodecContext):
        self.found_intact = False
        self._path, self._context = path, context
        # Since the last key frame before the doubt, with the first that may be damaged.
        self._group: list[Packet] = []
        self._suspect: int | None = None
        self._number, self._joined = 0, False

    def check_packet(self, packet: Packet, number: int) -> None:
        """The next packet, that of frame `number`.

        Raises:
            InputError: those before it are damaged.
        """
        if self._suspect is None:
            if packet.is_keyframe:
                self._group = []
            self._group.append(packet)
            if packet.is_corrupt:
                self._suspect, self._number, self._joined = len(self._group) - 1, number, False
            return
        self._joined |= packet.is_keyframe
        if number == self._number + 1:
            # Demuxers mark the packet before the one that lacks something.
            self._group.append(packet)
            return
        self.end()
        self._group = self._group[-1:] if self._group[-1].is_keyframe else []
        self.check_packet(packet, number)

    def end(self) -> None:
        """There are no more packets.

        Raises:
            InputError: packets are damaged.
        """
        if self._suspect is None:
            return
        if not self._joined:
            raise damaged_error(self._path, self._number)
        self._decode_suspects()

    def _decode_suspects(self) -> None:
        context = CodecContext.create(self._context.name, "r")
        context.extradata = self._context.extradata
        context.options = {"err_detect": "explode"}
        context.thread_count = 1
        assert self._suspect is not None
        assert isinstance(context, VideoCodecContext)
        for index, packet in enumerate([*self._group, None]):
            try:
                context.decode(None if packet is None else Packet(bytes(packet)))
            except Exception as error:
                if index >= self._suspect:
                    raise damaged_error(self._path, self._number) from error
        self._suspect = None
        self.found_intact = True


def _decode(path: Path, clock: Clock, read: _Packets, lenient: bool) -> tuple[list[int], int]:
    """When each frame is shown, ascending, and how long the last one is, in ticks; decodes all of them."""
    stamps: list[int | None] = []
    stored: list[int] = []
    last = 0
    with open_container(path) as container:
        stream = video_stream(path, container)
        with closing(decode_frames(path, clock.packets(container, [stream]), lenient=lenient)) as frames:
            for frame in frames:
                stamps.append(frame.pts)
                stored += [] if frame.dts is None else [frame.dts]
                last = frame.duration or 0
    if all(stamp is None for stamp in stamps):
        # When frames were stored tells when they show, but for the reordering.
        stamps = [*sorted(stored), *[None] * (len(stamps) - len(stored))]
    rate = read.rates[0] if read.rates else _DEFAULT_RATE
    return _ascending(stamps, 1 / (rate * read.unit)), last


def _ascending(stamps: Sequence[int | None], step: Fraction) -> list[int]:
    """Ascending times: a frame without a time stamp, or with an earlier one, follows after a step."""
    shown: list[int] = []
    exact = Fraction(0)
    for stamp in stamps:
        if shown and (stamp is None or stamp <= shown[-1]):
            exact += step
            stamp = max(round(exact), shown[-1] + 1)
        else:
            exact = Fraction(stamp or 0)
        shown.append(round(exact))
    return shown


def _stated_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """When the pictures end, in seconds, by the header of the formats that have a reliable one."""
    name = container.format.name
    if stream.duration is not None and stream.time_base is not None and ("mov" in name or name == "avi"):
        return (stream.duration + (stream.start_time or 0)) * stream.time_base
    if "matroska" in name:
        duration = next((v for k, v in stream.metadata.items() if k.upper().startswith("DURATION")), None)
        try:
            if duration is not None:
                hours, minutes, seconds = duration.split(":")
                return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
        except ValueError:
            return None
        if len(container.streams) == 1 and container.duration is not None:
            return Fraction(container.duration, 1_000_000)
    return None


def rate_of(
    stamps: Sequence[int], unit: Fraction, rates: Sequence[Fraction]
) -> tuple[Fraction, list[Fraction] | None]:
    """The rate on whose grid all frames lie within a quarter of a frame; else the mean, and their times."""
    seconds = (np.array(stamps, np.int64) - stamps[0]) * float(unit)
    if len(stamps) > 1:
        mean = ((len(stamps) - 1) / ((stamps[-1] - stamps[0]) * unit)).limit_denominator(1001)
        whole = Fraction(max(1, round(mean)))
        measured = [whole, whole * 1000 / 1001]
    else:
        mean, measured = _DEFAULT_RATE, []
    for rate in [*map(_nominal, rates), *rates, _DEFAULT_RATE, *measured]:
        if np.abs(seconds * float(rate) - np.arange(len(stamps))).max() < 0.25:
            return rate, None
    return mean, [(stamp - stamps[0]) * unit for stamp in stamps]


def _nominal(rate: Fraction) -> Fraction:
    """The broadcast rate, such as 24000/1001, that a container of rounded times came close to."""
    whole = Fraction(max(1, round(rate)))
    return next((near for near in (whole, whole * 1000 / 1001) if abs(rate / near - 1) < 1e-4), rate)
