"""Sound and subtitles of the input, carried over beside the new pictures."""

import io
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av import Packet
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Stream

from ldip_jax.media.attachments import stream_fields, unsupported_language
from ldip_jax.media.clip import Clip
from ldip_jax.media.container import open_container
from ldip_jax.media.layouts import decoded_layouts
from ldip_jax.media.sound import CopiedTrack, TranscodedTrack

_COPIED = {
    "mp4": frozenset({"aac", "alac", "ac3", "eac3", "flac", "mp2", "mp3", "opus", "mov_text"}),
    "mov": frozenset(
        {"aac", "alac", "ac3", "eac3", "mp2", "mp3", "mov_text"}
        | {"pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le"}
    ),
    "matroska": frozenset(
        {"aac", "alac", "ac3", "eac3", "dts", "truehd", "flac", "mp2", "mp3", "opus", "vorbis", "wavpack"}
        | {"pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le", "pcm_u8"}
        | {"subrip", "ass", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle"}
    ),
}
# Packets with which it is tried whether a container takes a track.
_TRIAL_PACKETS = 4


class Tracks:
    """The sound and subtitle streams and the chapters of a file, muxed in step with the pictures.

    Args:
        output: the container being written; its video stream already exists.
        container: library name of its format, "mp4", "mov" or "matroska".
        like: the input.

    Attributes:
        start: seconds of the input's clock that become zero of the output's.
        notes: what is copied, coded again or left out.
    """

    def __init__(self, output: OutputContainer, container: str, source: Clip):
        self.notes: list[str] = []
        self._output, self._path = output, source.path
        self._input = open_container(source.path)
        self._tracks: dict[int, CopiedTrack | TranscodedTrack] = {}
        self._refused = 0
        for stream in [*self._input.streams.audio, *self._input.streams.subtitles]:
            self._add(stream, container)
        copied = sum(isinstance(t, CopiedTrack) and t.stream.type == "audio" for t in self._tracks.values())
        if copied:
            self.notes.append("sound copied" if copied == 1 else f"{copied} sound tracks copied")
        streams = [self._input.streams[index] for index in self._tracks]
        # None: the whole file, of which sound may begin before the pictures.
        self._range = source.track_range
        starts = [start for stream in streams if (start := _start(stream)) is not None]
        self.start = min([source.start, *starts]) if source.track_range is None else source.start
        self._until = None
        if source.track_range is not None and source.track_range[1] is not None:
            self._until = source.track_range[1] - self.start
        self._add_chapters()
        self._packets: Iterator[Any] = source.clock.packets(self._input, streams) if streams else iter(())
        self._pending = self._next()

    def _add(self, source: Any, container: str) -> None:
        codec = source.codec_context.codec.canonical_name if source.codec_context else "unknown"
        sound = source.type == "audio"
        track: CopiedTrack | TranscodedTrack | None = None
        if codec in _COPIED[container] and _container_accepts(container, self._path, source):
            track = CopiedTrack(self._output, source)
        elif sound and source.codec_context:
            track = self._transcode(source, codec)
            if track is None:
                return
        if track is None:
            kind = "sound" if sound else "subtitles"
            self.notes.append(f"{codec} {kind} left out, which the new file cannot hold")
            return
        track.stream.metadata.update(stream_fields(source.metadata))
        if language := unsupported_language(container, source.metadata):
            self.notes.append(f"language {language} of a track left out, which the new file cannot hold")
        track.stream.disposition = source.disposition
        self._tracks[source.index] = track

    def _transcode(self, source: Any, codec: str) -> TranscodedTrack | None:
        """The track coded again; None and a note where it cannot be."""
        layouts = decoded_layouts(self._path, source.index)
        if not layouts:
            why = "whose channels cannot be read" if layouts is None else "of which nothing can be decoded"
            self.notes.append(f"{codec} sound left out, {why}; .mov or .mkv may take it as it is")
            return None
        try:
            track = TranscodedTrack(self._output, source, layouts[0])
        except (FFmpegError, ValueError) as error:
            if isinstance(error, OSError):
                raise
            self.notes.append(f"{codec} sound left out, which cannot be coded as AAC ({layouts[0]})")
            return None
        mixed = f", its {layouts[0]} channels mixed to {track.mixed}" if track.mixed else ""
        self.notes.append(f"{codec} sound coded again as AAC{mixed}")
        if len(layouts) > 1:
            kinds = ", ".join(dict.fromkeys(layouts))
            self.notes.append(f"its channels change on the way ({kinds}): {track.layout} throughout")
        return track

    def _add_chapters(self) -> None:
        """Chapters, on the new clock."""
        chapters: Any = self._input.chapters()
        for chapter in chapters:
            ticks = round(self.start / chapter["time_base"])
            chapter["start"], chapter["end"] = max(0, chapter["start"] - ticks), chapter["end"] - ticks
            if self._until is not None:
                chapter["end"] = min(chapter["end"], round(self._until / chapter["time_base"]))
        if self._range is not None:
            chapters = [chapter for chapter in chapters if chapter["start"] < chapter["end"]]
        if chapters:
            self._output.set_chapters(chapters)

    def _next(self) -> Any:
        try:
            return next(self._packets, None)
        except Exception:
            # The pictures, read before, are whole.
            return None

    def advance(self, seconds: Fraction | None) -> None:
        """Mux what belongs before `seconds` of the output's clock; None: all the rest."""
        while self._pending is not None:
            packet = self._pending
            stamp = packet.dts if packet.dts is not None else packet.pts
            if seconds is not None and stamp is not None and stamp * packet.time_base - self.start > seconds:
                return
            self._mux_packet(packet)
            self._pending = self._next()

    def _inside(self, packet: Packet) -> bool:
        """Whether a packet belongs to the part that the clip is cut to; subtitles are shortened to it."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if packet.size == 0 or stamp is None:
            return True
        unit = Fraction(packet.time_base)
        begin, end = stamp * unit, (stamp + (packet.duration or 0)) * unit
        until = None if self._until is None else self._until + self.start
        if until is not None and begin >= until:
            return False
        if self._range is None or packet.stream.type == "audio":
            return self._range is None or begin >= self.start
        if end <= self.start:
            return False
        ticks = [
            round(max(begin, self.start) / unit),
            round((end if until is None else min(end, until)) / unit),
        ]
        packet.pts = packet.dts = ticks[0]
        packet.duration = ticks[1] - ticks[0]
        return True

    def _mux_packet(self, packet: Packet) -> None:
        if not self._inside(packet):
            return
        results = self._tracks[packet.stream.index].packets(packet, self.start)
        while True:
            try:
                for result in results:
                    self._output.mux(result)
                return
            except FFmpegError as error:
                # No space, or no file any more.
                if isinstance(error, OSError):
                    raise
                # One bad packet of sound must not lose the pictures.
                self._refused += 1

    def finish(self, until: Fraction | None = None) -> None:
        """Mux all the rest, and note what was left out of the tracks.

        Args:
            until: seconds of the output's clock at which the pictures end early; None: they do not.
        """
        if until is not None:
            self._until = until if self._until is None else min(until, self._until)
        self.advance(None)
        dropped = self._refused + sum(track.dropped for track in self._tracks.values())
        if dropped:
            packets = "packet" if dropped == 1 else "packets"
            self.notes.append(f"{dropped} {packets} of sound left out: damaged, or stepping back in time")

    def close(self) -> None:
        self._input.close()


def _start(stream: Any) -> Fraction | None:
    """When a track of sound begins."""
    if stream.type != "audio" or stream.start_time is None or stream.time_base is None:
        return None
    return stream.start_time * stream.time_base


def _container_accepts(container: str, path: Path, source: Stream) -> bool:
    """Whether a container takes a track as it is: tried in memory, before any work."""
    try:
        with open_container(path) as again, av.open(io.BytesIO(), "w", format=container) as trial:
            stream = again.streams[source.index]
            copy = CopiedTrack(trial, stream)
            trial.start_encoding()
            if stream.type == "audio":
                for packet in islice(again.demux(stream), _TRIAL_PACKETS):
                    for result in copy.packets(packet, Fraction(0)):
                        with suppress(OSError):
                            trial.mux(result)
    except (FFmpegError, ValueError):
        return False
    return True
