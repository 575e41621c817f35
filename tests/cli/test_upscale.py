"""`ldip upscale` from the command line: what is written, under which names, and what is reported."""

import json
import re
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

import ldip_jax
from ldip_jax.inference import model
from ldip_jax.inference.keyframes import select_key_frames
from ldip_jax.inference.softening import soften
from ldip_jax.media.reader import open_clip
from ldip_jax.weights.export import read_export, save_export
from ldip_jax.weights.load import load_weights
from tests.cli.clips import listing, random_frames, read_folder, write_folder
from tests.media.make import make_video, moving, packets
from tests.networks import HR, LR

SUMMARY = re.compile(
    r"(?P<out>.*): (?P<count>\d+) frames?, 10x8 to (?P<size>\d+x\d+), (?P<how>.*),"
    r" [\d.]+ s \([\d.]+ s a frame\)\n"
)
# Stills are noise and networks are random, so stills must be used as given.
LRRF = ("--matcher", "flow", "--key-stride", 4, "--exclude", 1, "--self-refs", 2, "--refs-as-given")


@pytest.fixture
def frames(rng):
    return random_frames(rng, 5)


@pytest.fixture
def clip(tmp_path, frames):
    return write_folder(tmp_path / "in", frames)


@pytest.fixture
def still(tmp_path, rng):
    path = tmp_path / "photo.png"
    Image.fromarray(rng.integers(0, 256, (38, 46, 3), dtype=np.uint8)).save(path)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_gives_the_output_of_the_network_under_the_same_names(
    upscale, networks, clip, frames, tmp_path
):
    done = upscale(clip, tmp_path / "out", "--bit-depth", 16)
    assert done.code == 0
    assert names(tmp_path / "out") == names(clip)
    match = SUMMARY.fullmatch(done.out)
    assert match, done.out
    assert match.groupdict() == {
        "out": str(tmp_path / "out"),
        "count": "5",
        "size": "40x32",
        "how": f"{load_weights(networks.backbone).name} only",
    }
    expected = ldip_jax.upscale(np.stack(frames), backbone=networks.backbone, lrrf="none")
    # round(65535 y), ties aside.
    assert np.abs(read_folder(tmp_path / "out") * 65535.0 - expected * 65535.0).max() < 0.51


def test_frames_are_softened_first(upscale, networks, clip, frames, tmp_path):
    done = upscale(clip, tmp_path / "out", "--bit-depth", 16, "--soften", 0.5)
    assert done.code == 0
    name = load_weights(networks.backbone).name
    assert SUMMARY.fullmatch(done.out)["how"] == f"softened by 0.5 pixels, then {name} only"
    soft = np.stack([soften(frame.astype(np.float32) / 255, 0.5) for frame in frames])
    expected = ldip_jax.upscale(soft, backbone=networks.backbone, lrrf="none")
    assert np.abs(read_folder(tmp_path / "out") * 65535.0 - expected * 65535.0).max() < 0.51
    given = ldip_jax.upscale(np.stack(frames), backbone=networks.backbone, lrrf="none", soften=0.5)
    np.testing.assert_array_equal(given, expected)


def test_a_user_learns_that_frames_were_softened(upscale, networks, clip, tmp_path, monkeypatch):
    name = load_weights(networks.backbone).name
    monkeypatch.setattr("ldip_jax.inference.upscaler.MEASURED", (name,))
    monkeypatch.setattr("ldip_jax.inference.upscaler.find_softening", lambda *_: 0.45)
    done = upscale(clip, tmp_path / "out")
    assert "softened by 0.45 pixels first (--soften none turns this off)" in done.err
    done = upscale(clip, tmp_path / "out", "--overwrite", "--soften", "none")
    assert done.code == 0
    assert "soften" not in done.out + done.err


def test_8_bit_png_is_rounded(upscale, clip, tmp_path):
    assert upscale(clip, tmp_path / "fine", "--bit-depth", 16).code == 0
    assert upscale(clip, tmp_path / "plain").code == 0
    fine, plain = read_folder(tmp_path / "fine"), read_folder(tmp_path / "plain")
    with Image.open(next((tmp_path / "plain").iterdir())) as image:
        assert (image.mode, image.size) == ("RGB", (40, 32))
    assert np.abs(fine * 255 - plain * 255).max() <= 0.5 + 0.01


def test_a_video_keeps_its_rate_sound_and_colours(upscale, tmp_path, rng):
    source = make_video(
        tmp_path / "a.mp4", moving(rng, 6, *LR), rate=Fraction(30000, 1001), sound=0.2, options={"crf": "5"}
    )
    target = tmp_path / "b.mkv"
    done = upscale(source, target)
    assert done.code == 0
    with open_clip(target) as out, open_clip(source) as into:
        assert (out.height, out.width, out.count) == (*HR, 6)
        assert out.fps == into.fps == Fraction(30000, 1001)
        assert (out.color.matrix, out.color.full_range) == (into.color.matrix, into.color.full_range)
        small = np.stack([np.stack(f)[::4, ::4] for f in out.frames()])
        # The order is kept: each frame is closest to its own input.
        given = np.stack(list(into.frames()))
        for index, frame in enumerate(small):
            assert np.argmin([np.abs(frame - other).mean() for other in given]) == index
    assert [data for _, data in packets(target, "audio")] == [data for _, data in packets(source, "audio")]
    assert "H.264" in done.err


def test_a_video_into_a_folder_and_back(upscale, tmp_path, rng):
    source = make_video(tmp_path / "a.mp4", moving(rng, 3, *LR))
    assert upscale(source, tmp_path / "out", "--scale", 1).code == 0
    assert names(tmp_path / "out") == ["00000000.png", "00000001.png", "00000002.png"]
    done = upscale(tmp_path / "out", tmp_path / "b.mp4", "--lossless", "--scale", 1)
    assert done.code == 0
    assert "25 frames per second" in done.err
    with open_clip(tmp_path / "b.mp4") as clip:
        assert (clip.count, clip.fps, clip.height, clip.width) == (3, 25, *LR)


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv"])
def test_lossless_video_has_the_values_of_the_png_files(upscale, clip, tmp_path, name):
    assert upscale(clip, tmp_path / "out").code == 0
    assert upscale(clip, tmp_path / name, "--lossless").code == 0
    with open_clip(tmp_path / name) as video:
        np.testing.assert_array_equal(np.stack(list(video.frames())), read_folder(tmp_path / "out"))


def test_a_clip_with_hidden_frames(upscale, tmp_path, rng):
    """VP8 has frames that are never shown: the number of the others is known only after decoding."""
    source = make_video(
        tmp_path / "a.webm", moving(rng, 12, *LR), codec="libvpx", options={"crf": "10", "b": "1M"}
    )
    with open_clip(source) as clip:
        assert clip.count == 12
    done = upscale(source, tmp_path / "out", "--report", tmp_path / "page.html")
    assert done.code == 0
    assert names(tmp_path / "out") == [f"{index:08d}.png" for index in range(12)]
    assert "12 frames" in done.out
    assert (tmp_path / "page.html").stat().st_size > 0


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (("--scale", "2.5"), (25, 20)),
        (("--scale", "3"), (30, 24)),
        (("--scale", "1"), (10, 8)),
        (("--scale", "8"), (80, 64)),
        (("--size", "33x25"), (33, 25)),
        (("--size", "40X32"), (40, 32)),
        (("--size", "10x64"), (10, 64)),
    ],
)
def test_scales_and_sizes(upscale, clip, tmp_path, words, size):
    done = upscale(clip, tmp_path / "out", *words)
    assert done.code == 0
    for path in (tmp_path / "out").iterdir():
        with Image.open(path) as image:
            assert image.size == size
    assert f" to {size[0]}x{size[1]}, " in done.out
    assert ("trained for x4" in done.err) == (size != (40, 32))


def test_an_odd_size_as_video(upscale, clip, tmp_path):
    assert upscale(clip, tmp_path / "b.mp4", "--size", "33x25").code == 0
    with open_clip(tmp_path / "b.mp4") as video:
        assert (video.height, video.width, video.count) == (25, 33, 5)


def test_one_image_gives_one_image(upscale, clip, tmp_path):
    source = clip / "shot_02.png"
    done = upscale(source, tmp_path / "large.png")
    assert done.code == 0
    assert "1 frame, 10x8 to 40x32" in done.out
    with Image.open(tmp_path / "large.png") as image:
        assert image.size == (40, 32)
    assert upscale(source, tmp_path / "out").code == 0
    assert names(tmp_path / "out") == ["shot_02.png"]


def test_running_only_the_backbone_is_reported_unless_requested(upscale, clip, tmp_path, still):
    done = upscale(clip, tmp_path / "a", "--lrrf", "default", "--ref", still)
    assert done.code == 0
    assert "only the backbone runs" in done.err
    assert "the reference images are ignored, because only LRRF uses them" in done.err
    quiet = upscale(clip, tmp_path / "b", "--lrrf", "none")
    assert "random1 only" not in quiet.err
    np.testing.assert_array_equal(read_folder(tmp_path / "a"), read_folder(tmp_path / "b"))


@pytest.mark.parametrize("lrrf", ["default", "shipped"])
def test_with_shipped_weights_only_the_backbone_runs_where_no_still_matches(
    upscale, networks, clip, tmp_path, still, monkeypatch, lrrf
):
    shipped = replace(read_export(networks.trained), provenance={"use": "with stills"})
    save_export(tmp_path / "shipped.safetensors", shipped)
    monkeypatch.setattr(model, "shipped_export", lambda backbone, kind: tmp_path / "shipped.safetensors")
    monkeypatch.setattr("ldip_jax.weights.export.SHIPPED", tmp_path)
    for key in (0, 4):
        matches(tmp_path, key, "photo", 0.0)
    words = ("--lrrf", lrrf, "--ref", still, "--matcher", tmp_path, "--key-stride", 4)
    done = upscale(clip, tmp_path / "unmatched", *words)
    assert done.code == 0
    assert "5 of 5 frames lie in shots where no still matches: only the backbone made these" in done.err
    assert "random1 only, 0 of 1 stills used" in done.out
    assert upscale(clip, tmp_path / "backbone").code == 0
    assert listing(tmp_path / "unmatched") == listing(tmp_path / "backbone")


def test_an_untrained_lrrf_writes_the_files_of_the_backbone_bit_for_bit(
    upscale, networks, clip, tmp_path, still
):
    assert upscale(clip, tmp_path / "backbone", "--bit-depth", 16).code == 0
    words = ("--bit-depth", 16, "--lrrf", networks.untrained, "--ref", still, "--verbose", *LRRF)
    done = upscale(clip, tmp_path / "untrained", *words)
    assert done.code == 0
    assert listing(tmp_path / "untrained") == listing(tmp_path / "backbone")
    assert "with LRRF, 1 of 1 stills used" in done.out


def test_a_trained_lrrf_changes_every_frame_and_reports_the_references_used(
    upscale, networks, clip, tmp_path, still
):
    assert upscale(clip, tmp_path / "backbone").code == 0
    page = tmp_path / "page.html"
    profile = tmp_path / "profile.json"
    words = ("--lrrf", networks.trained, "--ref", still, "--verbose", "--report", page, *LRRF)
    done = upscale(clip, tmp_path / "refined", *words, "--profile", profile)
    assert done.code == 0
    difference = np.abs(read_folder(tmp_path / "refined") - read_folder(tmp_path / "backbone"))
    assert difference.max(axis=(1, 2, 3)).min() > 2 / 255
    reported = dict(re.findall(r"^key-frame (\d+): (.*)$", done.err, re.MULTILINE))
    assert list(map(int, reported)) == select_key_frames(0, 5, 4, ends=True) == [0, 4]
    assert re.fullmatch(r"photo \(\d+ %\), frame [234] \(\d+ %\)", reported["0"])
    assert re.fullmatch(r"photo \(\d+ %\), frame [012] \(\d+ %\)", reported["4"])
    assert "with LRRF, 1 of 1 stills used" in done.out
    assert f"{page}: report" in done.out
    assert f"{profile}: profile" in done.out
    measured = json.loads(profile.read_text())
    assert {"decode", "features", "matching", "fusion", "hrip", "decoder", "encode"} < set(measured["parts"])
    assert measured["frames"] == measured["parts"]["encode"]["steps"]["encode"]["calls"] == 5
    seconds = [part["seconds"] for part in measured["parts"].values()]
    assert sum(seconds) == pytest.approx(measured["seconds"], abs=0.01)
    text = page.read_text()
    assert "frame 4" in text
    assert "photo" in text


def matches(folder, key, name, confidence):
    y, x = np.mgrid[: HR[0], : HR[1]].astype(np.float32)
    warp = np.stack([(x + 0.5) * 46 / HR[1] - 0.5, (y + 0.5) * 38 / HR[0] - 0.5], -1)
    full = np.full(HR, confidence, np.float32)
    np.savez(folder / f"{key:08d}_{name}.npz", warp=warp, confidence=full)


def test_precomputed_matches_and_the_threshold(upscale, networks, clip, tmp_path, still):
    useless = tmp_path / "useless.png"
    useless.write_bytes(still.read_bytes())
    folder = tmp_path / "matches"
    folder.mkdir()
    for key in (0, 4):
        matches(folder, key, "photo", 1.0)
        matches(folder, key, "useless", 0.1)
    words = ("--lrrf", networks.trained, "--matcher", folder, "--key-stride", 4, "--verbose")
    words += ("--refs-as-given", "--ref")
    both = upscale(clip, tmp_path / "both", *words, still, "--ref", useless)
    assert both.code == 0
    assert "key-frame 0: photo (100 %), useless (0 %, not used: matches too little)\n" in both.err
    assert "1 of 2 stills used" in both.out
    one = upscale(clip, tmp_path / "one", *words, still)
    assert one.code == 0
    assert listing(tmp_path / "one") == listing(tmp_path / "both")
    kept = upscale(clip, tmp_path / "kept", *words, still, useless, "--ref-threshold", 0)
    assert "key-frame 4: photo (100 %), useless (0 %)\n" in kept.err
    assert "2 of 2 stills used" in kept.out
    assert listing(tmp_path / "kept") != listing(tmp_path / "both")


def test_an_existing_output_is_kept_by_default(upscale, clip, tmp_path):
    out, page = tmp_path / "out", tmp_path / "page.html"
    assert upscale(clip, out, "--report", page).code == 0
    before = listing(tmp_path)
    assert upscale(clip, out).code == 2
    assert upscale(clip, tmp_path / "other", "--report", page).code == 2
    assert listing(tmp_path) == before
    done = upscale(clip, out, "--scale", 2, "--report", page, "--overwrite")
    assert done.code == 0
    assert read_folder(out).shape == (5, 16, 20, 3)
    assert listing(tmp_path)["page.html"] != before["page.html"]


def test_missing_folders_of_the_output_are_created(upscale, clip, tmp_path):
    assert upscale(clip, tmp_path / "new" / "deep" / "out").code == 0
    assert names(tmp_path / "new" / "deep" / "out") == names(clip)


@pytest.mark.parametrize(
    ("mode", "note"), [("RGBA", "alpha dropped"), ("L", "grey to RGB"), ("CMYK", "CMYK to RGB")]
)
def test_images_of_other_modes_are_converted_with_a_note(upscale, tmp_path, rng, mode, note):
    folder = tmp_path / "in"
    folder.mkdir()
    channels = {"L": ()}.get(mode, (4,))
    for index in range(2):
        image = Image.fromarray(rng.integers(0, 256, (*LR, *channels), dtype=np.uint8), mode=mode)
        image.save(folder / f"{index}.{'tif' if mode == 'CMYK' else 'png'}")
    done = upscale(folder, tmp_path / "out")
    assert done.code == 0
    assert f"{folder}: {note}" in done.err
    assert read_folder(tmp_path / "out").shape == (2, *HR, 3)
    assert names(tmp_path / "out") == ["0.png", "1.png"]


def test_a_converted_reference_is_noted(upscale, clip, tmp_path, rng):
    grey = tmp_path / "grey.png"
    Image.fromarray(rng.integers(0, 256, (20, 30), dtype=np.uint8)).save(grey)
    done = upscale(clip, tmp_path / "out", "--ref", grey)
    assert done.code == 0
    assert f"{grey}: grey to RGB" in done.err


def test_bit_depth_16_gives_10_bit_video(upscale, clip, tmp_path):
    assert upscale(clip, tmp_path / "b.mp4", "--bit-depth", 16).code == 0
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p10le"


def test_help_has_every_flag_of_the_contract_with_its_default(ldip):
    done = ldip("upscale", "--help")
    assert done.code == 0
    text = " ".join(done.out.split())
    defaults = {
        "--scale": "4",
        "--size WIDTHxHEIGHT": None,
        "--ref": None,
        "--ref-mask IMAGE=MASK": None,
        "--refs-as-given": None,
        "--backbone NAME|FILE": "basicvsr-reds4",
        "--lrrf default|none|NAME|FILE": "default",
        "--key-stride": "8",
        "--self-refs": "5 frames of the clip if no still matches, else only stills",
        "--exclude": "5",
        "--ref-threshold": "0.05",
        "--matcher gmflow|flow|DIR": "gmflow",
        "--propagation {hrip,carry,both}": "the one that LRRF was trained for",
        "--cuts auto|none|FRAME,...": "auto",
        "--bit-depth {auto,8,16}": "auto",
        "--codec {h264,h265,vp9,av1,prores,ffv1}": "h264",
        "--crf": "18, or 24 for vp9 and av1",
        "--lossless": None,
        "--overwrite": None,
        "--report FILE.html": None,
        "--profile FILE.json": None,
        "--fps RATE": "25 in a video",
        "--verbose": None,
    }
    options = text[text.index("options:") :]
    for flag, default in defaults.items():
        assert f" {flag} " in options, flag
        if default is not None:
            rest = options[options.index(f" {flag} ") :]
            assert re.search(r"\(default: (.*?)\)", rest)[1] == default, flag
    assert "(default: None)" not in text
    assert "(default: False)" not in text
    assert "(default: [])" not in text
