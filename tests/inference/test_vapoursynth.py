"""The VapourSynth function, if VapourSynth is installed (its wheels need Python 3.12)."""

import numpy as np
import pytest

from ldip_jax import InputError, Upscaler
from ldip_jax.media.images import write_png
from tests.networks import LR

vs = pytest.importorskip("vapoursynth")
OPTIONS = {"matcher": "flow", "ref_threshold": 0.0}


def as_clip(images):
    """An RGBS clip of these images, whose frames are numbered by a property."""

    def write(n, f):
        frame = f.copy()
        for plane in range(3):
            np.copyto(np.asarray(frame[plane]), images[n][..., plane])
        frame.props["number"] = n
        return frame

    count, height, width, _ = images.shape
    blank = vs.core.std.BlankClip(None, width, height, vs.RGBS, length=count, fpsnum=24, fpsden=1)
    return blank.std.ModifyFrame(blank, write)


def as_array(frame):
    return np.stack([np.asarray(frame[plane]) for plane in range(3)], axis=-1)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(1).uniform(size=(5, *LR, 3)).astype(np.float32)


def test_frames_equal_those_of_the_library_in_any_order_with_every_kind_of_still(networks, frames, tmp_path):
    from ldip_jax.vapoursynth import upscale

    still = np.random.default_rng(2).integers(0, 256, (32, 40, 3)).astype(np.float32) / 255
    write_png(tmp_path / "still.png", still)
    expected = Upscaler(networks.backbone, networks.trained, **OPTIONS)(frames, [still])
    clip = as_clip(frames)
    for ref in (still, str(tmp_path / "still.png"), as_clip(still[None])):
        upscaled = upscale(clip, [ref], backbone=networks.backbone, lrrf=networks.trained, **OPTIONS)
        assert (upscaled.num_frames, upscaled.fps, upscaled.format.id) == (5, clip.fps, vs.RGBS)
        for number in (3, 0, 4):
            frame = upscaled.get_frame(number)
            assert frame.props["number"] == number
            np.testing.assert_allclose(as_array(frame), expected[number], atol=1e-6)


def test_frames_are_requested_by_several_threads(networks, frames):
    from ldip_jax.vapoursynth import upscale

    upscaled = upscale(as_clip(frames * 1.5 - 0.2), backbone=networks.backbone, lrrf="none", scale=2.5)
    expected = Upscaler(networks.backbone, "none", scale=2.5)(np.clip(frames * 1.5 - 0.2, 0, 1))
    found = [as_array(frame) for frame in upscaled.frames(prefetch=5)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_invalid_clips_are_refused(networks, frames):
    from ldip_jax.vapoursynth import upscale

    for clip in (None, vs.core.std.BlankClip(format=vs.RGB24)):
        with pytest.raises(InputError, match=r"^clip: "):
            upscale(clip, backbone=networks.backbone)
    with pytest.raises(InputError, match=r"^refs\[0\]: int; give a clip"):
        upscale(as_clip(frames), [3], backbone=networks.backbone)
