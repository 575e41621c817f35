"""Videos written in steps: interrupted and resumed, they have the same bytes as without interruption."""

import numpy as np
import pytest

from ldip_jax.media.reader import open_clip
from ldip_jax.media.writer import open_writer
from tests.media.make import interrupt_moves, moving

COUNT, STEP = 100, 20
KINDS = [
    *(("h264", "a.mp4"), ("h265", "a.mkv"), ("vp9", "a.mp4"), ("av1", "a.mp4"), ("prores", "a.mov")),
    *(("ffv1", "a.mkv"), ("h264", "frames")),
]


def write(out, frames, codec, *, resume=False, stop=None):
    """Write in steps; interrupted at frame `stop`."""
    writer = open_writer(out, height=64, width=64, codec=codec, identity={"input": 1}, resume=resume)
    try:
        with writer:
            for begin in range(writer.finished, COUNT, STEP):
                writer.begin(STEP)
                for number in range(begin, begin + STEP):
                    if number == stop:
                        raise KeyboardInterrupt
                    writer.write(frames[number])
                writer.end({"begin": begin})
    except KeyboardInterrupt:
        pass
    return writer


def content(path):
    return {p.name: p.read_bytes() for p in ([path] if path.is_file() else sorted(path.iterdir()))}


@pytest.mark.parametrize(("codec", "name"), KINDS, ids=[f"{codec} {name}" for codec, name in KINDS])
def test_a_resumed_video_has_the_same_bytes(tmp_path, rng, codec, name):
    frames = moving(rng, COUNT, 64, 64)
    (tmp_path / "cut").mkdir()
    write(tmp_path / name, frames, codec)
    out = tmp_path / "cut" / name
    # Within the first step, within a segment, after a segment, and at the last frame.
    kept = [write(out, frames, codec, resume=True, stop=stop).resumable_folder for stop in (15, 35, 75, 99)]
    assert kept == [None, *[out.parent / f".{name}.ldip"] * 3]
    done = write(out, frames, codec, resume=True)
    assert (done.resumed_frames, done.resumable_folder) == (80, None)
    assert [step.extra["begin"] for step in done.steps] == [0, 20, 40, 60]
    assert [path.name for path in out.parent.iterdir()] == [name]
    assert content(out) == content(tmp_path / name)


def test_joined_segments_play_as_one_clip(tmp_path, rng):
    frames = moving(rng, COUNT, 64, 64)
    write(tmp_path / "a.mp4", frames, "h264")
    with open_clip(tmp_path / "a.mp4") as clip:
        assert (clip.count, clip.times, clip.fps) == (COUNT, None, 25)
        for frame, expected in zip(clip, frames, strict=True):
            assert np.abs(frame - expected).mean() < 4 / 255


def test_an_interrupted_move_of_the_output_is_completed(tmp_path, rng, monkeypatch):
    out = tmp_path / "frames"
    out.mkdir()
    interrupt_moves(monkeypatch, out, after=COUNT // 2)
    assert write(out, moving(rng, COUNT, 64, 64), "h264").resumable_folder is not None
    monkeypatch.undo()
    assert len(list(out.iterdir())) == COUNT // 2
    options = {"height": 64, "width": 64, "identity": {"input": 1}, "resume": True, "overwrite": True}
    with open_writer(out, **options) as writer:
        assert writer.complete
    assert len(list(out.iterdir())) == COUNT
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]
