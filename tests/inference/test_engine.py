"""A window frame by frame is what the whole clip in one program is."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from ldip_jax.inference import engine
from ldip_jax.inference.engine import WindowFeatures, backbone_frames, refine, refined_frames
from ldip_jax.inference.model import load_model
from ldip_jax.inference.programs import Programs, add, subtract, to_size
from ldip_jax.models.ldip import KeyFrames
from tests.models.build import random_references
from tests.networks import HR, LR

COUNT, KEYS = 5, (0, 3)


@pytest.fixture(scope="module")
def model(networks):
    return load_model(str(networks.backbone), str(networks.trained), native=True)


@pytest.fixture(scope="module")
def programs(model):
    return Programs(model.net, model.params)


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
    made = refined_frames(
        programs, window, keep, None, lambda place: references_of(stacks, place), set(KEYS), advance
    )
    return [np.asarray(image) for image in made]


def test_the_backbone_alone_equals_its_whole_program(model, programs, window, frames):
    whole = jax.jit(model.net.backbone.apply)({"params": model.params["backbone"]}, frames[None])[0]
    done = []
    images = list(backbone_frames(programs, window, range(COUNT), None, done.append))
    assert done == ["decode"] * COUNT
    np.testing.assert_allclose(np.concatenate(images), whole, atol=2e-6)


def test_lrrf_frame_by_frame_equals_its_whole_program(model, programs, window, frames, stacks, monkeypatch):
    keys = KeyFrames(jnp.array([KEYS]), jnp.ones((1, len(KEYS))), stacks)
    whole = jax.jit(model.net.apply)({"params": model.params}, frames[None], keys)[0]
    # The residual between the passes is bfloat16: in float32 nothing differs but rounding.
    monkeypatch.setattr(engine, "subtract", lambda refined, hr: refined - hr)
    monkeypatch.setattr(engine, "add", lambda hr, residual: hr + residual)
    images = np.concatenate(refined(programs, window, stacks))
    alone = np.concatenate([*backbone_frames(programs, window, range(COUNT), None, lambda _: None)])
    changed = np.abs(images - alone).max()
    assert changed > 0.05
    np.testing.assert_allclose(images, whole, atol=1e-4 * changed)
    # As it runs, the residual's rounding is the only difference.
    monkeypatch.undo()
    rounded = np.concatenate(refined(programs, window, stacks))
    assert 0 < np.abs(rounded - images).max() < 0.01 * changed


def test_what_is_kept_does_not_change_what_is_made(programs, window, stacks):
    done = []
    whole = refined(programs, window, stacks)
    part = refined(programs, window, stacks, range(1, 4), done.append)
    np.testing.assert_array_equal(np.concatenate(part), np.concatenate(whole[1:4]))
    assert [done.count(kind) for kind in ("fuse", "backward", "forward")] == [len(KEYS), COUNT, 3]


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


def test_one_frame_is_a_window(programs, frames, stacks):
    """There is no neighbour to warp from."""
    window = WindowFeatures(programs, [frames[0]], lambda _: None)
    (image,) = refined_frames(
        programs, window, range(1), None, lambda place: references_of(stacks, 0), {0}, lambda _: None
    )
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


def test_residuals_wait_as_bfloat16_in_host_memory(programs, window, stacks, monkeypatch):
    kept = []

    def remember(hr, residual):
        kept.append(residual)
        return add(hr, residual)

    monkeypatch.setattr(engine, "add", remember)
    refined(programs, window, stacks)
    assert [(array.dtype, array.shape) for array in kept] == [(ml_dtypes.bfloat16, (1, *HR, 64))] * COUNT


def test_no_difference_survives_the_way_through_bfloat16():
    """What makes an untrained LRRF exact: zero is zero in any format."""
    hr = jnp.linspace(-3, 3, 2 * 3 * 64).reshape(1, 2, 3, 64)
    np.testing.assert_array_equal(add(hr, subtract(hr, hr)), hr)


def test_to_size_clips_and_leaves_a_right_size_alone(rng):
    image = jnp.asarray(rng.uniform(-0.5, 1.5, (1, 8, 10, 3)), jnp.float32)
    np.testing.assert_array_equal(to_size(image, (8, 10)), jnp.clip(image, 0, 1))
    flat = jnp.full((1, 8, 10, 3), 0.25)
    np.testing.assert_allclose(to_size(flat, (5, 7)), np.full((1, 5, 7, 3), 0.25), atol=1e-6)
