"""Video files as clips: frames are counted and timed up front, then decoded one by one."""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av import VideoCodecContext, VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream

from ldip_jax.errors import InputError
from ldip_jax.media.clip import Clip
from ldip_jax.media.clock import Clock, read_clock
from ldip_jax.media.color import UNSAID, Color, assume_color
from ldip_jax.media.container import (
    damaged_error,
    decode_frames,
    moving_streams,
    open_container,
    video_stream,
)
from ldip_jax.media.frame_metadata import read_frame_metadata
from ldip_jax.media.frames import ToRgb, bits_of, is_grey, is_rgb
from ldip_jax.media.images import orient
from ldip_jax.media.timing import Timing, read_timing
from ldip_jax.untrusted import reason

_CENTRED_CHROMA = frozenset({"mpeg1video", "mjpeg"})


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
    def tagged_code(code: int) -> int:
        return UNSAID if code in (0, 3) else int(code)

    span = int(frame.color_range)
    return Color(
        matrix=0 if is_rgb(frame.format) else tagged_code(frame.colorspace),
        primaries=tagged_code(context.color_primaries),
        transfer=tagged_code(context.color_trc),
        # Grey uses every code unless it says otherwise.
        full_range=span == 2 or frame.format.name.startswith("yuvj") or (is_grey(frame.format) and span != 1),
        bits=bits_of(frame.format),
    )


def open_video(path: Path, *, lenient: bool = False) -> Clip:
    """A video file as a clip of its first video stream, upright, in the colours that its tags say.

    Args:
        lenient: a damaged frame, or one of another size, becomes a gap: None among the frames.

    Raises:
        InputError: no video, nothing to decode, cut short, or a coding that is not supported.
    """
    with open_container(path) as container:
        clock = read_clock(container, video_stream(path, container))
    with open_container(path) as container:
        stream = video_stream(path, container)
        with closing(decode_frames(path, clock.packets(container, [stream]), lenient=lenient)) as frames:
            frame = next(frames, None)
        if frame is None:
            raise InputError(f"{path}: not one frame can be decoded; it may be cut short or damaged")
        tags = _color(frame, stream.codec_context)
        described = read_frame_metadata(frame, stream)
        codec = stream.codec_context.codec.canonical_name
        aspect = stream.sample_aspect_ratio or Fraction(1)
        # Packets that make no frame of their own: hidden VP8 frames, fields of broadcast video.
        may_hide = codec == "vp8" or (frame.interlaced_frame and container.format.name == "mpegts")
        several, sound = _stream_notes(container, stream), bool(container.streams.audio)
    color = assume_color(tags, frame.height, frame.width)
    if not color.known_matrix:
        code = f"H.273 code {color.matrix}"
        raise InputError(f"{path}: its colour matrix ({code}) is not supported; convert it to BT.709 first")
    timing = read_timing(path, clock, frame.pts, may_hide, lenient=lenient)
    turn = _turn(frame)
    size = (frame.height, frame.width)
    height, width = size[::-1] if turn and turn[0] else size
    start = Fraction(0) if frame.pts is None else frame.pts * Fraction(frame.time_base or 0)
    to_rgb = ToRgb(color, codec in _CENTRED_CHROMA)

    def decode(first: int) -> Iterator[np.ndarray | None]:
        if lenient:
            return _decode_with_gaps(path, clock, to_rgb, turn, timing, start, first)
        return _decode_upright(path, clock, to_rgb, turn, timing.count, first)

    return Clip(
        path=path,
        kind="video",
        height=height,
        width=width,
        count=timing.count,
        fps=timing.fps,
        names=[f"{number:08d}.png" for number in range(timing.count)],
        notes=[*several, *_notes(frame, color, timing, turn, clock)],
        assumptions=_assumptions(tags, color),
        color=color,
        decode=decode,
        has_audio=sound,
        sample_aspect=1 / aspect if turn and turn[0] else aspect,
        start=start,
        times=timing.times,
        hold=timing.hold,
        clock=clock,
        frame_metadata=described,
    )


def _stream_notes(container: InputContainer, chosen: VideoStream) -> list[str]:
    """A note where there are several streams of moving pictures."""
    streams = moving_streams(container)
    if len(streams) < 2:
        return []
    which = "the first" if chosen is streams[0] else "the default one"
    return [f"{which} of {len(streams)} video streams is taken"]


Turn = tuple[bool, bool, bool] | None


def _pixels(path: Path, number: int, frame: VideoFrame, to_rgb: ToRgb, turn: Turn) -> np.ndarray:
    try:
        rgb = to_rgb(frame)
    except Exception as error:
        what = f"cannot be converted from {frame.format.name} ({reason(error)})"
        raise damaged_error(path, number, what) from error
    return np.ascontiguousarray(orient(rgb, *turn)) if turn else rgb


def _decode_with_gaps(
    path: Path, clock: Clock, to_rgb: ToRgb, turn: Turn, timing: Timing, start: Fraction, first: int
) -> Iterator[np.ndarray | None]:
    """The frames from `first` on in the places that their times say; None where one is missing."""
    place, times = 0, timing.times
    with open_container(path) as container:
        packets = clock.packets(container, [video_stream(path, container)])
        with closing(decode_frames(path, packets, lenient=True)) as frames:
            for frame in frames:
                number = place
                if frame.pts is not None and frame.time_base is not None:
                    seconds = frame.pts * Fraction(frame.time_base) - start
                    if times is None:
                        number = round(seconds * timing.fps)
                    else:
                        number = max(0, bisect_right(times, seconds + Fraction(1, 10_000)) - 1)
                if not place <= number < timing.count:
                    continue
                for missing in range(place, number):
                    if missing >= first:
                        yield None
                if number >= first:
                    yield _pixels(path, number, frame, to_rgb, turn)
                place = number + 1
    for _ in range(max(place, first), timing.count):
        yield None


def _decode_upright(
    path: Path, clock: Clock, to_rgb: ToRgb, turn: Turn, count: int, first: int
) -> Iterator[np.ndarray]:
    number = 0
    with open_container(path) as container:
        packets = clock.packets(container, [video_stream(path, container)])
        with closing(decode_frames(path, packets)) as frames:
            for frame in frames:
                if number >= first:
                    yield _pixels(path, number, frame, to_rgb, turn)
                number += 1
    if number != count:
        raise damaged_error(path, number, f"gives {number} frames where {count} are stored: it is damaged")


def _assumptions(tags: Color, color: Color) -> list[str]:
    if tags.matrix != UNSAID:
        return []
    return [f"no colour matrix is tagged: {color} is assumed from its size"]


def _notes(
    frame: VideoFrame,
    color: Color,
    timing: Timing,
    turn: tuple[bool, bool, bool] | None,
    clock: Clock,
) -> list[str]:
    notes = []
    if clock.restarts:
        times = "once" if clock.restarts == 1 else f"{clock.restarts} times"
        notes.append(f"its clock restarts {times}, as in joined files: the parts follow one another")
    if timing.left_out:
        notes.append(f"{timing.left_out} frames before the first that can be decoded are left out")
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
