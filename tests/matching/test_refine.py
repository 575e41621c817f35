from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.inference.spill import Holder
from ldip_jax.matching.dense import flow_matcher
from ldip_jax.matching.evidence import warp_reference
from ldip_jax.matching.matcher import Match, Pair
from ldip_jax.matching.refine import Refiner
from ldip_jax.models.networks.spynet import SPyNet
from tests.published import published_params
from tests.scenes import blocks


@pytest.fixture(scope="module")
def silent():
    """SPyNet's parameters, all zero: no motion."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(SPyNet().init, jax.random.key(0), image, image)["params"]
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def moving(params, x, y):
    """SPyNet's parameters, changed so that every flow is (x, y)."""
    finest = {**params["basic_module_5"]}
    finest["basic_module_8"] = {**finest["basic_module_8"], "bias": np.array([x, y], np.float32)}
    return {**params, "basic_module_5": finest}


# The size of all images, so that programs are compiled only once.
H, W = 64, 96
PIXELS = np.stack(np.meshgrid(np.arange(W), np.arange(H)), -1).astype(np.float32)[None]
ONES = np.ones((1, H, W, 1), np.float32)


def example(rng):
    images = Pair(*(rng.random((1, H, W, 3), np.float32) for _ in range(2)))
    return images, Match(np.float32(1.05) * PIXELS, np.float32(0.8) * ONES)


def test_no_motion_leaves_the_match_unchanged(rng, silent):
    pair, match = example(rng)
    refined = Refiner(silent)(pair, match, (4.0, 4.0))
    np.testing.assert_allclose(refined.warp, match.warp, atol=1e-4)
    inside = (np.round(match.warp) <= [W - 1, H - 1]).all(axis=-1, keepdims=True)
    found = Refiner(silent).second_look(pair, match, (4.0, 4.0))
    np.testing.assert_allclose(found.confidence, 0.8 * inside, atol=1e-6)
    # These images have nothing in common.
    assert np.mean(refined.confidence) < 0.4


def test_motion_moves_the_place_where_the_map_is_read(rng, silent):
    pair, match = example(rng)
    warp = np.asarray(Refiner(moving(silent, 2.5, -1.0)).second_look(pair, match, (4.0, 4.0)).warp)
    # W(x + r), not W(x) + r: a step of r in the key-frame is 1.05 r in the reference.
    np.testing.assert_allclose(
        warp[:, 1:, :-3], match.warp[:, 1:, :-3] + np.float32([2.625, -1.05]), atol=1e-3
    )
    # Beyond the border the map is continued, not zero.
    np.testing.assert_allclose(warp[0, 5, -1, 0], match.warp[0, 5, -1, 0], atol=1e-3)


def test_maps_on_disk_are_refined_like_those_in_memory(rng, silent):
    pair, match = example(rng)
    holder = Holder(True)
    held = Match(*map(holder.hold, match))
    refine = Refiner(moving(silent, 2.5, -1.0))
    expected = refine(pair, match, (4.0, 4.0))
    found = refine(replace(pair, reference=holder.hold(pair.reference)), held, (4.0, 4.0))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)
    # A key-frame's image is held in float16.
    half = replace(pair, anchor=pair.anchor.astype(np.float16))
    looks = [refine.second_look(x, match, (4.0, 4.0)).warp for x in (pair, half)]
    np.testing.assert_allclose(*looks, atol=1e-4)
    np.testing.assert_allclose(refine(half, match, (4.0, 4.0)).warp, expected.warp, atol=1e-3)


def test_confidence_falls_to_zero_where_the_new_place_is_outside(rng, silent):
    pair, match = example(rng)
    match = Match(match.warp - 5.0, match.confidence)
    refined = Refiner(moving(silent, 4.0, 0.0)).second_look(pair, match, (4.0, 4.0))
    place = np.round(np.asarray(refined.warp))
    outside = ((place < 0) | (place > [W - 1, H - 1])).any(axis=-1)
    assert outside.any()
    np.testing.assert_array_equal(np.asarray(refined.confidence)[..., 0] == 0.0, outside)


def test_places_that_differ_are_trusted_less_unless_damage_makes_all_differ(rng, silent):
    still = blocks(seed=9, height=H, width=W)[None]
    here = Match(PIXELS, ONES)

    def confidence(anchor):
        return np.asarray(Refiner(silent)(Pair(anchor, still), here, (4.0, 4.0)).confidence)[0, ..., 0]

    changed = still.copy()
    changed[:, 20:44, 50:80] = blocks(seed=10, height=24, width=30)
    found = confidence(changed)
    assert found[:, :30].min() > 0.9
    assert found[26:38, 58:72].mean() < 0.15
    damage = 0.15 * rng.standard_normal((1, H // 4, W // 4, 3), np.float32).repeat(4, 1).repeat(4, 2)
    everywhere = confidence(np.clip(still + damage, 0.0, 1.0))
    assert everywhere.mean() > 0.7


@pytest.fixture(scope="session")
def spynet():
    return published_params("basicvsr-reds4")["spynet"]


def test_flow_network_removes_an_error_of_two_pixels(spynet):
    scene = blocks(seed=3, height=H + 16, width=W + 8)[None]
    anchor, reference = scene[:, :H, :W], scene[:, 5 : H + 5, 3 : W + 3]
    true = PIXELS - np.float32([3.0, 5.0])
    coarse = Match(true + np.float32([1.5, -1.5]), ONES)
    refined = Refiner(spynet)(Pair(anchor, reference), coarse, (4.0, 4.0))
    error = np.linalg.norm(refined.warp - true, axis=-1)[:, 16:-16, 16:-16]
    assert np.median(error) < 0.35  # 2.1 before
    assert np.quantile(error, 0.9) < 1.0


def test_flow_matcher_finds_small_motion(spynet):
    scene = blocks(seed=4, height=H + 16, width=W + 8)[None]
    anchor, reference = scene[:, 4 : H + 4, 4 : W + 4], scene[:, 7 : H + 7, 2 : W + 2]
    match = flow_matcher(SPyNet(), spynet).coarse(Pair(anchor, reference))
    error = match.warp - (PIXELS + np.float32([2.0, -3.0]))
    inner = (slice(None), slice(16, -16), slice(16, -16))
    assert np.median(np.linalg.norm(error, axis=-1)[inner]) < 0.25
    assert np.mean(np.asarray(match.confidence)[inner] > 0.5) > 0.9
    shown = warp_reference(reference, match.warp)
    assert np.mean(np.abs(shown - anchor)[inner]) < 0.5 * np.mean(np.abs(reference - anchor)[inner])
