"""`ldip upscale --method mrefsr` and `ldip info --method mrefsr`."""

import numpy as np
import pytest
from PIL import Image

from tests.networks import HR, LR, mrefsr_flags, write_mrefsr
from tests.scenes import blocks


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_mrefsr(tmp_path_factory.mktemp("mrefsr"))


@pytest.fixture
def scene(tmp_path):
    """A folder of two frames, and two stills."""
    picture = np.round(blocks(1, HR[0], HR[1] + 4, 40) * 255).astype(np.uint8)
    (tmp_path / "frames").mkdir()
    for i in range(2):
        frame = picture[2::4, 2 + 4 * i : HR[1] + 4 * i : 4]
        assert frame.shape[:2] == LR
        Image.fromarray(frame).save(tmp_path / "frames" / f"{i}.png")
        Image.fromarray(picture[:, 4 * i : HR[1] + 4 * i]).save(tmp_path / f"still{i}.png")
    return tmp_path


def test_a_clip_is_upscaled_with_stills(ldip, files, scene):
    stills = ("--ref", scene / "still0.png", scene / "still1.png")
    done = ldip("upscale", scene / "frames", scene / "out", *stills, *mrefsr_flags(files))
    assert done.code == 0, done.err
    assert f"{LR[1]}x{LR[0]} to {HR[1]}x{HR[0]}, MRefSR, " in done.out
    images = [np.asarray(Image.open(scene / "out" / f"{i}.png")) for i in range(2)]
    assert images[0].shape == (*HR, 3)
    assert np.ptp(images[0]) > 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "mrefsr"), "--method mrefsr: needs reference images"),
        (("--method", "mrefsr", "--ref", "still0.png"), "publish no trained restoration network"),
        (("--method", "mrefsr", "--ref", "still0.png", "--report", "a.html"), "leave it out"),
        (("--extractor", "a.pth"), "--extractor a.pth: is for --method mrefsr"),
    ],
)
def test_missing_and_unsupported_arguments_are_named_in_one_line(ldip, scene, words, message):
    done = ldip("upscale", scene / "frames", scene / "out", *words)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not (scene / "out").exists()


def test_components_are_counted(ldip):
    done = ldip("info", "--method", "mrefsr")
    assert done.code == 0
    rows = {line.split()[0]: line.split()[1] for line in done.out.splitlines() if "," in line}
    assert rows["restoration"] == "23,711,633"
    assert rows["total"] == "25,377,617"
