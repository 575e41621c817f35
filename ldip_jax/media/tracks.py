"""Sound and subtitles of the input, carried over beside the new pictures."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from av import AudioResampler, Packet
from av.audio.stream import AudioStream
from av.codec import Codec
from av.container import OutputContainer
from av.error import FFmpegError
from av.stream import Stream

from ldip_jax.media.video import open_container

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
_AAC_LAYOUTS = frozenset({"mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1"})
_STREAM_FIELDS = ("language", "title")
_FILE_FIELDS = frozenset(
    {"title", "artist", "author", "album", "comment", "description", "synopsis", "copyright", "date", "genre"}
    | {"creation_time", "location"}
)


class _Copy:
    """Packets as they are."""

    def __init__(self, output: OutputContainer, source: Stream):
        self.stream: Stream = output.add_stream_from_template(source)

    def packets(self, packet: Packet, shift: Fraction) -> Iterator[Packet]:
        if packet.size == 0 or (packet.dts is None and packet.pts is None):
            return
        ticks = round(shift / Fraction(packet.time_base))
        packet.pts = None if packet.pts is None else packet.pts - ticks
        packet.dts = packet.pts if packet.dts is None else packet.dts - ticks
        packet.stream = self.stream
        yield packet


class _Transcode:
    """Sound decoded and coded again as AAC."""

    def __init__(self, output: OutputContainer, source: AudioStream):
        context = source.codec_context
        rate = context.sample_rate if context.sample_rate in (Codec("aac", "w").audio_rates or ()) else 48000
        layout = context.layout.name if context.layout.name in _AAC_LAYOUTS else "mono"
        if layout == "mono" and context.channels > 1:
            layout = "stereo"
        stream = output.add_stream("aac", rate=rate, layout=layout)
        stream.bit_rate = 96_000 * max(1, min(context.channels, 6))
        self.stream: Stream = stream
        self._encode = stream.encode
        self._resampler = AudioResampler("fltp", layout, rate, frame_size=1024)

    def packets(self, packet: Packet, shift: Fraction) -> Iterator[Packet]:
        try:
            frames: Any = packet.decode()
        except FFmpegError:
            # A damaged packet is a short silence, no reason to lose the pictures.
            return
        for frame in frames:
            if frame.pts is not None:
                frame.pts -= round(shift / Fraction(frame.time_base))
            for piece in self._resampler.resample(frame):
                yield from self._encode(piece)
        if packet.size == 0:
            for piece in self._resampler.resample(None):
                yield from self._encode(piece)
            yield from self._encode(None)


class Tracks:
    """The sound and subtitle streams, the chapters and the titles of a file, muxed in step with the pictures.

    Args:
        output: the container being written; its video stream is there already.
        container: library name of its format, "mp4", "mov" or "matroska".
        source: the input file.
        video_start: when its first picture shows, in seconds of its clock.

    Attributes:
        start: seconds of the input's clock that become zero of the output's.
        notes: what is copied, coded again or left out.
    """

    def __init__(self, output: OutputContainer, container: str, source: Path, video_start: Fraction):
        self.notes: list[str] = []
        self._output = output
        self._input = open_container(source)
        self._tracks: dict[int, _Copy | _Transcode] = {}
        for stream in [*self._input.streams.audio, *self._input.streams.subtitles]:
            self._add(stream, _COPIED[container])
        copied = sum(isinstance(t, _Copy) and t.stream.type == "audio" for t in self._tracks.values())
        if copied:
            self.notes.append("sound copied" if copied == 1 else f"{copied} sound tracks copied")
        kept = [self._input.streams[index] for index in self._tracks]
        starts = [
            stream.start_time * stream.time_base
            for stream in kept
            if stream.type == "audio" and stream.start_time is not None and stream.time_base is not None
        ]
        self.start = min([video_start, *starts])
        self._describe()
        self._packets: Iterator[Any] = self._input.demux(*kept) if kept else iter(())
        self._pending = self._next()

    def _add(self, source: Any, copied: frozenset[str]) -> None:
        codec = source.codec_context.codec.canonical_name if source.codec_context else "unknown"
        if codec in copied:
            track = _Copy(self._output, source)
        elif source.type == "audio" and source.codec_context:
            track = _Transcode(self._output, source)
            self.notes.append(f"{codec} sound coded again as AAC")
        else:
            kind = "sound" if source.type == "audio" else "subtitles"
            self.notes.append(f"{codec} {kind} left out, which the new file cannot hold")
            return
        track.stream.metadata.update({k: v for k, v in source.metadata.items() if k in _STREAM_FIELDS})
        track.stream.disposition = source.disposition
        self._tracks[source.index] = track

    def _describe(self) -> None:
        """Title and chapters; what describes the old file itself, such as its encoder, stays behind."""
        kept = {k: v for k, v in self._input.metadata.items() if k.lower() in _FILE_FIELDS}
        self._output.metadata.update(kept)
        chapters: Any = self._input.chapters()
        for chapter in chapters:
            ticks = round(self.start / chapter["time_base"])
            chapter["start"], chapter["end"] = max(0, chapter["start"] - ticks), chapter["end"] - ticks
        if chapters:
            self._output.set_chapters(chapters)

    def _next(self) -> Any:
        try:
            return next(self._packets, None)
        except FFmpegError:
            return None

    def advance(self, seconds: Fraction | None) -> None:
        """Mux what belongs before `seconds` of the output's clock; None: all the rest."""
        while self._pending is not None:
            packet = self._pending
            stamp = packet.dts if packet.dts is not None else packet.pts
            if seconds is not None and stamp is not None and stamp * packet.time_base - self.start > seconds:
                return
            for result in self._tracks[packet.stream.index].packets(packet, self.start):
                self._output.mux(result)
            self._pending = self._next()

    def close(self) -> None:
        self._input.close()
