"""Detail carried frame by frame equals that of whole clips, whatever the order of frames."""

from copy import copy
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.inference import engine
from ldip_jax.inference.engine import Carrier, backbone_frames, refined_frames
from ldip_jax.inference.streaming import WindowFeatures
from ldip_jax.models.carry import REPLACED
from ldip_jax.models.ldip import KeyFrames
from ldip_jax.models.trainable import quick_jit
from tests.models.random_models import random_references
from tests.networks import HR, LR
from tests.scenes import blocks

COUNT = 6


@pytest.fixture(scope="module")
def frames():
    """A still scene with a little noise: detail is carried between frames that agree."""
    noise = np.random.default_rng(9).standard_normal((COUNT, *LR, 3))
    return np.clip(blocks(3, *LR) + 0.02 * noise, 0.0, 1.0).astype(np.float32)


@pytest.fixture(scope="module")
def window(programs, frames):
    return WindowFeatures(programs, list(frames), lambda _: None)


@pytest.fixture(scope="module")
def backbone_only(window):
    return np.concatenate(list(backbone_frames(window, range(COUNT), lambda _: None)))


@pytest.fixture(scope="module")
def stacks():
    """Three references for each frame, the last slot empty."""
    references = random_references(np.random.default_rng(4), (1, COUNT, 3), HR)
    return references._replace(valid=references.valid.at[:, :, 2].set(0.0))


def before_lrrf(net, frames, index):
    """The part of `LDIP.__call__` that is the same for all ways to propagate."""
    flows = net.backbone.flows(frames)
    features = net.backbone.features(frames, flows)
    return features, flows, net.routes(frames, net.images(features, frames), flows, index)


@cache
def whole_clip(net, method):
    """A program over whole clips; compiled once for all tests."""
    return quick_jit(partial(net.apply, method=method))


def with_propagation(programs, propagation, reach=0):
    """The same programs for another propagation, which none of them depends on."""
    others = copy(programs)
    others.net = programs.net.clone(parent=None, name=None, propagation=propagation, hrip_reach=reach)
    return others


def refined_images(programs, window, stacks, keys, served=None, keep=range(COUNT), done=None, damage=0.0):
    """Images of the clip, with references only at the key-frames in `served`."""

    def references(place):
        if place not in (keys if served is None else served):
            return []
        return [jax.tree.map(lambda x: x[:, place, n], stacks) for n in range(2)]  # noqa: B023

    done = [] if done is None else done
    shot, damages = range(COUNT), lambda _: damage
    images = refined_frames(programs, window, shot, keep, references, keys, done.append, None, damages)
    return np.concatenate([np.asarray(image) for image in images])


@pytest.mark.parametrize(
    ("propagation", "reach", "keys"),
    [("carry", 0, (0, 3)), ("carry", COUNT, (2,)), ("both", 0, (1, 4))],
)
def test_frame_by_frame_equals_the_whole_clip(
    model, programs, window, frames, stacks, backbone_only, monkeypatch, propagation, reach, keys
):
    # The second of two slots may be empty, so that the number of key-frames changes no program.
    slots = np.array([(*keys, *keys)[:2]])
    valid = jnp.array([[1.0, float(len(keys) > 1)]])
    key_frames = KeyFrames(slots, valid, jax.tree.map(lambda x: x[:, slots[0]], stacks))
    variables = {"params": model.params}
    features, flows, routes = whole_clip(programs.net, before_lrrf)(variables, frames[None], slots)
    programs = with_propagation(programs, propagation, reach)
    whole = whole_clip(programs.net, "restore")(
        variables, features, flows, frames[None], key_frames, routes=routes
    )[0]
    # Without storage in half precision, only rounding differs.
    monkeypatch.setattr(engine, "subtract", lambda refined, hr: refined - hr)
    monkeypatch.setattr(engine, "add", lambda hr, residual: hr + residual)
    monkeypatch.setattr(
        WindowFeatures, "image", lambda self, place: jnp.clip(self.decode(self.hr(place), place), 0, 1)
    )
    images = refined_images(programs, window, stacks, keys)
    changed = np.abs(images - backbone_only).max(axis=(1, 2, 3))
    assert changed.min() > 0.01
    np.testing.assert_allclose(images, whole, atol=1e-4 * changed.max())
    # In normal operation, that storage is the only difference.
    monkeypatch.undo()
    rounded = refined_images(programs, window, stacks, keys)
    assert 0 < np.abs(rounded - images).max() < 0.02 * changed.max()


@pytest.mark.parametrize("propagation", ["carry", "both"])
def test_a_key_frame_without_references_is_skipped(programs, window, stacks, propagation):
    programs, done = with_propagation(programs, propagation), []
    images = refined_images(programs, window, stacks, (0, 3, 5), served=(0, 5), done=done)
    assert done.count("fuse") == 2
    np.testing.assert_array_equal(images, refined_images(programs, window, stacks, (0, 5)))
    differences = np.abs(images - refined_images(programs, window, stacks, (0, 3, 5))).max(axis=(1, 2, 3))
    assert differences[1:5].min() > 1e-3


def test_without_references_carry_equals_the_backbone(programs, window, stacks, backbone_only):
    for keys in ((0, 3, 5), ()):
        images = refined_images(with_propagation(programs, "carry", 2), window, stacks, keys, served=())
        np.testing.assert_array_equal(images, backbone_only)


def test_frames_do_not_depend_on_which_are_kept(programs, window, stacks):
    for propagation, work in (("carry", (2, 0, 0, 2, 2)), ("both", (3, COUNT, 4, COUNT, 2))):
        programs, done = with_propagation(programs, propagation), []
        whole = refined_images(programs, window, stacks, (0, 3, 5))
        part = refined_images(programs, window, stacks, (0, 3, 5), keep=range(2, 4), done=done)
        np.testing.assert_array_equal(part, whole[2:4])
        kinds = ("fuse", "backward", "forward", "carry", "decode")
        assert tuple(map(done.count, kinds)) == work


@pytest.mark.parametrize("reach", [1, 2])
def test_hrip_around_a_key_frame_stays_within_its_shot(programs, window, stacks, reach):
    programs, done = with_propagation(programs, "carry", reach), []
    refined_images(programs, window, stacks, (0, 3), done=done)
    near = [range(reach + 1), range(3 - reach, min(4 + reach, COUNT))]
    assert done.count("backward") == sum(map(len, near))
    assert done.count("forward") == sum(key + 1 - span.start for key, span in zip((0, 3), near, strict=True))


def test_frames_may_be_requested_in_either_order(programs, window, rng):
    keys = (1, 3, 4)
    details = {key: jnp.asarray(rng.standard_normal((1, *HR, 64)), jnp.bfloat16) for key in keys}
    requested = []

    def detail(key):
        requested.append(key)
        return details[key]

    up, down = (Carrier(programs, window, keys, detail) for _ in range(2))
    ascending = [up.at(place) for place in range(COUNT)]
    descending = [down.at(place) for place in reversed(range(COUNT))][::-1]
    for one, two in zip(ascending, descending, strict=True):
        np.testing.assert_array_equal(one, two)
        assert jnp.any(one)
    # Each carrier asks for each detail once, when it is first needed.
    assert requested == [1, 3, 4, 4, 3, 1]
    for key in keys:
        np.testing.assert_array_equal(ascending[key], details[key].astype(jnp.float32))


def test_frames_take_detail_only_from_the_nearest_key_frames(programs, window, rng):
    """Between two key-frames, no detail comes from beyond them."""
    details = {key: jnp.asarray(rng.standard_normal((1, *HR, 64)), jnp.float32) for key in (0, 2, 5)}
    all_three = Carrier(programs, window, (0, 2, 5), details.get)
    two = Carrier(programs, window, (2, 5), details.get)
    for place in (3, 4):
        np.testing.assert_array_equal(all_three.at(place), two.at(place))
    assert np.abs(all_three.at(1) - two.at(1)).max() > 0.1


def test_features_of_a_damaged_key_frame_replace_a_part_of_those_around_it(programs, window):
    """The scene is still, so all frames come nearer to the key-frame; its own detail stays as it is."""
    key = window.hr(0)
    carrier = Carrier(programs, window, (0,), {0: REPLACED * key}.get, lambda _: 1.0)
    np.testing.assert_allclose(carrier.at(0), 0.0, atol=1e-6)
    for place in range(1, COUNT):
        here, moved = window.hr(place), window.hr(place) + carrier.at(place)
        before, after = (float(jnp.mean(jnp.abs(x - key))) for x in (here, moved))
        assert 0.2 * before < after < 0.8 * before


def test_damage_changes_no_key_frame_but_the_frames_between_them(programs, window, stacks, monkeypatch):
    monkeypatch.setattr(engine, "subtract", lambda refined, hr: refined - hr)
    programs = with_propagation(programs, "carry")
    clean, damaged = (refined_images(programs, window, stacks, (0, 3), damage=d) for d in (0.0, 1.0))
    differences = np.abs(damaged - clean).max(axis=(1, 2, 3))
    assert differences[[0, 3]].max() < 1e-5
    assert differences[[1, 2, 4, 5]].min() > 1e-3
