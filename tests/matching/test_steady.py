"""A warp is smoothed where the images permit it, and only there."""

import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.matching.evidence import warp_reference
from ldip_jax.matching.matcher import Match
from ldip_jax.matching.steady import steady_warp
from ldip_jax.ops.warp import pixel_grid
from tests.scenes import blocks

H, W, SCALE = 96, 128, (4.0, 4.0)
INNER = (slice(None), slice(12, -12), slice(12, -12))


@pytest.fixture(scope="module")
def scene():
    return jnp.asarray(blocks(seed=7, height=H + 16, width=W + 16, count=400)[None])


def steadied(anchor, reference, warp):
    match = Match(jnp.asarray(warp), jnp.ones((1, H, W, 1)))
    return np.asarray(steady_warp(anchor, reference, match, SCALE))


def error(warp, true):
    return float(np.median(np.linalg.norm(np.asarray(warp - true)[INNER], axis=-1)))


def test_jitter_of_a_warp_to_a_damaged_frame_is_removed(rng, scene):
    true = pixel_grid(H, W)[None] * 1.02 + jnp.array([[[[5.0, 6.0]]]])
    anchor = warp_reference(scene, true) + 0.1 * rng.standard_normal((1, H, W, 3), np.float32)
    jittered = true + 1.0 * rng.standard_normal((1, H, W, 2), np.float32)
    assert error(jittered, true) > 1.0
    assert error(steadied(anchor, scene, jittered), true) < 0.3


def test_a_motion_edge_that_the_images_show_is_kept(scene):
    right = (jnp.arange(W) >= W // 2)[None, None, :, None]
    true = pixel_grid(H, W)[None] + jnp.where(right, 10.0, 2.0)
    anchor = warp_reference(scene, true)
    found = steadied(anchor, scene, true)
    moved = np.linalg.norm(found - true, axis=-1)[INNER]
    assert np.quantile(moved, 0.9) < 0.2
    # With full smoothing, the warp would be 4 pixels off on either side of the edge.
    assert np.abs(found - true)[:, 12:-12, W // 2 - 4 : W // 2 + 4].mean() < 1.5


@pytest.mark.parametrize("zoom", [0.5, 1.0, 2.3])
def test_an_affine_warp_is_unchanged(rng, scene, zoom):
    turned = pixel_grid(H, W)[None] @ jnp.array([[zoom, 0.2], [-0.2, zoom]]) + jnp.array([[[[20.0, 3.0]]]])
    anchor = jnp.asarray(rng.random((1, H, W, 3), np.float32))
    np.testing.assert_allclose(steadied(anchor, scene, turned), turned, atol=2e-3)


def test_bands_equal_the_whole_frame(rng):
    h, w = 700, 24
    anchor, still = (jnp.asarray(rng.random((1, h, w, 3), np.float32)) for _ in range(2))
    warp = pixel_grid(h, w)[None] * 0.98 + rng.standard_normal((1, h, w, 2), np.float32)
    match = Match(warp, jnp.asarray(rng.random((1, h, w, 1), np.float32)))
    whole, banded = (steady_warp(anchor, still, match, (1.0, 1.0), pixels) for pixels in (h * w, 1))
    np.testing.assert_allclose(banded, whole, atol=2e-3)


def test_a_frame_of_few_rows_is_steadied(rng):
    anchor = jnp.asarray(rng.random((1, 2, 40, 3), np.float32))
    match = Match(pixel_grid(2, 40)[None] + 1.0, jnp.ones((1, 2, 40, 1)))
    np.testing.assert_allclose(steady_warp(anchor, anchor, match, SCALE), match.warp, atol=0.02)
