"""What a file holds besides pictures and sound: titles and tags, cover art, fonts, timecode, stereo mode.

What the new file can hold is carried over; what it cannot is named.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from av import Packet
from av.container import InputContainer, OutputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from ldip_jax.media.container import open_container, video_stream
from ldip_jax.media.frame_metadata import STEREO

# What describes the old file itself, or its coding.
_OF_THE_FILE = frozenset(
    {"encoder", "major_brand", "minor_version", "compatible_brands", "rotate", "duration", "handler_name"}
    | {"vendor_id", "creation_app", "software", "service_name", "service_provider", "isft", "encoded_by"}
)
# Tags that MP4 and QuickTime files have a place of their own for; any other makes them use free keys.
_PLACED = frozenset({"title", "artist", "album", "comment", "date", "genre", "copyright", "description"})
_PLACED |= {"creation_time", "location", "timecode", "synopsis", "album_artist", "composer", "track"}
_QUICKTIME_LANGUAGES = frozenset(
    {"und", "eng", "fra", "ita", "spa", "dan", "por", "nor", "heb", "jpn", "ara", "fin", "tur", "urd", "hin"}
    | {"tha", "kor", "lit", "pol", "hun", "est", "lav", "rus"}
)
_COVERS_WITHIN = 1000
_IMAGES = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}


class Attachments:
    """Copies these from the input file to the output file.

    Args:
        output: the container being written; `video` is its stream of pictures.
        container: library name of its format, "mp4", "mov" or "matroska".
        source: the input file.
        stereo: how its frames hold two views; see `FrameMetadata`.
        lost: what the encoder leaves out already.

    Attributes:
        notes: what is left out, in one line if anything is.
    """

    def __init__(
        self,
        output: OutputContainer,
        video: VideoStream,
        container: str,
        source: Path,
        stereo: str | None,
        dropped: Iterable[str],
    ):
        self._output, self._container = output, container
        self._covers: list[tuple[Any, bytes]] = []
        dropped = list(dropped)
        with open_container(source) as held:
            chosen = video_stream(source, held)
            self._tag(video, chosen, held.metadata, dropped)
            if stereo and not self._tag_stereo(video, stereo):
                dropped.append(f"stereo mode ({stereo})")
            self._attach(held, dropped)
            self._add_covers(held, dropped)
        self.notes = [f"left out, which the new file cannot hold: {', '.join(dropped)}"] if dropped else []

    def _tag(
        self, video: VideoStream, chosen: VideoStream, of_file: Mapping[str, str], dropped: list[str]
    ) -> None:
        self._output.metadata.update(_portable_tags(of_file))
        video.metadata.update(stream_fields(chosen.metadata))
        if language := unsupported_language(self._container, chosen.metadata):
            dropped.append(f"language of the pictures ({language})")
        for key, value in chosen.metadata.items():
            if key.lower() == "timecode":
                video.metadata["timecode"] = value
        video.disposition = chosen.disposition

    def _tag_stereo(self, video: VideoStream, stereo: str) -> bool:
        """Whether the file or its H.264 says so."""
        if self._container == "matroska" and not stereo.startswith("kind"):
            video.metadata["stereo_mode"] = STEREO.get(stereo, (stereo,))[0]
            return True
        return stereo in STEREO and video.codec_context.name == "libx264"

    def _attach(self, container: InputContainer, dropped: list[str]) -> None:
        streams: Any = container.streams
        for stream in streams.attachments:
            name = stream.metadata.get("filename", "a nameless attachment")
            if self._container == "matroska" and stream.mimetype:
                self._output.add_attachment(name, stream.mimetype, stream.data)
            else:
                dropped.append(name)
        for stream in streams.data:
            # The timecode of QuickTime is a track, and a tag of the pictures.
            if "timecode" not in stream.metadata:
                dropped.append(f"a track of data ({stream.metadata.get('handler_name', 'unknown')})")

    def _add_covers(self, container: InputContainer, dropped: list[str]) -> None:
        covers = [s for s in container.streams.video if s.disposition & Disposition.attached_pic]
        if not covers:
            return
        # Readers give covers first.
        first = islice(container.demux(), _COVERS_WITHIN)
        images = {p.stream.index: bytes(p) for p in first if p.size and p.stream in covers}
        for stream in covers:
            codec = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
            data = images.get(stream.index)
            if data is None or codec not in _IMAGES or self._container == "mov":
                dropped.append(f"cover art ({codec})")
            elif self._container == "matroska":
                name, kind = _IMAGES[codec]
                self._output.add_attachment(stream.metadata.get("filename", name), kind, data)
            else:
                context: Any = stream.codec_context
                cover: Any = self._output.add_stream(codec, rate=1)
                cover.codec_context.width, cover.codec_context.height = context.width, context.height
                cover.codec_context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "rgb24"
                cover.disposition = Disposition.attached_pic
                self._covers.append((cover, data))

    def begin(self) -> None:
        """Write the covers, after the container's header."""
        for stream, data in self._covers:
            packet = Packet(data)
            packet.stream, packet.time_base = stream, stream.time_base
            packet.pts = packet.dts = 0
            packet.is_keyframe = True
            self._output.mux(packet)


def stream_fields(metadata: Mapping[str, str]) -> dict[str, str]:
    """A track's title and language, however the input file stores them."""
    fields = {k: metadata[k] for k in ("language", "title") if k in metadata}
    if "title" not in fields and "name" in metadata:
        fields["title"] = metadata["name"]
    return fields


def unsupported_language(container: str, metadata: Mapping[str, str]) -> str | None:
    """The language of a track, if the container has no code for it: QuickTime has fewer."""
    language = metadata.get("language", "und")
    return language if container == "mov" and language not in _QUICKTIME_LANGUAGES else None


def container_options(container: str, source: Path) -> dict[str, str]:
    """Options of the new container that let it keep all tags."""
    if container == "matroska":
        return {}
    with open_container(source) as held:
        free = {key.lower() for key in _portable_tags(held.metadata)} - _PLACED
    return {"movflags": "use_metadata_tags"} if free else {}


def _portable_tags(metadata: Mapping[str, str]) -> dict[str, str]:
    """Tags, without those about the input file itself and without copies that name a language."""
    tags = {}
    for key, value in metadata.items():
        base, _, language = key.rpartition("-")
        copy = base in metadata and len(language) == 3
        if key.lower() not in _OF_THE_FILE and not key.startswith("_") and not copy:
            # Matroska shouts.
            tags[key.lower() if key.isupper() else key] = value
    return tags
