"""Media for the tests, generated when needed."""

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from ldip_jax.media.color import Color
from ldip_jax.media.frames import plane_view
from ldip_jax.media.writer import Writer, open_writer


def smooth(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth picture, which codecs hardly change: float32 `h w 3` in [0, 1]."""
    small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float32) / 255


def moving(rng: np.random.Generator, count: int, height: int, width: int) -> list[np.ndarray]:
    """A panning clip whose frames all differ."""
    wide = smooth(rng, height, width + 2 * count)
    return [np.ascontiguousarray(wide[:, 2 * i : 2 * i + width]) for i in range(count)]


def make_video(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    layout: str = "yuv420p",
    rate: Fraction = Fraction(25),
    options: dict[str, str] | None = None,
    container: str | None = None,
    container_options: dict[str, str] | None = None,
    color: Color | None = None,
    aspect: Fraction | None = None,
    stamps: Sequence[Fraction] | None = None,
    hold: Fraction | None = None,
    sound: float | None = None,
    sound_codec: str = "aac",
    sound_rate: int = 44100,
    sound_start: Fraction = Fraction(0),
    start: Fraction = Fraction(0),
    metadata: dict[str, str] | None = None,
) -> Path:
    """A video of float32 frames, or of codes `3 h w` for Y'CbCr; with a sine tone of `sound` seconds.

    `hold`: seconds for which the last frame shows.
    """
    with av.open(str(path), "w", format=container, options=container_options or {}) as output:
        output.metadata.update(metadata or {})
        stream = output.add_stream(codec, rate=rate, options=options or {})
        context = stream.codec_context
        planar = frames[0].shape[0] == 3 and frames[0].ndim == 3 and frames[0].shape[2] != 3
        height, width = frames[0].shape[1:] if planar else frames[0].shape[:2]
        context.width, context.height, context.pix_fmt = width, height, layout
        tick = Fraction(1, 90000) if stamps is not None or start else 1 / rate
        context.time_base = tick
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if color is not None:
            context.colorspace, context.color_range = color.matrix, 2 if color.full_range else 1
            context.color_primaries, context.color_trc = color.primaries, color.transfer
        tone = begun = None
        if sound is not None:
            tone = output.add_stream(sound_codec, rate=sound_rate)
            _sing(output, tone, sound, sound_start)
        for number, pixels in enumerate(frames):
            frame = from_planes(pixels, layout) if planar else from_rgb(pixels, layout)
            if color is not None:
                frame.color_range = 2 if color.full_range else 1
            seconds = stamps[number] if stamps is not None else number / rate
            frame.pts, frame.time_base = round((seconds + start) / tick), tick
            for packet in stream.encode(frame):
                begun = packet.dts if begun is None else begun
                output.mux(packet)
            last = frame.pts
        rest = list(stream.encode(None))
        begun = rest[0].dts if begun is None else begun
        for packet in rest:
            if hold is not None and packet.pts == last:
                packet.duration = round(hold / tick)
            if hold is not None and packet is rest[-1] and path.suffix != ".mkv":
                # MP4 counts a track's length in stored order.
                packet.duration = last + round(hold / tick) - round(start / tick) - (packet.dts - begun)
            output.mux(packet)
    return path


def from_rgb(pixels: np.ndarray, layout: str) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.rint(pixels * 255).astype(np.uint8), "rgb24").reformat(format=layout)


def from_planes(planes: np.ndarray, layout: str) -> av.VideoFrame:
    """Codes `3 h w` as a frame; subsampled chroma takes every second code of its plane."""
    frame = av.VideoFrame(planes.shape[2], planes.shape[1], layout)
    for plane, codes in zip(frame.planes, planes, strict=True):
        view = plane_view(plane, "u1" if planes.dtype == np.uint8 else "<u2")
        view[...] = codes[:: -(-codes.shape[0] // view.shape[0]), :: -(-codes.shape[1] // view.shape[1])]
    return frame


def _sing(output, stream, seconds: float, start: Fraction) -> None:
    rate = stream.codec_context.sample_rate
    wave = np.sin(np.arange(int(rate * seconds)) * (2 * np.pi * 440 / rate)).astype(np.float32) * 0.3
    packed = stream.codec_context.format.name in ("s16", "s16p")
    for begin in range(0, len(wave), 1024):
        piece = wave[None, begin : begin + 1024]
        if packed:
            frame = av.AudioFrame.from_ndarray((piece * 32767).astype(np.int16), "s16p", "mono")
        else:
            frame = av.AudioFrame.from_ndarray(piece, "fltp", "mono")
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = begin + round(start * rate)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def packets(path: Path, kind: str) -> list[tuple[float, bytes]]:
    """Seconds and bytes of the packets of the first stream of that kind."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.size]


def write(path: Path, frames: Sequence[np.ndarray], **options: Any) -> Writer:
    """The frames as `open_writer` writes them."""
    height, width = frames[0].shape[:2]
    with open_writer(path, height=height, width=width, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return writer


def interrupt_moves(monkeypatch: pytest.MonkeyPatch, folder: Path, after: int) -> None:
    """Raise KeyboardInterrupt once `after` files have been moved into a folder."""
    replace, left = os.replace, iter(range(after))

    def die(source: Path, target: Path) -> None:
        if Path(target).parent == folder and next(left, None) is None:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", die)
