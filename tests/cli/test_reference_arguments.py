"""`--ref IMAGE@MOMENT` and `--ref-mask IMAGE=MASK`."""

import argparse
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldip_jax.cli.reference_arguments import ReferenceArgument, frame_of, parse_reference, split_masks
from ldip_jax.errors import InputError
from ldip_jax.media.reader import open_clip
from tests.cli.clips import listing, random_frames, write_folder
from tests.media.make import make_video, moving
from tests.networks import HR, LR

LRRF = ("--matcher", "flow", "--key-stride", 4, "--self-refs", 0, "--ref-threshold", 0)


@pytest.fixture
def clip(tmp_path, rng):
    return write_folder(tmp_path / "in", random_frames(rng, 7))


@pytest.fixture
def photo(tmp_path, rng):
    path = tmp_path / "photo.png"
    Image.fromarray(rng.integers(0, 256, (*HR, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def video(tmp_path, rng):
    return make_video(tmp_path / "a.mp4", moving(rng, 12, *LR), rate=Fraction(30000, 1001))


@pytest.fixture
def refused(upscale, networks, clip, tmp_path):
    """Runs `ldip upscale`, which must fail, and returns the line that says why."""

    def run(*words, source=clip):
        done = upscale(source, tmp_path / "out", "--lrrf", networks.trained, *words)
        assert done.code == 2
        assert not (tmp_path / "out").exists()
        return done.message

    return run


@pytest.mark.parametrize(
    ("text", "path", "moment"),
    [
        ("a.png", "a.png", None),
        ("a.png@37", "a.png", 37),
        ("a.png@0", "a.png", 0),
        ("a.png@00:12.5", "a.png", Fraction(25, 2)),
        ("a.png@90:05", "a.png", 5405),
        ("a.png@1:02:03.25", "a.png", 3723 + Fraction(1, 4)),
        ("me@home/a@2.png@8", "me@home/a@2.png", 8),
        ("me@home/a.png", "me@home/a.png", None),
        ("@37", "@37", None),
    ],
)
def test_reference_arguments_are_parsed(text, path, moment):
    named = parse_reference(text)
    assert (named.text, named.path, named.moment) == (text, Path(path), moment)


def test_an_argument_that_names_an_existing_file_has_no_moment(tmp_path, photo):
    path = tmp_path / "photo.png@37"
    path.write_bytes(photo.read_bytes())
    assert parse_reference(str(path)).moment is None
    assert parse_reference(f"{path}@5") == ReferenceArgument(f"{path}@5", path, 5)


@pytest.mark.parametrize(
    "tail", ["", "x", "-1", "1.5", "12:60", "1:60:00", "1:2:3:4", "12:", ":12", "1e3", "\N{SUPERSCRIPT TWO}"]
)
def test_invalid_moments_are_refused(photo, tail):
    with pytest.raises(argparse.ArgumentTypeError, match="neither a frame"):
        parse_reference(f"{photo}@{tail}")


def test_a_time_means_the_frame_that_is_shown_then(video):
    with open_clip(video) as clip:
        for seconds, frame in ((Fraction(0), 0), (Fraction(1, 30), 0), (Fraction(34, 1000), 1)):
            assert frame_of(ReferenceArgument("a", Path("a"), seconds), clip) == frame
        assert frame_of(ReferenceArgument("a", Path("a"), 11), clip) == 11
        assert frame_of(ReferenceArgument("a", Path("a")), clip) is None
        for moment in (12, Fraction(2, 5) + Fraction(1, 100)):
            with pytest.raises(InputError, match="that moment is not in the clip; its 12 frames of 0"):
                frame_of(ReferenceArgument("a@", Path("a"), moment), clip)


def test_times_of_a_variable_frame_rate(video):
    with open_clip(video) as clip:
        times = [Fraction(0), Fraction(1, 10), Fraction(3, 2)]
        object.__setattr__(clip, "times", times)
        object.__setattr__(clip, "count", 3)
        object.__setattr__(clip, "hold", Fraction(1, 2))
        for seconds, frame in ((0.0, 0), (0.09, 0), (0.1, 1), (1.4, 1), (1.5, 2), (1.99, 2)):
            assert frame_of(ReferenceArgument("a", Path("a"), Fraction(str(seconds))), clip) == frame
        with pytest.raises(InputError):
            frame_of(ReferenceArgument("a", Path("a"), Fraction(2)), clip)


def test_moments_that_the_clip_does_not_have_are_refused(refused, photo, video):
    assert f"{photo}@7: that moment is not in the clip" in refused("--ref", f"{photo}@7")
    assert "its 7 frames are counted from 0" in refused("--ref", f"{photo}@7")
    assert f"{photo}@00:00.1: images have no times" in refused("--ref", f"{photo}@00:00.1")
    assert f"{photo}@00:01: that moment" in refused("--ref", f"{photo}@00:01", source=video)
    assert "'1x' is neither a frame" in refused("--ref", f"{photo}@1x")
    assert "none.png: no such file" in refused("--ref", "none.png@3")


def reported(done):
    return dict(re.findall(r"^key-frame (\d+): (.*)$", done.err, re.MULTILINE))


def test_a_moment_becomes_a_key_frame_and_its_still_is_used_in_its_shot(
    upscale, networks, clip, photo, tmp_path
):
    other = tmp_path / "other.png"
    other.write_bytes(photo.read_bytes())
    words = ("--lrrf", networks.trained, "--verbose", "--cuts", 4, *LRRF)
    done = upscale(clip, tmp_path / "out", *words, "--ref", f"{photo}@1", other)
    assert done.code == 0
    found = {int(key): re.findall(r"(\w+) \(", text) for key, text in reported(done).items()}
    assert {key: sorted(names) for key, names in found.items()} == {
        0: ["other", "photo"],
        1: ["other", "photo"],
        3: ["other", "photo"],
        4: ["other"],
        6: ["other"],
    }


def test_mask_arguments_are_parsed():
    named = [parse_reference(text) for text in ("stills/a.png@3", "b=c.png", "d.png")]
    for word, expected in {
        "stills/a.png=m.png": ("a", "m.png"),
        "stills/a.png@3=m.png": ("a", "m.png"),
        "a=m=1.png": ("a", "m=1.png"),
        "b=c.png=m.png": ("b=c", "m.png"),
        "b=c=m.png": ("b=c", "m.png"),
        "d=": ("d", "."),
    }.items():
        assert split_masks(named, [word]) == [(expected[0], Path(expected[1]))]
    for word in ("m.png", "e=m.png", "=m.png", "a.png=m.png"):
        with pytest.raises(InputError, match="--ref-mask"):
            split_masks(named, [word])


def test_invalid_masks_are_refused(refused, photo, tmp_path):
    small, words = tmp_path / "small.png", tmp_path / "words.png"
    Image.new("L", (HR[1] - 1, HR[0]), 255).save(small)
    words.write_text("no image")
    message = refused("--ref", photo, "--ref-mask", f"{photo}={small}")
    assert f"{small}: is 39x32, but photo is 40x32; a mask is as large as its still" in message
    assert f"{words}: " in refused("--ref", photo, "--ref-mask", f"photo={words}")
    assert "none.png: no such file" in refused("--ref", photo, "--ref-mask", "photo=none.png")
    assert "is not IMAGE=MASK" in refused("--ref", photo, "--ref-mask", small)
    assert "--ref names no still other" in refused("--ref", photo, "--ref-mask", f"other={small}")
    full = tmp_path / "full.png"
    Image.new("L", (HR[1], HR[0]), 255).save(full)
    assert "has a mask already" in refused("--ref", photo, "--ref-mask", f"photo={full}", f"photo={full}")


def test_a_black_mask_leaves_the_still_out_and_a_white_one_changes_nothing(
    upscale, networks, clip, photo, tmp_path
):
    words = ("--lrrf", networks.trained, "--verbose", "--ref", photo, *LRRF)
    for name, value in (("black", 0), ("white", 255)):
        Image.new("L", (HR[1], HR[0]), value).save(tmp_path / f"{name}.png")
        mask = f"photo={tmp_path / name}.png"
        done = upscale(clip, tmp_path / name, *words, "--ref-mask", mask)
        assert done.code == 0
        assert ("photo (0 %)" in reported(done)["0"]) == (name == "black")
    assert upscale(clip, tmp_path / "plain", *words).code == 0
    assert listing(tmp_path / "white") == listing(tmp_path / "plain")
    assert listing(tmp_path / "black") != listing(tmp_path / "plain")
