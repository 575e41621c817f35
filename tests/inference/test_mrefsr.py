"""MRefSR on clips: every frame by itself, with all stills; its name, and what it refuses."""

import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.inference.mrefsr import MRefSRUpscaler, fit_into
from ldip_jax.inference.mrefsr_model import load_extractor, load_mrefsr, method_title
from ldip_jax.inference.reference_images import Still
from tests.networks import HR, LR, write_mrefsr
from tests.scenes import blocks


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_mrefsr(tmp_path_factory.mktemp("mrefsr"))


@pytest.fixture(scope="module")
def upscaler(files):
    model = load_mrefsr(files.restoration, extractor=files.extractor, vgg=files.vgg)
    assert model.title == "MRefSR"
    return MRefSRUpscaler(model, LR, HR)


@pytest.fixture(scope="module")
def clip():
    """Two frames and two stills."""
    picture = blocks(1, HR[0], HR[1] + 4, 40)
    frames = [picture[2::4, 2 + 4 * i : HR[1] + 4 * i : 4] for i in range(2)]
    return frames, [Still("a", picture[:, : HR[1]]), Still("b", picture[:, 4:])]


def test_a_frame_depends_on_every_still_but_on_no_other_frame(upscaler, clip):
    frames, stills = clip
    done = []
    both = list(upscaler.frames(frames, stills, done.append))
    assert [image.shape for image in both] == [(*HR, 3)] * 2
    assert upscaler.work(2, stills) == {"match": done.count("match"), "restore": done.count("restore")}
    assert np.ptp(both[0]) > 0.05
    (second,) = upscaler.frames(frames[1:], stills)
    np.testing.assert_array_equal(second, both[1])
    (swapped,) = upscaler.frames(frames[1:], stills[::-1])
    np.testing.assert_allclose(swapped, second, rtol=0, atol=1e-5)
    (other,) = upscaler.frames(frames[1:], [stills[0], Still("c", np.ones((*HR, 3), np.float32))])
    assert np.abs(other - second).max() > 1e-3


def test_other_sizes_are_resized_with_a_note(upscaler, clip):
    frames, _ = clip
    smaller = MRefSRUpscaler(upscaler.model, LR, (20, 25))
    assert smaller.notes == ["MRefSR is for x4: its output is resized"]
    with pytest.raises(InputError, match="needs reference images"):
        next(smaller.frames(frames))


def test_frames_smaller_than_a_patch_are_refused(upscaler):
    with pytest.raises(InputError, match="2x9 are too small for MRefSR"):
        MRefSRUpscaler(upscaler.model, (9, 2), (36, 8))


def test_stills_are_fitted_into_the_frame_and_padded(rng):
    image = rng.random((*HR, 3)).astype(np.float32)
    np.testing.assert_array_equal(fit_into(Still("a", image), HR), image)
    half = fit_into(Still("a", image), (HR[0] // 2, HR[1]))
    assert half.shape == (HR[0] // 2, HR[1], 3)
    assert not half[:, HR[1] // 2 :].any()
    np.testing.assert_allclose(half[:, : HR[1] // 2].mean(), image.mean(), atol=0.02)
    mask = np.zeros(HR, np.float32)
    mask[:8] = 1.0
    masked = fit_into(Still("a", image, mask=mask), HR)
    np.testing.assert_array_equal(masked[:8], image[:8])
    assert not masked[8:].any()


@pytest.mark.parametrize(
    ("encoder", "matches", "title"),
    [
        ("vgg19", "c2-matching", "MRefSR"),
        ("vgg19", "vgg16", "MRefSR restoration, our matches"),
        ("vgg16", "vgg16", "MRefSR restoration, our matches, VGG-16 features"),
        ("vgg16", "c2-matching", "MRefSR restoration, VGG-16 features"),
    ],
)
def test_only_the_published_method_is_called_mrefsr(encoder, matches, title):
    assert method_title({"encoder": encoder, "matches": matches}) == title


def test_missing_files_are_named():
    with pytest.raises(InputError, match=r"publish no trained restoration network.*--config mrefsr_x4"):
        load_mrefsr(None)
    with pytest.raises(InputError, match=r"feature_extraction_network\.pth.*--extractor FILE"):
        load_extractor("c2-matching")
