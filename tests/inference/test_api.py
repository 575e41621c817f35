"""`ldip_jax.upscale` with arrays of every kind."""

import math

import numpy as np
import pytest

import ldip_jax
from ldip_jax.errors import InputError
from ldip_jax.inference import api
from ldip_jax.inference.arguments import (
    as_cuts,
    as_float,
    as_moment,
    as_stills,
    check_names,
    one_per_reference,
    output_shape,
    real_number,
    whole_number,
)
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


def test_the_input_frames_are_not_modified(call, frames):
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
    backbone_only = call(frames)
    quiet = call(frames, refs=refs, lrrf=networks.untrained, **options)
    np.testing.assert_array_equal(quiet, backbone_only)
    refined = call(frames, refs=refs, lrrf=networks.trained, **options)
    assert np.abs(refined - backbone_only).max(axis=(1, 2, 3)).min() > 1e-3
    assert np.abs(refined - call(frames, lrrf=networks.trained, **options)).max() > 1e-3


def test_moments_and_masks_of_references(call, networks, frames, rng):
    options = {
        "matcher": "flow",
        "self_refs": 0,
        "exclude": 0,
        "ref_threshold": 0.0,
        "lrrf": networks.trained,
        "key_stride": 1,
    }
    options |= {"refs": [rng.uniform(0, 1, (*HR, 3))], "cuts": [2], "propagation": "carry"}
    backbone_only, everywhere = call(frames), call(frames, **options)
    first = call(frames, ref_frames=[1], **options)
    np.testing.assert_array_equal(first[2:], backbone_only[2:])
    assert np.abs(first - backbone_only)[:2].max(axis=(1, 2, 3)).min() > 1e-3
    assert np.abs(everywhere - backbone_only).max(axis=(1, 2, 3)).min() > 1e-3
    for whole in (None, np.ones(HR), np.ones(HR, bool), np.full(HR, 255, np.uint8)):
        np.testing.assert_array_equal(call(frames, ref_masks=[whole], **options), everywhere)
    masked = call(frames, ref_masks=[np.zeros(HR)], **options)
    assert np.abs(masked - everywhere).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ref_frames": [3]}, "ref0: belongs to frame 3, but the clip has frames 0 to 2"),
        ({"ref_frames": [-1]}, "ref_frames[0] -1: give a whole number, at least 0"),
        ({"ref_frames": [1, 2]}, "ref_frames: give a list with one entry for each of the 1 refs"),
        ({"ref_masks": [np.ones((4, 4))]}, "ref_masks[0]: has shape (4, 4); refs[0] needs (32, 40)"),
        ({"ref_masks": [2.0 * np.ones(HR)]}, "ref_masks[0]: values outside of [0, 1]"),
    ],
)
def test_invalid_moments_and_masks_are_refused(call, frames, rng, options, message):
    with pytest.raises(InputError) as caught:
        call(frames, refs=[rng.uniform(0, 1, (*HR, 3))], **options)
    assert message in str(caught.value)


def test_moments_are_a_list_of_whole_numbers():
    with pytest.raises(InputError, match="'00:01': give a whole number"):
        as_moment("00:01", 0)
    assert as_moment(np.int64(4), 0) == 4
    for values in (1, [1, 2], "7"):
        with pytest.raises(InputError, match="ref_frames: give a list"):
            one_per_reference("ref_frames", values, [None, None, None])


def test_notes_are_logged(call, frames, caplog):
    call(frames, lrrf="default")
    assert [record.name for record in caplog.records if "only the backbone runs" in record.message] == [
        "ldip_jax"
    ]


def test_without_default_weights_only_the_backbone_runs(call, frames):
    np.testing.assert_array_equal(call(frames[:1], lrrf="default"), call(frames[:1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 2.0, "size": (16, 20)}, "give scale or size, not both"),
        ({"scale": 9.0}, "scale 9.0: give a number between 1 and 8"),
        ({"scale": np.nan}, "scale nan: give a number between 1 and 8"),
        ({"size": (2, 40)}, "size 40x2: "),
        ({"key_stride": 0}, "key_stride 0: give a whole number, at least 1"),
        ({"self_refs": -1}, "self_refs -1: give a whole number, at least 0"),
        ({"exclude": -1}, "exclude -1: give a whole number, at least 0"),
        ({"ref_threshold": 1.5}, "ref_threshold 1.5: give a number between 0 and 1"),
        ({"matcher": "sift"}, "sift: no such matcher"),
        ({"propagation": "teleport"}, "propagation teleport: choose from hrip, carry, both"),
        ({"cuts": "never"}, "cuts 'never': give auto, none, or frames"),
        ({"cuts": [0, 2]}, "cuts [0, 2]: frames from 1 up"),
        ({"soften": "much"}, "soften 'much': give auto, none, or a number of pixels"),
        ({"soften": 3.5}, "soften 3.5: give a number between 0 and 3"),
        ({"lrrf": "nowhere"}, "nowhere: no such file"),
        ({"backbone": "basicvsr"}, "basicvsr: neither a file nor a name"),
    ],
)
def test_invalid_arguments_are_refused(call, frames, options, message):
    with pytest.raises(InputError) as caught:
        call(frames, **options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: output_shape(None, 40), "size 40: give (height, width), two whole numbers"),
        (lambda: output_shape(None, (16.0, 20.0)), "size (16.0, 20.0): give (height, width)"),
        (lambda: output_shape(None, (16, 20, 3)), "size (16, 20, 3): give (height, width)"),
        (lambda: output_shape("2", None), "scale '2': give a number between 1 and 8"),
        (lambda: output_shape((2, 3), None), "scale (2, 3): give a number"),
        (lambda: output_shape(True, None), "scale True: give a number"),
        (lambda: output_shape(math.nan, None), "scale nan: give a number"),
        (lambda: as_stills(None), "refs: NoneType; give a list of images"),
        (lambda: as_stills("still.png"), "refs: str; give a list of images"),
        (lambda: check_names({"lrrf": None}), "lrrf None: give a name or a path"),
        (lambda: whole_number("key_stride", "a", 1), "key_stride 'a': give a whole number, at least 1"),
        (lambda: whole_number("key_stride", True, 1), "key_stride True: give a whole number"),
        (lambda: whole_number("key_stride", 2.5, 1), "key_stride 2.5: give a whole number"),
        (lambda: whole_number("exclude", math.nan, 0), "exclude nan: give a whole number, at least 0"),
        (lambda: real_number("share", "0.5", 0.0, 1.0), "share '0.5': give a number between 0 and 1"),
    ],
)
def test_arguments_of_the_wrong_type_are_refused(check, message):
    with pytest.raises(InputError) as caught:
        check()
    assert str(caught.value).startswith(message)


def test_numpy_numbers_are_accepted():
    assert output_shape(np.float32(2), None) == (2.0, None)
    assert output_shape(None, np.array([16, 20])) == (None, (16, 20))
    assert whole_number("key_stride", np.int64(4), 1) == 4


@pytest.mark.parametrize("cuts", [3, [1.5], ["4"], None])
def test_cuts_of_the_wrong_type_are_refused(cuts):
    with pytest.raises(InputError, match="give auto, none, or frames"):
        as_cuts(cuts)


def test_frames_of_different_sizes_are_refused():
    with pytest.raises(InputError, match=r"^frames: images of several sizes"):
        as_float([np.zeros((4, 6, 3)), np.zeros((4, 8, 3))], "frames", 4)


def test_arguments_are_checked_before_anything_is_loaded(call, frames, monkeypatch):
    def load(*args, **kwargs):
        raise AssertionError("loaded")

    monkeypatch.setattr(api, "load_model", load)
    for options in ({"scale": 9.0}, {"key_stride": 0}, {"matcher": "sift"}, {"exclude": -1}):
        with pytest.raises(InputError):
            call(frames, **options)


@pytest.mark.parametrize(
    ("images", "message"),
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
def test_invalid_arrays_are_refused(images, message):
    with pytest.raises(InputError) as caught:
        as_float(images, "frames", 4)
    assert str(caught.value).startswith(f"frames: {message}")


def test_a_single_nan_is_refused(call, frames):
    broken = frames.astype(np.float32) / 255
    broken[1, 2, 3, 0] = np.nan
    with pytest.raises(InputError, match=r"^frames: values outside"):
        call(broken)
    with pytest.raises(InputError, match=r"^refs\[1\]: values outside"):
        call(frames, refs=[frames[0], broken[1]])


def test_integers_are_scaled_by_the_range_of_their_type():
    assert as_float(np.full((1, 1, 1, 3), 255, np.uint8), "frames", 4).max() == 1.0
    assert as_float(np.full((1, 1, 3), 65535, np.uint16), "ref", 3).max() == 1.0
    assert as_float(np.full((1, 1, 3), 255, np.uint16), "ref", 3).max() < 0.004
