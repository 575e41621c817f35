"""Interrupted runs of `ldip upscale`: what is kept, how `--resume` continues, and when it refuses."""

import json
import re
import shutil

import pytest

from ldip_jax.inference import upscaler as inference
from ldip_jax.media import writer as writing
from ldip_jax.media.run_folder import RunFolder
from ldip_jax.media.sinks import ImageSink, VideoSink
from tests.cli.clips import listing, random_frames, write_folder
from tests.media.make import interrupt_moves, make_video, moving
from tests.networks import LR

# Three windows, which share 2 frames on either side.
COUNT = 9


@pytest.fixture(autouse=True)
def short_windows():
    # Not the `monkeypatch` fixture, which tests undo.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "window_length", lambda *args, **kwargs: 6)
        patch.setattr(inference.Upscaler, "_overlap", lambda self: 2)
        yield


@pytest.fixture
def video(tmp_path, rng):
    return make_video(tmp_path / "a.mp4", moving(rng, COUNT, *LR), sound=COUNT / 25)


@pytest.fixture
def stop_at(monkeypatch):
    """Interrupts the run when it writes the given frame."""
    write = writing.Writer.write

    def prepare(frame):
        left = iter(range(frame))

        def interrupted(self, *args):
            if next(left, None) is None:
                raise KeyboardInterrupt
            write(self, *args)

        monkeypatch.setattr(writing.Writer, "write", interrupted)

    return prepare


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder for results of runs that several tests need."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def whole(upscale, video, kept):
    """Upscales the video without interruption, once for each name; returns the folder."""

    def run(name):
        folder = kept / f"whole-{name}"
        if not folder.exists():
            folder.mkdir()
            assert upscale(video, folder / name).code == 0
        return folder

    return run


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv", "out"])
@pytest.mark.parametrize("frame", [5, 8])
def test_a_resumed_run_writes_the_same_bytes_as_an_uninterrupted_one(
    upscale, video, whole, tmp_path, stop_at, monkeypatch, name, frame
):
    expected = listing(whole(name))
    (tmp_path / "again").mkdir()
    out = tmp_path / "again" / name
    with monkeypatch.context():
        stop_at(frame)
        done = upscale(video, out)
    monkeypatch.undo()
    assert done.code == 130
    folder = out.parent / f".{name}.ldip"
    assert done.err.splitlines()[-2].startswith(f"{folder}: holds the ")
    assert "--resume" in done.err
    assert [path.name for path in out.parent.iterdir()] == [folder.name]
    made = []
    write = writing.Writer.write
    monkeypatch.setattr(writing.Writer, "write", lambda self, *args: made.append(write(self, *args)))
    done = upscale(video, out, "--resume")
    assert done.code == 0
    assert f"{COUNT} frames" in done.out
    assert 0 < len(made) < COUNT
    assert listing(tmp_path / "again") == expected
    done = upscale(video, out, "--resume")
    assert (done.code, done.err) == (0, "")
    assert "complete already" in done.out


def interrupted(upscale, source, out, stop_at, monkeypatch, *words):
    with monkeypatch.context():
        stop_at(7)
        assert upscale(source, out, *words).code == 130
    monkeypatch.undo()
    return out.parent / f".{out.name}.ldip"


@pytest.fixture
def images(tmp_path, rng):
    return write_folder(tmp_path / "in", random_frames(rng, COUNT))


@pytest.fixture
def unfinished(upscale, images, tmp_path, kept, stop_at, monkeypatch):
    """What an interrupted run of the images into `out` leaves; copied after the first time."""
    folder = tmp_path / ".out.ldip"
    if (kept / "unfinished").exists():
        return shutil.copytree(kept / "unfinished", folder)
    assert interrupted(upscale, images, tmp_path / "out", stop_at, monkeypatch) == folder
    shutil.copytree(folder, kept / "unfinished")
    return folder


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--scale", 2), "size of the output (40x32, now 20x16)"),
        (("--bit-depth", 16), "bit depth (8, now 16)"),
        (("--cuts", "none"), "--cuts (auto, now none)"),
        (("--soften", 0.5), "--soften (auto, now 0.5 pixels)"),
        (("--backbone", "other"), "choice of weights"),
        ((), "input"),
    ],
)
def test_a_run_with_other_settings_or_input_is_not_resumed(
    upscale, networks, images, unfinished, tmp_path, words, what
):
    out, folder = tmp_path / "out", unfinished
    before = listing(folder)
    if not words:
        (images / "shot_00.png").write_bytes((images / "shot_01.png").read_bytes())
    words = [networks.other if word == "other" else word for word in words]
    done = upscale(images, out, "--resume", *words)
    assert done.code == 2
    assert f"{folder}: was made with another {what}" in done.message
    assert listing(folder) == before
    assert not out.exists()


def test_without_resume_a_run_starts_over(upscale, images, unfinished, tmp_path):
    out, folder = tmp_path / "out", unfinished
    done = upscale(images, out)
    assert done.code == 0
    assert "of an unfinished run are thrown away; --resume would continue it" in done.err
    assert not folder.exists()
    assert len(list(out.iterdir())) == COUNT


def test_steps_whose_files_are_damaged_are_repeated(upscale, images, tmp_path, stop_at, monkeypatch):
    whole, out = tmp_path / "whole.mp4", tmp_path / "b.mp4"
    assert upscale(images, whole).code == 0
    folder = interrupted(upscale, images, out, stop_at, monkeypatch)
    steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    assert len(steps) > 1
    kept = sorted(folder.glob("*.pictures"))[-1]
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    # As left by a process that dies while writing.
    with open(folder / "steps.jsonl", "a") as file:
        file.write('{"first": 1')
    done = upscale(images, out, "--resume")
    assert done.code == 0
    assert f"continues after {steps[-1]['first']} finished frames" in done.err
    assert out.read_bytes() == whole.read_bytes()


def test_an_output_that_another_process_is_making_is_left_to_it(upscale, images, tmp_path):
    out = tmp_path / "out"
    folder = RunFolder(out)
    folder.open({}, resume=False, count_intact=len)
    done = upscale(images, out)
    assert done.code == 2
    assert "another process is making it" in done.message
    folder.remove()
    assert upscale(images, out).code == 0


def test_a_run_that_is_interrupted_while_its_output_is_moved_into_place(
    upscale, images, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    out.mkdir()
    interrupt_moves(monkeypatch, out, after=COUNT // 2)
    assert upscale(images, out).code == 130
    monkeypatch.undo()
    assert 0 < len(list(out.iterdir())) < COUNT
    done = upscale(images, out, "--resume", "--overwrite")
    assert done.code == 0
    assert len(list(out.iterdir())) == COUNT
    assert not (tmp_path / ".out.ldip").exists()


@pytest.mark.parametrize("name", ["b.mp4", "out", "a.png"])
@pytest.mark.parametrize(
    "removed", [(), ("run.json",), ("steps.jsonl", "run.json"), ("frames", "placing", "*.*")]
)
def test_a_run_that_is_interrupted_while_it_cleans_up_is_complete(
    upscale, images, tmp_path, monkeypatch, name, removed
):
    source = images if name != "a.png" else images / "shot_00.png"
    folder, out = tmp_path / "again" / f".{name}.ldip", tmp_path / "again" / name

    def die(self):
        for pattern in removed:
            for path in folder.glob(pattern):
                path.rmdir() if path.is_dir() else path.unlink()
        raise KeyboardInterrupt

    def finished():
        return {name: hash for name, hash in listing(out.parent).items() if name[0] != "."}

    monkeypatch.setattr(RunFolder, "remove", die)
    assert upscale(source, out).code == 130
    monkeypatch.undo()
    before = finished()
    assert before
    assert "exists already" in upscale(source, out).message
    done = upscale(source, out, "--resume")
    assert done.code == 0
    assert "complete already" in done.out
    assert finished() == before
    assert not list(folder.glob("[!l]*"))


@pytest.mark.parametrize("name", ["b.mp4", "out"])
def test_a_file_that_appears_before_the_output_moves_to_its_place_is_kept(
    upscale, images, tmp_path, monkeypatch, name
):
    def die(self, path):
        raise KeyboardInterrupt

    for sink in (ImageSink, VideoSink):
        monkeypatch.setattr(sink, "place", die)
    out = tmp_path / name
    assert upscale(images, out).code == 130
    monkeypatch.undo()
    file = out if out.suffix else out / "00000000.png"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"mine")
    assert "exists already" in upscale(images, out, "--resume").message
    assert file.read_bytes() == b"mine"
    assert upscale(images, out, "--resume", "--overwrite").code == 0
    assert not (tmp_path / f".{name}.ldip").exists()


def without_time(page):
    """A report's text, except for how long the run took."""
    text, times = re.subn(r">[0-9.]+</td>(?=\s*</tr>)", ">", page.read_text(encoding="utf-8"))
    assert times
    return text


def test_a_resumed_report_shows_all_frames_and_references(
    upscale, networks, images, tmp_path, stop_at, monkeypatch
):
    words = ("--lrrf", networks.trained, "--matcher", "flow", "--verbose", "--report", tmp_path / "page.html")
    # Windows share as many frames as lie between key-frames.
    words += ("--key-stride", 2, "--self-refs", 1)
    done = upscale(images, tmp_path / "whole", *words)
    assert done.code == 0
    keys = [line for line in done.err.splitlines() if line.startswith("key-frame")]
    page = without_time(tmp_path / "page.html")
    (tmp_path / "page.html").unlink()
    interrupted(upscale, images, tmp_path / "out", stop_at, monkeypatch, *words)
    done = upscale(images, tmp_path / "out", "--resume", *words)
    assert done.code == 0
    assert [line for line in done.err.splitlines() if line.startswith("key-frame")] == keys
    assert listing(tmp_path / "out") == listing(tmp_path / "whole")
    assert without_time(tmp_path / "page.html") == page
