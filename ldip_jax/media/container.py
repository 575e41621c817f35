"""Media files opened for reading: only the given file, its video stream, and that stream's intact frames."""

from collections.abc import Generator, Iterable
from pathlib import Path

import av
from av import Packet, VideoFrame
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from ldip_jax.errors import InputError
from ldip_jax.untrusted import reason

# Demuxers that take text or pictures for video, or that open other files.
_NO_VIDEO = frozenset({"tty", "image2", "lavfi", "concat", "hls", "dash", "imf", "bin", "idf", "xbin", "adf"})
# As many as a still may have.
MAX_PIXELS = 178_956_970
NO_MEDIA = "give a video, an image or a folder of images"


def open_container(path: Path) -> InputContainer:
    """Open a media file for reading: this file only, whatever its content points to.

    Raises:
        InputError: no media file.
    """
    try:
        container = av.open(f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"})
    except Exception as error:
        raise InputError(
            f"{path}: cannot be read as video or image ({reason(error)}); it may be cut short,"
            f" damaged or of another kind; {NO_MEDIA}"
        ) from error
    if container.format.name in _NO_VIDEO or container.format.name.endswith("_pipe"):
        container.close()
        raise InputError(f"{path}: is neither a video nor an image that can be read; {NO_MEDIA}")
    return container


def moving_streams(container: InputContainer) -> list[VideoStream]:
    """The streams of moving pictures; cover art does not count."""
    return [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]


def video_stream(path: Path, container: InputContainer) -> VideoStream:
    """The stream of moving pictures that is marked as the default one, else the first.

    Raises:
        InputError: there is none, or no decoder for it.
    """
    streams = moving_streams(container)
    if not streams:
        held = "sound but no pictures" if container.streams.audio else "no pictures"
        raise InputError(f"{path}: holds {held}; {NO_MEDIA}")
    stream = next((s for s in streams if s.disposition & Disposition.default), streams[0])
    if stream.codec_context is None:
        raise InputError(f"{path}: there is no decoder for its video; convert it to H.264 first")
    stream.thread_type = "AUTO"  # type: ignore[assignment]
    return stream


def damaged_error(path: Path, frame: int, what: str = "is damaged or cut short") -> InputError:
    """The error about a video file that cannot be decoded at a frame."""
    return InputError(f"{path}: {what} at frame {frame}; repair the file, or cut it to end before that frame")


def decode_frames(
    path: Path, packets: Iterable[Packet], *, lenient: bool = False
) -> Generator[VideoFrame, None, None]:
    """Only intact frames; those before the first key frame, which cannot be decoded, are left out.

    Args:
        path: named in errors.
        packets: all packets of the stream of pictures.
        lenient: damaged frames, and those of another size than the first, are left out too.

    Raises:
        InputError: a frame is damaged, or of another size than the first.
    """
    number, starts_midway, size = 0, None, None
    remaining = iter(packets)
    while True:
        packet = None
        try:
            packet = next(remaining, None)
            if packet is None:
                return
            if starts_midway is None:
                starts_midway = not packet.is_keyframe
            frames = packet.decode()
        except Exception as error:
            if lenient and packet is None:
                # The file itself cannot be read any further.
                return
            if lenient or (starts_midway and number == 0):
                continue
            raise damaged_error(path, number) from error
        for frame in frames:
            assert isinstance(frame, VideoFrame)
            if frame.width * frame.height > MAX_PIXELS:
                raise InputError(
                    f"{path}: frames of {frame.width}x{frame.height}, more than"
                    f" {MAX_PIXELS // 10**6} million pixels; make them smaller first"
                )
            if frame.is_corrupt:
                if lenient or (starts_midway and number == 0):
                    continue
                raise damaged_error(path, number)
            size = size or (frame.width, frame.height)
            if size != (frame.width, frame.height):
                if lenient:
                    continue
                raise InputError(
                    f"{path}: changes from {size[0]}x{size[1]} to {frame.width}x{frame.height} at frame "
                    f"{number}; split the clip there"
                )
            yield frame
            number += 1
