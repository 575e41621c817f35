"""Clips whose flash and beep coincide, and where these are found in a file."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.layout import AudioLayout

from ldip_jax.media.reader import open_clip
from ldip_jax.media.writer import open_writer

RATE = 48000
# The time of the flash and the beep in a clip, in seconds.
MOMENT = Fraction(13, 25)


def flashing(count: int, moment: Fraction = MOMENT) -> list[np.ndarray]:
    """Dark frames at 25 per second, one of them bright."""
    return [np.full((64, 64, 3), 0.9 if i == moment * 25 else 0.1, np.float32) for i in range(count)]


def beeping(seconds: float, moment: Fraction = MOMENT, layout: str = "mono") -> np.ndarray:
    """int16 samples by channels at 48 kHz: silence with a beep of 0.1 s, of another pitch in each channel."""
    time = np.arange(int(RATE * seconds)) / RATE
    channels = AudioLayout(layout).nb_channels
    on = (time >= float(moment)) & (time < float(moment) + 0.1)
    tones = [np.sin(2 * np.pi * (300 + 100 * channel) * time) for channel in range(channels)]
    return np.rint(24000 * on * np.stack(tones)).astype(np.int16).T


def audio_frames(samples: np.ndarray, layout: str, size: int = 1024) -> list[av.AudioFrame]:
    frames = []
    for begin in range(0, len(samples), size):
        piece = np.ascontiguousarray(samples[begin : begin + size]).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(piece, "s16", layout)
        frame.sample_rate, frame.pts, frame.time_base = RATE, begin, Fraction(1, RATE)
        frames.append(frame)
    return frames


def make_synced(
    path: Path,
    seconds: float = 2,
    *,
    codec: str = "libx264",
    sound: str = "aac",
    layout: str = "mono",
    container: str | None = None,
    keep: Sequence[int] | None = None,
    start: Fraction = Fraction(0),
    options: dict[str, str] | None = None,
) -> Path:
    """A file with a flash and a beep at `MOMENT`.

    Args:
        keep: numbers of the frames that are stored, each at its time; None: all.
        start: of the clock, in seconds.
    """
    with av.open(str(path), "w", format=container) as output:
        video = output.add_stream(codec, rate=25, options=options or {})
        context = video.codec_context
        context.width, context.height, context.pix_fmt = 64, 64, "yuv420p"
        tone = output.add_stream(sound, rate=RATE, layout=layout)
        tone.bit_rate = 128_000
        frames = flashing(round(seconds * 25))
        wanted = range(len(frames)) if keep is None else keep
        sounds = audio_frames(beeping(seconds, layout=layout), layout)
        if start:
            for frame in sounds:
                frame.pts += round(start * RATE)
        resampler = av.AudioResampler(tone.codec_context.format, layout, RATE)
        for number in wanted:
            picture = np.rint(frames[number] * 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts = number + round(start * 25)
            frame.time_base = Fraction(1, 25)
            output.mux(video.encode(frame))
        for frame in sounds:
            for piece in resampler.resample(frame):
                output.mux(tone.encode(piece))
        output.mux(video.encode(None))
        output.mux(tone.encode(None))
    return path


def flashes(path: Path) -> list[float]:
    """When bright frames show, in seconds of the file's clock."""
    with av.open(str(path)) as container:
        return [
            float(frame.pts * frame.time_base)
            for frame in container.decode(video=0)
            if frame.to_ndarray(format="gray").mean() > 128
        ]


def beeps(path: Path, index: int = 0) -> list[float]:
    """When sound begins after silence, in seconds of the file's clock."""
    found, before = [], -1.0
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", "mono", RATE)
        for frame in container.decode(audio=index):
            begin = float(frame.pts * frame.time_base)
            samples = np.concatenate([p.to_ndarray()[0] for p in resampler.resample(frame)] or [np.zeros(0)])
            loud = np.nonzero(np.abs(samples.astype(int)) > 2000)[0]
            if len(loud):
                now = begin + loud[0] / RATE
                if now - before > 0.2:
                    found.append(now)
                before = begin + loud[-1] / RATE
    return found


def peaks(path: Path) -> list[int]:
    """The pitch of each channel, in Hz to the next ten; 0 where there is silence."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", None, RATE)
        frames = [p for f in container.decode(audio=0) for p in resampler.resample(f)]
    count = frames[0].layout.nb_channels
    samples = np.concatenate([frame.to_ndarray()[0].reshape(-1, count) for frame in frames]).astype(float)
    spectra = np.abs(np.fft.rfft(samples, axis=0))
    pitch = np.argmax(spectra, axis=0) * RATE / len(samples)
    heard = np.abs(samples).max(0) > 1500
    return [round(p, -1) if h else 0 for p, h in zip(pitch.round().astype(int).tolist(), heard, strict=True)]


def copied(source: Path, target: Path) -> list[str]:
    """Write the clip again unchanged; returns the writer's notes."""
    clip = open_clip(source)
    with open_writer(target, height=clip.height, width=clip.width, source=clip, overwrite=True) as writer:
        for frame in clip:
            writer.write(frame)
    return writer.notes
