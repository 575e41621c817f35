"""Video files as clips: every packet is counted up front, then frames are decoded one by one."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av import VideoCodecContext, VideoFrame
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from ldip_jax.errors import InputError
from ldip_jax.media.clip import Clip
from ldip_jax.media.color import UNSAID, Color, guess
from ldip_jax.media.frames import ToRgb, bits_of, is_grey, is_rgb
from ldip_jax.media.images import orient

# Demuxers that take text or pictures for video, or that open other files.
_NO_VIDEO = frozenset({"tty", "image2", "lavfi", "concat", "hls", "dash", "imf", "bin", "idf", "xbin", "adf"})
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")
_CENTRED_CHROMA = frozenset({"mpeg1video", "mjpeg"})
_DEFAULT_RATE = Fraction(25)
_NO_MEDIA = "give a video, an image or a folder of images"


def open_container(path: Path) -> InputContainer:
    """Open a media file for reading: this file only, whatever its content points to.

    Raises:
        InputError: no media file.
    """
    try:
        container = av.open(f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"})
    except (FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(
            f"{path}: cannot be read as video or image ({reason}); it may be cut short or damaged"
        ) from error
    if container.format.name in _NO_VIDEO or container.format.name.endswith("_pipe"):
        container.close()
        raise InputError(f"{path}: is neither a video nor an image that can be read; {_NO_MEDIA}")
    return container


def _pictures(path: Path, container: InputContainer) -> VideoStream:
    """The first stream of moving pictures; cover art does not count."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise InputError(f"{path}: no decoder for its video is at hand; convert it to H.264 first")
            stream.thread_type = "AUTO"  # type: ignore[assignment]
            return stream
    held = "sound but no pictures" if container.streams.audio else "no pictures"
    raise InputError(f"{path}: holds {held}; {_NO_MEDIA}")


def _damaged(path: Path, frame: int, what: str = "is damaged or cut short") -> InputError:
    return InputError(f"{path}: {what} at frame {frame}; repair the file, or cut it to end before that frame")


def _decoded(path: Path, container: InputContainer, stream: VideoStream) -> Generator[VideoFrame, None, None]:
    """Faultless frames only; those before the first key frame, which nothing can decode, are left out."""
    number, starts_midway = 0, None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            if starts_midway is None:
                starts_midway = not packet.is_keyframe
            frames = packet.decode()
        except FFmpegError as error:
            if starts_midway and number == 0:
                continue
            raise _damaged(path, number) from error
        for frame in frames:
            if frame.is_corrupt:
                if starts_midway and number == 0:
                    continue
                raise _damaged(path, number)
            yield frame
            number += 1


@dataclass(frozen=True)
class _Timing:
    """How many frames, how fast, and how many left out; see `Clip` for the rest."""

    count: int | None
    fps: Fraction
    left_out: int = 0
    times: list[Fraction] | None = None
    hold: Fraction | None = None


def _scan(path: Path, first_pts: int | None, may_hide: bool) -> _Timing:
    """Read all packets, decoding none: finds a file that is cut short before any work is done on it."""
    stamps: list[int | None] = []
    end = duration = None
    with open_container(path) as container:
        stream = _pictures(path, container)
        unit = stream.time_base or Fraction(1, 1000)
        key_seen = False
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard:
                    continue
                key_seen |= packet.is_keyframe
                if packet.is_corrupt and key_seen:
                    raise _damaged(path, len(stamps))
                stamps.append(packet.pts)
                shown = packet.pts if packet.pts is not None else packet.dts
                if shown is not None:
                    duration = packet.duration or 0
                    end = shown + duration if end is None else max(end, shown + duration)
        except FFmpegError as error:
            raise _damaged(path, len(stamps)) from error
        rates = [rate for rate in (stream.guessed_rate, stream.average_rate, stream.base_rate) if rate]
        promised = _promised_end(container, stream)
        # Matroska counts to the end of the last frame; the lists of edits of MP4 are less precise.
        frames_off = Fraction(3, 2) if "matroska" in container.format.name else 3
        slack = frames_off / (stream.average_rate or _DEFAULT_RATE)
    rate = rates[0] if rates else _DEFAULT_RATE
    if promised is not None and end is not None and promised - end * unit > slack:
        held = f"{float(end * unit):.2f} of {float(promised):.2f} seconds"
        raise _damaged(path, len(stamps), f"is cut short ({held})")
    if None in stamps or first_pts is None:
        return _Timing(None if may_hide else len(stamps), rate)
    known = [stamp for stamp in stamps if stamp is not None]
    shown_stamps = sorted({stamp for stamp in known if stamp >= first_pts})
    left_out = sum(stamp < first_pts for stamp in known)
    if may_hide or len(shown_stamps) + left_out != len(stamps):
        return _Timing(None, rate, left_out)
    fps, times = _rate(shown_stamps, unit, rates)
    until = promised
    if until is None and known == sorted(known) and duration:
        # Frames are stored in the order in which they show, so the last packet is the last to show.
        until = (shown_stamps[-1] + duration) * unit
    hold = None if until is None else until - shown_stamps[-1] * unit
    if hold is not None and (hold <= 0 or (times is None and hold * fps < Fraction(3, 2))):
        hold = None
    return _Timing(len(shown_stamps), fps, left_out, times, hold)


def _promised_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """When the pictures end, in seconds, by the header of the formats that have a reliable one."""
    name = container.format.name
    if stream.duration is not None and stream.time_base is not None and ("mov" in name or name == "avi"):
        return (stream.duration + (stream.start_time or 0)) * stream.time_base
    if "matroska" in name:
        said = next((v for k, v in stream.metadata.items() if k.upper().startswith("DURATION")), None)
        try:
            if said is not None:
                hours, minutes, seconds = said.split(":")
                return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
        except ValueError:
            return None
        if len(container.streams) == 1 and container.duration is not None:
            return Fraction(container.duration, 1_000_000)
    return None


def _rate(
    stamps: list[int], unit: Fraction, rates: Sequence[Fraction]
) -> tuple[Fraction, list[Fraction] | None]:
    """The rate on whose grid all frames lie within a quarter of a frame; else the mean, and their times."""
    seconds = (np.array(stamps, np.int64) - stamps[0]) * float(unit)
    for rate in [*map(_nominal, rates), *rates, _DEFAULT_RATE]:
        if np.abs(seconds * float(rate) - np.arange(len(stamps))).max() < 0.25:
            return rate, None
    mean = (len(stamps) - 1) / ((stamps[-1] - stamps[0]) * unit)
    return mean.limit_denominator(1001), [(stamp - stamps[0]) * unit for stamp in stamps]


def _nominal(rate: Fraction) -> Fraction:
    """The broadcast rate, such as 24000/1001, that a container of rounded times came close to."""
    whole = Fraction(max(1, round(rate)))
    return next((near for near in (whole, whole * 1000 / 1001) if abs(rate / near - 1) < 1e-4), rate)


def _turn(frame: VideoFrame) -> tuple[bool, bool, bool] | None:
    """What the display matrix asks for: transpose, then flip rows, then columns; the nearest right angle."""
    entries: Any = frame.side_data
    data = next((bytes(entry) for entry in entries if entry.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return None
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].astype(np.float64)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        turn = (False, bool(d < 0), bool(a < 0))
    else:
        turn = (True, bool(b < 0), bool(c < 0))
    return turn if any(turn) else None


def _color(frame: VideoFrame, context: VideoCodecContext) -> Color:
    def said(code: int) -> int:
        return UNSAID if code in (0, 3) else int(code)

    span = int(frame.color_range)
    return Color(
        matrix=0 if is_rgb(frame.format) else said(frame.colorspace),
        primaries=said(context.color_primaries),
        transfer=said(context.color_trc),
        # Grey uses every code unless it says otherwise.
        full_range=span == 2 or frame.format.name.startswith("yuvj") or (is_grey(frame.format) and span != 1),
        bits=bits_of(frame.format),
    )


def open_video(path: Path) -> Clip:
    """A video file as a clip of its first video stream, upright, in the colours that its tags say.

    Raises:
        InputError: no video, nothing to decode, cut short, or a coding that is not supported.
    """
    _refuse_heif(path)
    with open_container(path) as container:
        stream = _pictures(path, container)
        with closing(_decoded(path, container, stream)) as frames:
            frame = next(frames, None)
        if frame is None:
            raise InputError(f"{path}: not one frame can be decoded; it may be cut short or damaged")
        tags = _color(frame, stream.codec_context)
        codec = stream.codec_context.codec.canonical_name
        aspect = stream.sample_aspect_ratio or Fraction(1)
        # Packets that make no frame of their own: hidden VP8 frames, fields of broadcast video.
        may_hide = codec == "vp8" or (frame.interlaced_frame and container.format.name == "mpegts")
        several, sound = len(container.streams.video) > 1, bool(container.streams.audio)
    color = guess(tags, frame.height, frame.width)
    if not color.known_matrix:
        code = f"H.273 code {color.matrix}"
        raise InputError(f"{path}: its colour matrix ({code}) is not supported; convert it to BT.709 first")
    timing = _scan(path, frame.pts, may_hide)
    turn = _turn(frame)
    size = (frame.height, frame.width)
    height, width = size[::-1] if turn and turn[0] else size
    return Clip(
        path=path,
        kind="video",
        height=height,
        width=width,
        count=timing.count,
        fps=timing.fps,
        names=[f"{number:08d}.png" for number in range(timing.count or 0)],
        notes=_notes(frame, tags, color, timing, turn, several),
        color=color,
        decode=lambda: _upright(path, ToRgb(color, codec in _CENTRED_CHROMA), size, turn, timing.count),
        has_audio=sound,
        sample_aspect=1 / aspect if turn and turn[0] else aspect,
        start=Fraction(0) if frame.pts is None else frame.pts * Fraction(frame.time_base or 0),
        times=timing.times,
        hold=timing.hold,
    )


def _refuse_heif(path: Path) -> None:
    """The demuxer would give one tile of such a still for a video."""
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF:
        raise InputError(f"{path}: HEIC images are not supported; convert it to PNG or JPEG")


def _upright(
    path: Path, to_rgb: ToRgb, size: tuple[int, int], turn: tuple[bool, bool, bool] | None, count: int | None
) -> Iterator[np.ndarray]:
    number = 0
    with (
        open_container(path) as container,
        closing(_decoded(path, container, _pictures(path, container))) as frames,
    ):
        for frame in frames:
            if (frame.height, frame.width) != size:
                raise InputError(
                    f"{path}: changes from {size[1]}x{size[0]} to {frame.width}x{frame.height} at frame "
                    f"{number}; split the clip there"
                )
            rgb = to_rgb(frame)
            yield np.ascontiguousarray(orient(rgb, *turn)) if turn else rgb
            number += 1
    if count is not None and number != count:
        raise _damaged(path, number, f"gives {number} frames where {count} are stored: it is damaged")


def _notes(
    frame: VideoFrame,
    tags: Color,
    color: Color,
    timing: _Timing,
    turn: tuple[bool, bool, bool] | None,
    several: bool,
) -> list[str]:
    notes = []
    if several:
        notes.append("the first of several video streams is taken")
    if timing.left_out:
        notes.append(f"{timing.left_out} frames before the first that can be decoded are left out")
    if tags.matrix == UNSAID:
        notes.append(f"no colour matrix is tagged: {color} is assumed from its size")
    if color.hdr:
        notes.append(f"{color.hdr} high dynamic range: values are taken as they are coded")
    if frame.interlaced_frame:
        notes.append("interlaced: frames are taken as they are; deinterlace first for better results")
    if any(component.is_alpha for component in frame.format.components):
        notes.append("alpha dropped")
    if turn:
        notes.append("turned upright as its display matrix says")
    if timing.times is not None:
        notes.append(f"variable frame rate, {float(timing.fps):.3f} on average: all times are kept")
    return notes
