"""Exhaustive matching of patches: against all products, with bands, and where patches are equal."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.patch_match import match_patches, tap_offsets


def patches(x):
    """All 3x3 patches of h w c, row by row, as vectors."""
    h, w, _ = x.shape
    return np.array([x[y : y + 3, u : u + 3].ravel() for y in range(h - 2) for u in range(w - 2)])


def by_definition(a, b):
    unit = [x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12) for x in (a, b)]
    first, other = map(patches, unit)
    scores = first @ (other / (np.linalg.norm(other, axis=1, keepdims=True) + 1e-5)).T
    return scores / (np.linalg.norm(first, axis=1, keepdims=True) + 1e-5)


@pytest.mark.parametrize("values", [2**24, 9 * 8 * 4], ids=["whole", "bands of columns"])
def test_the_best_of_all_patches_is_found(rng, values):
    a, b = rng.standard_normal((2, 6, 11, 4)), rng.standard_normal((2, 9, 8, 4))
    match = quick_jit(partial(match_patches, values=values))
    offsets, score = map(np.asarray, match(*(x.astype(np.float32) for x in (a, b))))
    for i in range(2):
        scores = by_definition(a[i], b[i])
        y, x = np.divmod(scores.argmax(1).reshape(4, 9), 6)
        own = np.indices((4, 9))
        np.testing.assert_array_equal(offsets[i, :4, :9], np.stack([x - own[1], y - own[0]], -1))
        np.testing.assert_allclose(score[i].ravel(), scores.max(1), rtol=0, atol=1e-6)
    assert not np.any(offsets[:, 4:])
    assert not np.any(offsets[:, :, 9:])


def test_the_first_of_equal_patches_wins(rng):
    # One-hot features: all products are exact.
    tile = np.eye(8, dtype=np.float32)[rng.integers(0, 8, (4, 4))]
    repeated = np.tile(tile, (3, 3, 1))[None]
    offsets, score = quick_jit(match_patches)(repeated, repeated)
    places = np.asarray(offsets)[0, :10, :10] + np.indices((10, 10))[::-1].transpose(1, 2, 0)
    assert places.max() <= 3
    np.testing.assert_allclose(score, 1.0, atol=1e-5)


def test_features_of_zero_give_finite_offsets():
    nothing = np.zeros((1, 5, 6, 3), np.float32)
    offsets, score = quick_jit(match_patches)(nothing, nothing)
    assert not np.any(score)
    assert np.isfinite(offsets).all()


def test_a_map_smaller_than_a_patch_is_refused():
    with pytest.raises(ValueError, match="hold no patch of 3x3"):
        match_patches(jnp.zeros((1, 2, 6, 3)), jnp.zeros((1, 5, 6, 3)))


def test_a_tap_has_the_offset_of_the_patch_above_and_left_of_it(rng):
    offsets = rng.standard_normal((1, 4, 5, 2)).astype(np.float32)
    taps = np.asarray(quick_jit(tap_offsets)(offsets))
    np.testing.assert_array_equal(taps[:, :, :, 0], offsets)
    np.testing.assert_array_equal(taps[:, 2:, 1:, 7], offsets[:, :-2, :-1])
    assert not np.any(taps[:, :2, :, 7])
    assert not np.any(taps[:, :, :1, 7])


def test_a_frame_of_1280x720_fits_1_gb():
    maps = jax.ShapeDtypeStruct((1, 180, 320, 256), np.float32)
    plan = jax.jit(match_patches).lower(maps, maps).compile().memory_analysis()
    assert plan.temp_size_in_bytes + plan.argument_size_in_bytes + plan.output_size_in_bytes < 1e9
