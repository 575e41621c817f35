"""`ldip_jax.upscale` with arrays of every kind."""

import numpy as np
import pytest

import ldip_jax
from ldip_jax.errors import InputError
from ldip_jax.inference import api
from ldip_jax.inference.api import as_float, checked
from tests.networks import HR, LR


@pytest.fixture
def call(networks):
    def upscale(frames, **options):
        return ldip_jax.upscale(frames, **{"backbone": networks.backbone, "lrrf": "none", **options})

    return upscale


@pytest.fixture
def frames(rng):
    return rng.integers(0, 256, (3, *LR, 3), dtype=np.uint8)


def test_frames_of_any_type_give_float32_in_range(call, frames):
    expected = call(frames)
    assert expected.shape == (3, *HR, 3)
    assert expected.dtype == np.float32
    assert 0.0 <= expected.min() < expected.max() <= 1.0
    exact = frames.astype(np.float32) / np.float32(255)
    for same in (exact, exact.astype(np.float64), frames.astype(np.uint16) * 257):
        np.testing.assert_allclose(call(same), expected, atol=1e-6)
    np.testing.assert_allclose(call(exact.astype(np.float16)), expected, atol=2e-3)


def test_the_frames_given_stay_as_they_are(call, frames):
    exact = frames.astype(np.float32) / 255
    before = exact.copy()
    call(exact)
    np.testing.assert_array_equal(exact, before)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"scale": 1.0}, LR),
        ({"scale": 1.5}, (12, 15)),
        ({"size": (9, 44)}, (9, 44)),
        ({"size": [9, 44]}, (9, 44)),
        ({"size": np.array(HR)}, HR),
    ],
)
def test_scales_and_sizes(call, frames, options, size):
    assert call(frames[:1], **options).shape == (1, *size, 3)


def test_references_of_several_types_and_sizes(call, networks, frames, rng):
    refs = [rng.integers(0, 256, (38, 46, 3), dtype=np.uint8), rng.uniform(0, 1, (32, 40, 3))]
    options = {"matcher": "flow", "self_refs": 2, "exclude": 0, "ref_threshold": 0.0}
    alone = call(frames)
    quiet = call(frames, refs=refs, lrrf=networks.untrained, **options)
    np.testing.assert_array_equal(quiet, alone)
    refined = call(frames, refs=refs, lrrf=networks.trained, **options)
    assert np.abs(refined - alone).max(axis=(1, 2, 3)).min() > 1e-3
    assert np.abs(refined - call(frames, lrrf=networks.trained, **options)).max() > 1e-3


def test_what_the_command_would_say_is_logged(call, frames, caplog):
    call(frames, lrrf="default")
    assert [record.name for record in caplog.records if "the backbone runs alone" in record.message] == [
        "ldip_jax"
    ]


def test_a_default_that_is_missing_is_the_backbone_alone(call, frames):
    np.testing.assert_array_equal(call(frames[:1], lrrf="default"), call(frames[:1]))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scale": 2.0, "size": (16, 20)}, "give scale or size, not both"),
        ({"scale": 9.0}, "scale 9: it must be between 1 and 8"),
        ({"scale": np.nan}, "scale nan: it must be between 1 and 8"),
        ({"size": (2, 40)}, "size 40x2: "),
        ({"key_stride": 0}, "key stride 0: it must be at least 1"),
        ({"self_refs": -1}, "self references and excluded frames"),
        ({"exclude": -1}, "self references and excluded frames"),
        ({"ref_threshold": 1.5}, "reference threshold 1.5: "),
        ({"matcher": "sift"}, "sift: no such matcher"),
        ({"lrrf": "nowhere"}, "nowhere: no such file"),
        ({"backbone": "basicvsr"}, "basicvsr: neither a file nor a name"),
    ],
)
def test_arguments_that_cannot_be_used(call, frames, options, said):
    with pytest.raises(InputError) as caught:
        call(frames, **options)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scale", "size", "refs", "names", "said"),
    [
        (None, 40, (), {}, "size 40: give (height, width), two whole numbers"),
        (None, (16.0, 20.0), [], {}, "size (16.0, 20.0): give (height, width)"),
        (None, (16, 20, 3), [], {}, "size (16, 20, 3): give (height, width)"),
        ("2", None, (), {}, "scale '2': give one number"),
        ((2, 3), None, (), {}, "scale (2, 3): give one number"),
        (2, None, None, {}, "refs: NoneType; give a list of images"),
        (np.float32(2), None, (), {"lrrf": None}, "lrrf None: give a name or a path"),
    ],
)
def test_arguments_of_another_type(scale, size, refs, names, said):
    with pytest.raises(InputError) as caught:
        checked(scale, size, refs, names)
    assert str(caught.value).startswith(said)


def test_frames_of_several_sizes():
    with pytest.raises(InputError, match=r"^frames: images of several sizes"):
        as_float([np.zeros((4, 6, 3)), np.zeros((4, 8, 3))], "frames", 4)


def test_nothing_is_loaded_before_cheap_checks(call, frames, monkeypatch):
    def load(*args, **kwargs):
        raise AssertionError("loaded")

    monkeypatch.setattr(api, "load_model", load)
    for options in ({"scale": 9.0}, {"key_stride": 0}, {"matcher": "sift"}, {"exclude": -1}):
        with pytest.raises(InputError):
            call(frames, **options)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((2, 4, 6), np.uint8), "an array of shape (2, 4, 6); RGB of shape (t h w 3)"),
        (np.zeros((2, 4, 6, 4), np.uint8), "an array of shape (2, 4, 6, 4)"),
        (np.zeros((2, 3, 4, 6), np.float32), "an array of shape (2, 3, 4, 6)"),
        (np.zeros((0, 4, 6, 3), np.float32), "an array of shape (0, 4, 6, 3)"),
        (np.zeros((2, 4, 6, 3), np.int32), "an array of int32; give uint8, uint16 or floats"),
        (np.zeros((2, 4, 6, 3), bool), "an array of bool"),
        (np.zeros((2, 4, 6, 3), object), "an array of object"),
        (np.zeros((2, 4, 6, 3), np.complex64), "an array of complex64"),
        (np.full((2, 4, 6, 3), 255.0, np.float32), "values outside of [0, 1]"),
        (np.full((2, 4, 6, 3), -0.01, np.float64), "values outside of [0, 1]"),
        (np.full((2, 4, 6, 3), np.nan, np.float32), "values outside of [0, 1], or not numbers"),
        (np.full((2, 4, 6, 3), np.inf, np.float32), "values outside of [0, 1]"),
    ],
)
def test_arrays_that_cannot_be_used(images, said):
    with pytest.raises(InputError) as caught:
        as_float(images, "frames", 4)
    assert str(caught.value).startswith(f"frames: {said}")


def test_one_number_that_is_none_is_enough(call, frames):
    broken = frames.astype(np.float32) / 255
    broken[1, 2, 3, 0] = np.nan
    with pytest.raises(InputError, match=r"^frames: values outside"):
        call(broken)
    with pytest.raises(InputError, match=r"^refs\[1\]: values outside"):
        call(frames, refs=[frames[0], broken[1]])


def test_the_range_of_integers_is_their_type_s():
    assert as_float(np.full((1, 1, 1, 3), 255, np.uint8), "frames", 4).max() == 1.0
    assert as_float(np.full((1, 1, 3), 65535, np.uint16), "ref", 3).max() == 1.0
    assert as_float(np.full((1, 1, 3), 255, np.uint16), "ref", 3).max() < 0.004
