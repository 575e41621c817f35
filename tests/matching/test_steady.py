"""A warp is smoothed where the images permit it, and only there."""

import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.matching.evidence import warp_reference
from ldip_jax.matching.matcher import Match
from ldip_jax.matching.steady import steady_warp
from tests.scenes import blocks

H, W, SCALE = 96, 128, (4.0, 4.0)
INNER = (slice(None), slice(12, -12), slice(12, -12))


def pixels(h, w):
    return np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).astype(np.float32)[None]


@pytest.fixture(scope="module")
def scene():
    return blocks(seed=7, height=H + 16, width=W + 16, count=400)[None]


def steadied(anchor, reference, warp, confidence=None, scale=SCALE, **options):
    confidence = np.ones((*warp.shape[:3], 1)) if confidence is None else confidence
    anchor, reference, *match = (jnp.asarray(x, jnp.float32) for x in (anchor, reference, warp, confidence))
    return np.asarray(steady_warp(anchor, reference, Match(*match), scale, **options))


def error(warp, true):
    return float(np.median(np.linalg.norm((warp - true)[INNER], axis=-1)))


def test_jitter_of_a_warp_to_a_damaged_frame_is_removed(rng, scene):
    true = pixels(H, W) * np.float32(1.02) + np.float32([5.0, 6.0])
    anchor = warp_reference(scene, true) + 0.1 * rng.standard_normal((1, H, W, 3), np.float32)
    jittered = true + 1.0 * rng.standard_normal((1, H, W, 2), np.float32)
    assert error(jittered, true) > 1.0
    assert error(steadied(anchor, scene, jittered), true) < 0.3


def test_a_motion_edge_that_the_images_show_is_kept(scene):
    true = pixels(H, W)
    true += np.where(true[..., :1] >= W // 2, np.float32(10.0), np.float32(2.0))
    anchor = warp_reference(scene, true)
    found = steadied(anchor, scene, true)
    moved = np.linalg.norm(found - true, axis=-1)[INNER]
    assert np.quantile(moved, 0.9) < 0.2
    # With full smoothing, the warp would be 4 pixels off on either side of the edge.
    assert np.abs(found - true)[:, 12:-12, W // 2 - 4 : W // 2 + 4].mean() < 1.5


@pytest.mark.parametrize("zoom", [0.5, 1.0, 2.3])
def test_an_affine_warp_is_unchanged(rng, scene, zoom):
    turned = pixels(H, W) @ np.float32([[zoom, 0.2], [-0.2, zoom]]) + np.float32([20.0, 3.0])
    anchor = rng.random((1, H, W, 3), np.float32)
    np.testing.assert_allclose(steadied(anchor, scene, turned), turned, atol=2e-3)


def test_bands_equal_the_whole_frame(rng):
    h, w = 700, 24
    anchor, still = (rng.random((1, h, w, 3), np.float32) for _ in range(2))
    warp = pixels(h, w) * np.float32(0.98) + rng.standard_normal((1, h, w, 2), np.float32)
    maps = anchor, still, warp, rng.random((1, h, w, 1), np.float32)
    whole, banded = (steadied(*maps, (1.0, 1.0), band_pixels=count) for count in (h * w, 1))
    np.testing.assert_allclose(banded, whole, atol=2e-3)


def test_a_frame_of_few_rows_is_steadied(rng):
    anchor, warp = rng.random((1, 2, 40, 3), np.float32), pixels(2, 40) + 1
    np.testing.assert_allclose(steadied(anchor, anchor, warp, scale=(1.0, 1.0)), warp, atol=0.02)
