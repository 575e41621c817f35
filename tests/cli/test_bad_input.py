"""Invalid input: one line that names the problem, exit code 2, and nothing written."""

import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from ldip_jax.inference import in_flight, streaming
from ldip_jax.inference.programs import Programs
from ldip_jax.weights.load import load_weights
from ldip_jax.weights.rules import flatten
from ldip_jax.weights.shards import CHECKSUM
from tests.cli.clips import listing, random_frames, write_folder
from tests.media.make import make_video, moving
from tests.networks import HR, LR


@pytest.fixture
def clip(tmp_path, rng):
    return write_folder(tmp_path / "in", random_frames(rng, 3))


@pytest.fixture
def refused(upscale, tmp_path):
    """Runs `ldip upscale`, which must fail, and returns the line that says why."""

    def run(*words):
        before = listing(tmp_path)
        done = upscale(*words)
        assert done.code == 2, done
        assert listing(tmp_path) == before
        assert done.out == ""
        return done.message.removeprefix("ldip: ")

    return run


@pytest.fixture
def unread(monkeypatch):
    """Fails if weights are loaded: errors must be found before weights are fetched."""

    def load(*args, **kwargs):
        raise AssertionError("loaded")

    monkeypatch.setattr("ldip_jax.inference.model.load_weights", load)


def test_inputs_that_are_missing_empty_or_not_clips(refused, unread, tmp_path):
    out = tmp_path / "out"
    assert (
        refused(tmp_path / "none.mp4", out) == f"{tmp_path}/none.mp4: no such file or folder; check the name"
    )
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty", out).startswith(
        f"{tmp_path}/empty: no images in this folder (it is empty)"
    )
    (tmp_path / "zero.mp4").write_bytes(b"")
    assert refused(tmp_path / "zero.mp4", out).startswith(f"{tmp_path}/zero.mp4: is empty")
    (tmp_path / "text.mp4").write_text("no video at all\n" * 100)
    assert refused(tmp_path / "text.mp4", out).startswith(f"{tmp_path}/text.mp4: ")
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "a.txt").write_text("hello")
    assert "it holds a.txt" in refused(tmp_path / "words", out)


def test_a_truncated_video(refused, unread, tmp_path, rng):
    for name in ("a.mp4", "a.mkv"):
        path = make_video(tmp_path / name, moving(rng, 30, 48, 64), options={"crf": "5"})
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        assert refused(path, tmp_path / "out").startswith(f"{path}: ")


def test_a_video_damaged_in_the_middle(upscale, tmp_path, rng):
    path = make_video(tmp_path / "a.mp4", moving(rng, 40, *LR), options={"crf": "1", "g": "5"})
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 4, len(data) // 2):
        data[place] = (data[place] * 7 + 13) % 256
    path.write_bytes(data)
    for out, partial in (("out", "out.partial"), ("b.mp4", "b.partial.mp4")):
        done = upscale(path, tmp_path / out)
        assert done.code == 2
        assert done.message.startswith(f"ldip: {path}: ")
        assert done.message.endswith("--on-error skip or hold passes over it")
        assert (tmp_path / partial).exists()
        assert not (tmp_path / out).exists()


def test_damaged_images(refused, upscale, tmp_path, clip):
    middle = clip / "shot_01.png"
    whole = middle.read_bytes()
    middle.write_bytes(whole[: len(whole) // 2])
    done = upscale(clip, tmp_path / "out")
    assert done.message.startswith(f"ldip: {middle}: cannot be read as an image")
    assert listing(tmp_path / "out.partial").keys() == {"shot_00.png"}
    assert refused(middle, tmp_path / "out.png").startswith(f"{middle}: ")
    middle.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert refused(clip, tmp_path / "out").startswith(f"{middle}: ")
    middle.write_bytes(b"")
    assert refused(clip, tmp_path / "out").startswith(f"{middle}: ")


def test_mixed_sizes(refused, unread, tmp_path, clip, rng):
    Image.fromarray(random_frames(rng, 1, (9, 10))[0]).save(clip / "shot_02.png")
    assert refused(clip, tmp_path / "out").startswith(f"{clip}/shot_02.png: is 10x9, but shot_00.png is 10x8")


def test_references_that_cannot_be_read(refused, unread, tmp_path, clip):
    out, text = tmp_path / "out", tmp_path / "notes.png"
    text.write_text("buy milk")
    cut = tmp_path / "cut.png"
    whole = (clip / "shot_00.png").read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    for path in (text, cut, tmp_path / "none.png", clip):
        assert refused(clip, out, "--ref", path).startswith(f"{path}: ")
    first, second = clip / "shot_00.png", tmp_path / "shot_00.png"
    shutil.copy(first, second)
    message = refused(clip, out, "--ref", first, second)
    assert message.startswith(f"{second}: there is another reference named shot_00")


def test_invalid_outputs(refused, unread, tmp_path, clip):
    (tmp_path / "file").write_text("x")
    video = make_video(tmp_path / "a.mp4", moving(np.random.default_rng(0), 2, *LR))
    photo = clip / "shot_00.png"
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter.txt").write_text("dear")
    for out, words, message in [
        (tmp_path / "file", (), "is a file, but a folder is needed"),
        (tmp_path / "file" / "below", (), "cannot be written (Not a directory)"),
        (tmp_path / "file" / "b.mp4", (), "cannot be written (Not a directory)"),
        (tmp_path / "a.avi", (), ".avi is not written"),
        (tmp_path / "a.jpg", (), ".jpg is not written"),
        (video, (), "exists already; add --overwrite"),
        (full, (), "exists already and is not empty; add --overwrite"),
        (full, ("--overwrite",), "holds letter.txt, which is not replaced"),
        (clip, ("--overwrite",), "is also an input"),
        (tmp_path / "one.png", (), "one image holds one frame only"),
        (tmp_path / "b.mp4", ("--crf", 60), "crf 60"),
        (tmp_path / "b.mp4", ("--lossless", "--bit-depth", 16), "lossless video of 16 bits needs .mkv"),
        ("/proc/nowhere/out", (), "cannot be written"),
    ]:
        assert message in refused(clip, out, *words), (out, words)
    assert refused(video, video, "--overwrite").startswith(f"{video}: is also an input")
    astray = [tmp_path / "astray", tmp_path / "astray.mp4"]
    for path, message in zip(
        astray, ("is a file, but a folder is needed", "is not a regular file"), strict=True
    ):
        path.symlink_to("nowhere")
        assert message in refused(clip, path, "--overwrite")
    link = tmp_path / "link.mp4"
    link.symlink_to(video)
    assert refused(video, link, "--overwrite").startswith(f"{link}: is also an input")
    # --overwrite would replace images with such names.
    stills = tmp_path / "stills"
    stills.mkdir()
    shutil.copy(photo, stills / "00000000.png")
    message = refused(clip, stills, "--overwrite", "--ref", stills / "00000000.png")
    assert message.startswith(f"{stills}: holds the input 00000000.png")


@pytest.mark.parametrize(
    ("flag", "suffix", "what"),
    [("--report", ".html", "a report is an .html file"), ("--profile", ".json", "a profile is a .json file")],
)
def test_invalid_paths_of_reports_and_profiles(refused, unread, tmp_path, clip, flag, suffix, what):
    out, page = tmp_path / "out", tmp_path / f"page{suffix}"
    page.write_text("mine")
    (tmp_path / f"folder{suffix}").mkdir()
    for report, message in [
        (page, "exists already; add --overwrite"),
        (tmp_path / "page.txt", what),
        (tmp_path / f"folder{suffix}", "is a folder"),
        (tmp_path / "none" / f"page{suffix}", f"{tmp_path}/none is not an existing folder; create it first"),
        (out / f"page{suffix}", "is the output or inside it"),
        (f"/proc/page{suffix}", "cannot be written"),
    ]:
        line = refused(clip, out, flag, report)
        assert line.startswith(f"{report}: ")
        assert message in line
    same = tmp_path / f"same{suffix}"
    assert "is the output or inside it" in refused(clip, same, flag, same)


@pytest.mark.parametrize(
    "words",
    [
        ("--size", "100"),
        ("--size", "100x"),
        ("--size", "x100"),
        ("--size", "0x48"),
        ("--size", "-64x48"),
        ("--size", "64x48x2"),
        ("--size", "6.4x48"),
        ("--scale", "large"),
        ("--scale", "2", "--size", "64x48"),
        ("--key-stride", "0"),
        ("--self-refs", "-1"),
        ("--exclude", "1.5"),
        ("--bit-depth", "10"),
        ("--crf", "20", "--lossless"),
        ("--crf", "18", "--lossless"),
        ("--ref", ""),
        ("--report", ""),
        ("--crf", "-1"),
        ("--codec", "mpeg2"),
        ("--propagation", "carried"),
        ("--propagation", ""),
        ("--cuts", "never"),
        ("--cuts", "0"),
        ("--cuts", "3,3"),
        ("--cuts", ""),
        ("--soften", "much"),
        ("--soften", "-0.5"),
        ("--soften", "nan"),
        ("--soften", ""),
        ("--nonsense",),
        ("--ref",),
    ],
)
def test_invalid_flags(upscale, unread, tmp_path, clip, words):
    before = listing(tmp_path)
    done = upscale(clip, tmp_path / "out", *words)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert done.err.splitlines()[-1].startswith("ldip")
    assert "error: " in done.err
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scale", "0"), "scale 0: it must be between 1 and 8"),
        (("--scale", "0.5"), "scale 0.5: it must be between 1 and 8"),
        (("--scale", "8.5"), "scale 8.5: it must be between 1 and 8"),
        (("--scale", "nan"), "scale nan: it must be between 1 and 8"),
        (("--scale", "-2"), "scale -2: it must be between 1 and 8"),
        (("--size", "5x32"), "size 5x32: x0.50 the width"),
        (("--size", "99999999999x48"), "size 99999999999x48: "),
        (("--ref-threshold", "5"), "reference threshold 5: it is a share"),
        (("--ref-threshold", "nan"), "reference threshold nan: it is a share"),
        (("--matcher", "sift"), "sift: no such matcher; give gmflow, flow, or a folder"),
        (("--lrrf", "nowhere.safetensors"), "nowhere.safetensors: no such file of LRRF weights"),
    ],
)
def test_invalid_numbers_and_names(refused, unread, tmp_path, clip, words, message):
    assert refused(clip, tmp_path / "out", *words).startswith(message)


class Evil:
    """Unpickling this would create a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def pickles(folder, target):
    """The pickle by itself, as an old PyTorch file, and in a zip archive as in current ones."""
    content = {"params": {"conv_hr.weight": Evil(target)}}
    for name, dump in (
        ("plain.pth", pickle.dumps(content)),
        ("plain.pkl", pickle.dumps(content, protocol=2)),
    ):
        (folder / name).write_bytes(dump)
        yield folder / name
    with zipfile.ZipFile(folder / "zip.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
        archive.writestr("archive/version", "3\n")
    yield folder / "zip.pth"


@pytest.mark.parametrize("flag", ["--backbone", "--lrrf"])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_nothing(refused, tmp_path, clip, flag):
    target = tmp_path / "pwned"
    for path in pickles(tmp_path, target):
        assert refused(clip, tmp_path / "out", flag, path).startswith(f"{path}: ")
        assert not target.exists()


@pytest.mark.parametrize("flag", ["--backbone", "--lrrf"])
def test_files_that_are_damaged_or_not_checkpoints(refused, networks, tmp_path, clip, flag):
    whole = (networks.backbone if flag == "--backbone" else networks.trained).read_bytes()
    cut, text, empty, folder = (tmp_path / name for name in ("cut.safetensors", "a.txt", "b.pth", "folder"))
    cut.write_bytes(whole[: len(whole) // 2])
    text.write_text("weights")
    empty.write_bytes(b"")
    folder.mkdir()
    for path in (cut, text, empty, folder, clip / "shot_00.png"):
        assert refused(clip, tmp_path / "out", flag, path).startswith(f"{path}: ")


def test_checkpoints_of_the_wrong_kind(refused, networks, tmp_path, clip):
    out = tmp_path / "out"
    assert "give it as --lrrf" in refused(clip, out, "--backbone", networks.trained)
    assert "not an LRRF export" in refused(clip, out, "--lrrf", networks.backbone)
    message = refused(clip, out, "--lrrf", networks.trained, "--backbone", networks.other)
    assert message.startswith(f"{networks.trained}: made for the backbone")
    assert "give the matching --backbone" in message
    for name in ("gmflow", "cityCC0", "lpips-alex"):
        assert refused(clip, out, "--backbone", name).startswith(f"{name}: ")
    assert "basicvsr-reds4" in refused(clip, out, "--backbone", "basicvsr-red4")
    unknown = tmp_path / "unknown.safetensors"
    unknown.write_bytes(safetensors.numpy.save({"layer.weight": np.zeros((2, 2), np.float32)}))
    assert refused(clip, out, "--backbone", unknown).startswith(f"{unknown}: holds weights of an unknown")


def test_a_checkpoint_with_a_nan(refused, networks, tmp_path, clip):
    weights = load_weights(networks.backbone)
    flat = {name: np.array(leaf) for name, leaf in flatten(weights.params).items()}
    flat["conv_hr/bias"][3] = np.nan
    with safetensors.safe_open(networks.backbone, "numpy") as file:
        metadata = {key: text for key, text in file.metadata().items() if key != CHECKSUM}
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(safetensors.numpy.save(flat, metadata))
    message = refused(clip, tmp_path / "out", "--backbone", broken)
    assert message.startswith(f"{broken}")
    assert "conv_hr/bias" in message


def test_matches_that_are_missing_or_invalid(refused, networks, tmp_path, clip, monkeypatch):
    folder = tmp_path / "matches"
    folder.mkdir()
    words = ("--lrrf", networks.trained, "--matcher", folder, "--ref", clip / "shot_00.png")
    first, last = (folder / f"0000000{key}_shot_00.npz" for key in (0, 2))
    confidence = np.ones(HR, np.float32)
    np.savez(first, warp=np.zeros((*HR, 2), np.float32), confidence=confidence)
    with monkeypatch.context() as patch:
        # Missing files are found before the first frame is processed.
        patch.setattr(streaming.WindowFeatures, "__init__", None)
        assert refused(clip, tmp_path / "out", *words).startswith(f"{last}: no such file")
    np.savez(last, warp=np.zeros((*LR, 2), np.float32), confidence=confidence)
    assert "'warp' has shape (8, 10, 2)" in refused(clip, tmp_path / "out", *words)
    np.savez(last, warp=np.full((*HR, 2), np.nan, np.float32), confidence=confidence)
    assert "not finite" in refused(clip, tmp_path / "b.mp4", *words)


@pytest.mark.parametrize("out", ["out", "new/out", "b.mp4"])
def test_a_full_disk(refused, tmp_path, clip, monkeypatch, out):
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > (1 if out.endswith("out") else 0):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    expected = f"{tmp_path / out}: cannot be written (No space left on device); choose another place"
    assert refused(clip, tmp_path / out) == expected
    assert calls


def test_a_full_disk_leaves_existing_outputs_untouched(upscale, tmp_path, clip, monkeypatch):
    for out in ("out", "b.mp4"):
        assert upscale(clip, tmp_path / out).code == 0
    before = listing(tmp_path)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for out in ("out", "b.mp4"):
        done = upscale(clip, tmp_path / out, "--overwrite", "--scale", 2)
        assert done.code == 2
        assert done.message.startswith(f"ldip: {tmp_path / out}: cannot be written")
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes.")]
)
def test_out_of_memory(refused, tmp_path, clip, monkeypatch, error):
    def fail(*args):
        raise error

    monkeypatch.setattr(in_flight.jax, "block_until_ready", fail)
    assert refused(clip, tmp_path / "out").startswith("out of memory; ")


def test_an_internal_error_leaves_nothing_behind(upscale, tmp_path, clip, monkeypatch):
    before = listing(tmp_path)

    def fail(*args):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Programs, "__init__", fail)
    with pytest.raises(ZeroDivisionError):
        upscale(clip, tmp_path / "new" / "out")
    monkeypatch.undo()
    monkeypatch.setattr(in_flight.jax, "block_until_ready", fail)
    with pytest.raises(ZeroDivisionError):
        upscale(clip, tmp_path / "new" / "b.mp4")
    assert listing(tmp_path) == before


def test_ctrl_c(networks, tmp_path, rng):
    """The real thing: a signal in the middle of writing."""
    source = make_video(tmp_path / "a.mp4", moving(rng, 100, *LR), options={"preset": "ultrafast"})
    before = listing(tmp_path)
    words = [sys.executable, "-m", "ldip_jax.cli.main", "upscale", source, tmp_path / "new" / "out"]
    words += ["--backbone", networks.backbone, "--lrrf", "none"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not any(tmp_path.glob("new/.out.ldip/frames/*.png")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "ldip: interrupted"
    assert "Traceback" not in err
    assert listing(tmp_path) == before
