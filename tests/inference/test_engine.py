"""A window processed frame by frame equals the whole clip in one program."""

from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from ldip_jax.inference import engine, in_flight
from ldip_jax.inference.engine import backbone_frames, refine, refined_frames
from ldip_jax.inference.programs import Programs, add, subtract, to_size
from ldip_jax.inference.spill import Holder, Spilled
from ldip_jax.inference.streaming import WindowFeatures
from ldip_jax.models.ldip import KeyFrames
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.grid import Grid, crop_axis, sample_flow
from tests.models.random_models import random_references
from tests.models.shown import showing
from tests.networks import HR, LR

COUNT, KEYS = 5, (0, 3)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(3).uniform(0, 1, (COUNT, *LR, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def stacks():
    """Three references for each of two key-frames, the last slot empty."""
    references = random_references(np.random.default_rng(4), (1, len(KEYS), 3), HR)
    return references._replace(valid=references.valid.at[:, :, 2].set(0.0))


@pytest.fixture(scope="module")
def window(programs, frames):
    return WindowFeatures(programs, list(frames), lambda _: None)


def references_of(stacks, place):
    slot = KEYS.index(place)
    return [jax.tree.map(lambda x, n=n: x[:, slot, n], stacks) for n in range(2)]


def refined(programs, window, stacks, keep=range(COUNT), advance=lambda _: None):
    references = partial(references_of, stacks)
    images = refined_frames(programs, window, range(COUNT), keep, references, KEYS, advance)
    return [np.asarray(image) for image in images]


def test_the_backbone_frame_by_frame_equals_its_whole_program(model, programs, window, frames):
    whole = quick_jit(model.net.backbone.apply)({"params": model.params["backbone"]}, frames[None])[0]
    done = []
    images = list(backbone_frames(window, range(COUNT), done.append))
    assert done == ["decode"] * COUNT
    np.testing.assert_allclose(np.concatenate(images), whole, atol=2e-6)


def test_lrrf_frame_by_frame_equals_its_whole_program(model, programs, window, frames, stacks, monkeypatch):
    keys = KeyFrames(jnp.array([KEYS]), jnp.ones((1, len(KEYS))), stacks)
    whole = quick_jit(model.net.apply)({"params": model.params}, frames[None], keys)[0]
    # The residual between the passes is bfloat16; in float32, only rounding differs.
    monkeypatch.setattr(engine, "subtract", lambda refined, hr: refined - hr)
    monkeypatch.setattr(engine, "add", lambda hr, residual: hr + residual)
    images = np.concatenate(refined(programs, window, stacks))
    backbone_only = np.concatenate([*backbone_frames(window, range(COUNT), lambda _: None)])
    changed = np.abs(images - backbone_only).max()
    assert changed > 0.05
    np.testing.assert_allclose(images, whole, atol=1e-4 * changed)
    # In normal operation, the residual's rounding is the only difference.
    monkeypatch.undo()
    rounded = np.concatenate(refined(programs, window, stacks))
    assert 0 < np.abs(rounded - images).max() < 0.01 * changed


def test_hrip_follows_the_flow_on_the_grid(model, frames):
    """On a grid over a part of the frame, for which knowing only its size would not suffice."""
    rows, columns = crop_axis(jnp.float32(1.3), jnp.float32(0.4), 13), crop_axis(*jnp.float32([0.7, 0.3]), 17)
    grid = Grid(rows, columns)
    programs = Programs(showing(), {"backbone": model.params["backbone"]})
    window = WindowFeatures(programs, list(frames), lambda _: None, grid)
    whole = range(COUNT)
    images = list(refined_frames(programs, window, whole, whole, lambda _: [], (), lambda _: None))
    for i, shown in enumerate(images):
        back, on = (sample_flow(window.detail_flow(i, there), grid) for there in (i - 1, i + 1))
        np.testing.assert_allclose(shown[..., :2], back, rtol=1e-5, atol=1e-7)
        # The residual of the first pass is stored as bfloat16.
        np.testing.assert_allclose(shown[..., 2], on[..., 0], rtol=1e-2, atol=1e-7)
    assert np.abs(images[1]).max() > 0.01


def test_frames_do_not_depend_on_which_are_kept(programs, window, stacks):
    done = []
    whole = refined(programs, window, stacks)
    part = refined(programs, window, stacks, range(1, 4), done.append)
    np.testing.assert_array_equal(np.concatenate(part), np.concatenate(whole[1:4]))
    # The forward pass ends at the last frame that is kept.
    kinds = ("fuse", "backward", "forward", "decode")
    assert [done.count(kind) for kind in kinds] == [len(KEYS), COUNT, 4, 3]


def test_a_key_frame_without_references_keeps_its_features(programs, window):
    hr = programs.upscale(window.features[0], None)
    np.testing.assert_array_equal(refine(programs, hr, []), hr)


def test_references_may_come_in_any_order(programs, window, stacks):
    hr = programs.upscale(window.features[0], None)
    first, second = references_of(stacks, 0)
    one = refine(programs, hr, [first, second])
    np.testing.assert_allclose(one, refine(programs, hr, [second, first]), atol=1e-5)
    assert np.abs(one - hr).max() > 1e-3
    assert np.abs(one - refine(programs, hr, [first])).max() > 1e-4


def test_a_window_of_one_frame(programs, frames, stacks):
    """There is no neighbour to warp from."""
    window = WindowFeatures(programs, [frames[0]], lambda _: None)
    references = partial(references_of, stacks)
    (image,) = refined_frames(programs, window, range(1), range(1), references, (0,), lambda _: None)
    assert np.isfinite(image).all()
    np.testing.assert_array_equal(window.flow(0, 1), 0)
    np.testing.assert_array_equal(window.flow(0, -1), 0)


def test_flows_are_computed_once(programs, frames, monkeypatch):
    calls = []
    flow = programs.flow
    monkeypatch.setattr(programs, "flow", lambda *args: calls.append(1) or flow(*args))
    window = WindowFeatures(programs, list(frames), lambda _: None)
    assert len(calls) == 2 * (COUNT - 1)
    window.flow(1, 2), window.flow(2, 1)
    assert len(calls) == 2 * (COUNT - 1)


@pytest.mark.parametrize("spill", [False, True])
def test_residuals_are_stored_as_bfloat16_on_the_device_or_on_disk(
    programs, window, stacks, monkeypatch, spill
):
    kept, held = [], []
    monkeypatch.setattr(window, "holder", Holder(spill))
    hold = window.holder.hold
    monkeypatch.setattr(window.holder, "hold", lambda values: held.append(hold(values)) or held[-1])

    def remember(hr, residual):
        kept.append(residual)
        return add(hr, residual)

    monkeypatch.setattr(engine, "add", remember)
    refined(programs, window, stacks)
    # One for every frame, and one for what Ref-Fusion adds to each key-frame.
    expected = [(ml_dtypes.bfloat16, (1, *HR, 64))] * (COUNT + len(KEYS))
    assert [(array.dtype, array.shape) for array in kept] == expected
    residuals = [array for array in held if array.dtype == ml_dtypes.bfloat16]
    assert len(residuals) >= COUNT
    assert {isinstance(array, Spilled) for array in residuals} == {spill}


@pytest.mark.parametrize("most", [1, 2])
def test_a_device_that_works_ahead_gives_the_same_frames(programs, frames, stacks, monkeypatch, most):
    usual = refined(programs, WindowFeatures(programs, list(frames), lambda _: None), stacks)
    monkeypatch.setattr(in_flight, "most_in_flight", lambda: most)
    ahead = refined(programs, WindowFeatures(programs, list(frames), lambda _: None), stacks)
    np.testing.assert_array_equal(ahead, usual)


def test_a_zero_residual_is_exact_in_bfloat16():
    """This is why an untrained LRRF is exact: zero is zero in any format."""
    hr = jnp.linspace(-3, 3, 2 * 3 * 64).reshape(1, 2, 3, 64)
    np.testing.assert_array_equal(add(hr, subtract(hr, hr)), hr)


def test_to_size_clips_and_resizes_only_if_needed(rng):
    image = jnp.asarray(rng.uniform(-0.5, 1.5, (1, 8, 10, 3)), jnp.float32)
    np.testing.assert_array_equal(to_size(image, (8, 10)), jnp.clip(image, 0, 1))
    flat = jnp.full((1, 8, 10, 3), 0.25)
    np.testing.assert_allclose(to_size(flat, (5, 7)), np.full((1, 5, 7, 3), 0.25), atol=1e-6)
