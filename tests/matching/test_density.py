import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.matching import density
from ldip_jax.matching.density import ReferenceReducer, median_scale, reduction_steps
from ldip_jax.matching.matcher import Match, Pair
from ldip_jax.ops.blur import gaussian_blur
from ldip_jax.ops.warp import bilinear

H, W = 30, 40
PIXELS = np.stack(np.meshgrid(np.arange(W), np.arange(H)), -1).astype(np.float32)
ONES = np.ones((1, H, W, 1), np.float32)
blurred = jax.jit(gaussian_blur, static_argnums=1)


def affine(matrix, shift=(0.0, 0.0)):
    return jnp.asarray((PIXELS @ np.transpose(matrix) + shift)[None], jnp.float32)


def dense_pair(zoom, rng, name="still"):
    h, w = round(H * zoom), round(W * zoom)
    reference = blurred(rng.random((1, h, w, 3), np.float32), (zoom, zoom))
    warp = affine(zoom * np.eye(2), shift=(zoom / 2 - 0.5,) * 2)
    return Pair(np.zeros((1, H, W, 3), np.float32), reference, name=name), Match(warp, jnp.asarray(ONES))


def test_scale_is_the_square_root_of_the_area_at_any_rotation():
    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    ones = jnp.asarray(ONES)
    assert median_scale(affine(1.7 * turn), ones) == pytest.approx(1.7, rel=1e-4)
    assert median_scale(affine(np.diag([4.0, 1.0])), ones) == pytest.approx(2.0, rel=1e-4)
    assert median_scale(affine(np.diag([-1.0, 1.0])), ones) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("rows", [1, 7, H - 1])
def test_scale_does_not_depend_on_how_many_rows_are_processed_at_a_time(rng, monkeypatch, rows):
    warp, confidence = (jnp.asarray(rng.random((1, H, W, n)), jnp.float32) for n in (2, 1))
    whole = median_scale(warp, confidence)
    monkeypatch.setattr(density, "ROWS", rows)
    assert median_scale(warp, confidence) == whole != 1.0


def test_scale_ignores_places_that_are_not_confident(rng):
    wild = 100.0 * rng.random((1, H, W, 2), np.float32)
    confident = np.zeros_like(ONES)
    confident[:, 10:20, 10:16] = 0.6
    warp = np.where(confident > 0.5, affine(3.0 * np.eye(2)), wild)
    assert median_scale(*map(jnp.asarray, (warp, confident))) == pytest.approx(3.0, rel=1e-3)
    assert median_scale(*map(jnp.asarray, (wild, 0.5 * ONES))) == 1.0


@pytest.mark.parametrize(
    ("scale", "steps"),
    [(0.0, 0), (0.5, 0), (1.0, 0), (1.04, 0), (1.1, 1), (1.19, 1), (2.0, 4), (2.3, 5), (4.0, 8)],
)
def test_steps_are_the_fewest_that_suffice(scale, steps):
    assert reduction_steps(scale) == steps
    assert scale * 2.0 ** (-steps / 4) <= 1.05


def test_a_reference_four_times_denser_shrinks_to_a_quarter_and_shows_the_same(rng):
    pair, match = dense_pair(4.0, rng)
    reduced, moved = ReferenceReducer()(pair, match)
    assert reduced.reference.shape == (1, H, W, 3)
    # The key-frame's pixel x is the reference's 4 x + 1.5, the middle of four; so it is x again.
    np.testing.assert_allclose(np.asarray(moved.warp)[0], PIXELS, atol=1e-4)
    np.testing.assert_array_equal(moved.confidence, match.confidence)

    @jax.jit
    def both(reference, warp, reduced, moved):
        return bilinear(gaussian_blur(reference, (1.6, 1.6)), warp), bilinear(reduced, moved)

    low, seen = map(np.asarray, both(pair.reference, match.warp, reduced.reference, moved.warp))
    inner = (slice(None), slice(3, -3), slice(3, -3))
    assert np.abs(seen - low)[inner].mean() < 0.1 * np.std(pair.reference)


@pytest.mark.parametrize("zoom", [1.3, 2.7, 6.0])
def test_at_any_zoom_places_agree_and_the_scale_is_at_most_one(rng, zoom):
    pair, match = dense_pair(zoom, rng)
    reduced, moved = ReferenceReducer()(pair, match)
    assert median_scale(moved.warp, moved.confidence) <= 1.07
    for axis, (n, m) in enumerate(
        zip(pair.reference.shape[2:0:-1], reduced.reference.shape[2:0:-1], strict=True)
    ):
        expected = (np.asarray(match.warp)[..., axis] + 0.5) * m / n - 0.5
        np.testing.assert_allclose(np.asarray(moved.warp)[..., axis], expected, atol=1e-4)


def test_a_reference_of_the_same_density_is_unchanged(rng):
    pair, match = dense_pair(1.0, rng)
    same_pair, same_match = ReferenceReducer()(pair, match)
    assert same_pair is pair
    assert same_match is match


def test_reduced_images_are_kept_and_the_oldest_are_dropped(rng):
    reduce = ReferenceReducer(capacity=2)
    first, match = dense_pair(2.0, rng, "first")
    image = reduce(first, match)[0].reference
    assert reduce(first, match)[0].reference is image
    second, third = (dense_pair(2.0, rng, name)[0] for name in ("second", "third"))
    assert reduce(second, match)[0].reference is not image
    assert reduce(first, match)[0].reference is image
    reduce(third, match)
    assert reduce(first, match)[0].reference is image
    assert reduce(first, dense_pair(4.0, rng)[1])[0].reference.shape[1] < image.shape[1]
