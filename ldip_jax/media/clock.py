"""The clock of a media file, made continuous where it restarts.

Broadcast formats (MPEG-TS, VOB, chained Ogg) may restart their clock at any packet, as where two recordings
are joined end to end. Like a player, this puts the parts one behind the other, pictures and sound together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from av import Packet
from av.container import InputContainer
from av.format import Flags
from av.stream import Stream

# A clock that steps back further, or ahead of all streams further, in seconds, has restarted.
_BACK, _AHEAD = 0.1, 10.0
# Sound may overlap a join by this much before the pictures wait for it.
_OVERLAP = Fraction(1, 10)


@dataclass
class _StreamExtent:
    """When a stream begins and ends in a part, in seconds; `step` at least from packet to packet."""

    begin: Fraction
    shown: Fraction
    end: Fraction
    stored: Fraction
    step: Fraction = Fraction(0)

    def add(self, shown: Fraction, stored: Fraction, duration: Fraction) -> None:
        self.begin, self.shown = min(self.begin, shown), max(self.shown, shown)
        if stored > self.stored:
            step = stored - self.stored
            self.step, self.stored = min(self.step or step, step), stored
        # Where packets do not say how long they last, the last one is as long as any.
        self.end = max(self.end, shown + duration, self.shown + self.step)


@dataclass
class _Part:
    """A part between two restarts: the clock's range, and each stream's extent, in seconds."""

    earliest: float
    latest: float
    extents: dict[int, _StreamExtent] = field(default_factory=dict)


class _Parts:
    """Finds the part of the file that each packet belongs to, from only the packets before it."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self._at: dict[int, int] = {}
        self._last: dict[int, float] = {}

    def part_of(self, packet: Packet) -> int:
        """The index of the packet's part."""
        key = packet.stream.index
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None:
            return self._at.get(key, max(0, len(self.parts) - 1))
        seconds = float(stamp * packet.time_base)
        at = self._at.get(key)
        if at is None or not self._continues(key, at, seconds):
            at = self._find_part(packet, at, seconds)
        self._at[key], self._last[key] = at, seconds
        part = self.parts[at]
        part.earliest, part.latest = min(part.earliest, seconds), max(part.latest, seconds)
        return at

    def _continues(self, key: int, at: int, seconds: float) -> bool:
        return self._last[key] - _BACK <= seconds <= max(self._last[key], self.parts[at].latest) + _AHEAD

    def _find_part(self, packet: Packet, at: int | None, seconds: float) -> int:
        """A part that another stream is in already, else a new one."""
        later = range(0 if at is None else at + 1, len(self.parts))
        order = reversed(later) if at is None else later
        for index in order:
            if self.parts[index].earliest - _AHEAD <= seconds <= self.parts[index].latest + _AHEAD:
                return index
        # Subtitles are too sparse to tell.
        if self.parts and packet.stream.type == "subtitle":
            return len(self.parts) - 1 if at is None else at
        self.parts.append(_Part(seconds, seconds))
        return len(self.parts) - 1

    def record(self, packet: Packet, at: int) -> None:
        """Record when the packet is presented."""
        shown = packet.pts if packet.pts is not None else packet.dts
        if shown is None or packet.stream.type == "subtitle":
            return
        unit = Fraction(packet.time_base)
        shows = shown * unit
        stored = shows if packet.dts is None else packet.dts * unit
        extent = self.parts[at].extents.setdefault(
            packet.stream.index, _StreamExtent(shows, shows, shows, stored)
        )
        extent.add(shows, stored, (packet.duration or 0) * unit)


@dataclass(frozen=True)
class Clock:
    """Seconds to add to the file's clock in each part; one part if the clock never restarts."""

    offsets: tuple[Fraction, ...] = (Fraction(0),)

    @property
    def restarts(self) -> int:
        return len(self.offsets) - 1

    def packets(self, container: InputContainer, streams: Sequence[Stream]) -> Iterator[Packet]:
        """The packets of some streams in file order, on the continuous clock.

        Raises:
            Exception: of the media library: the file is damaged.
        """
        if not self.restarts:
            yield from container.demux(*streams)
            return
        parts = _Parts()
        indices = {stream.index for stream in streams}
        for packet in _timed(container):
            if packet.size:
                self._shift(packet, self.offsets[min(parts.part_of(packet), self.restarts)])
            if packet.stream.index in indices:
                yield packet

    def _shift(self, packet: Packet, seconds: Fraction) -> None:
        ticks = round(seconds / Fraction(packet.time_base))
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks


def read_clock(container: InputContainer, pictures: Stream) -> Clock:
    """The clock of a file. If the format allows restarts, all packets are read."""
    if not container.format.flags & Flags.ts_discont.value:
        return Clock()
    parts = _Parts()
    try:
        for packet in _timed(container):
            if packet.size:
                parts.record(packet, parts.part_of(packet))
    except Exception:
        # Whoever reads the packets for their own sake reports it.
        pass
    return Clock(_offsets(parts.parts, pictures.index))


def _timed(container: InputContainer) -> Iterator[Packet]:
    streams: Any = container.streams
    return container.demux(*streams.video, *streams.audio, *streams.subtitles)


def _offsets(parts: Sequence[_Part], pictures: int) -> tuple[Fraction, ...]:
    """Each part begins when the pictures of the parts before it end, or later if sound would be lost."""
    offsets: list[Fraction] = []
    ends: dict[int, Fraction] = {}
    for part in parts:
        held = {key: extent.begin for key, extent in part.extents.items() if key in ends}
        shifts = {key: ends[key] - begin for key, begin in held.items()}
        offset = max(shifts.values(), default=offsets[-1] if offsets else Fraction(0))
        if pictures in shifts and offset <= shifts[pictures] + _OVERLAP:
            offset = shifts[pictures]
        offsets.append(offset)
        for key, extent in part.extents.items():
            ends[key] = max(ends.get(key, extent.end + offset), extent.end + offset)
    return tuple(offsets) or (Fraction(0),)
