"""Sharpness: blur is found where motion can explain it; compression is not taken for blur."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ldip_jax.models.carry import Route
from ldip_jax.models.sharpness import (
    AS_FAST,
    FASTER,
    least_sharpness,
    relative_sharpness,
    sharpness,
    speed,
    texture,
    times_as_sharp,
)
from ldip_jax.models.trainable import quick_jit
from tests.scenes import blocks

SIZE = (64, 160)


# As programs: JAX would otherwise compile one for each operation.
@quick_jit
def relative(this, other):
    """The relative sharpness of frames."""
    return relative_sharpness(texture(this), texture(other))


@quick_jit
def times(this, other, route):
    """How many times as sharp one frame is as another."""
    return times_as_sharp(sharpness(this), sharpness(other), route)


least, slower_speed = quick_jit(least_sharpness), quick_jit(speed)


def blurred(frame, sigma_y, sigma_x):
    """Like `gaussian_blur`, in SciPy, which compiles nothing."""
    return gaussian_filter(frame, (0.0, sigma_y, sigma_x, 0.0), mode="nearest")


def noise(rng):
    return rng.random((1, *SIZE, 3)).astype(np.float32)


def still(size, x=0.0):
    """A route to the pixel at distance `x` on the same row."""
    flow = np.zeros((1, *size, 2), np.float32)
    flow[..., 0] = x
    return Route(flow, np.ones((1, *size, 1), np.float32))


@pytest.mark.parametrize("sigma", [(1.5, 1.5), (2.0, 0.0), (0.0, 2.0)])
def test_a_blurred_frame_shows_no_detail_and_a_sharper_one_shows_all(rng, sigma):
    sharp = noise(rng)
    soft = blurred(sharp, *sigma)
    np.testing.assert_array_equal(relative(sharp, sharp), 1.0)
    assert relative(soft, sharp).max() < 0.01
    np.testing.assert_array_equal(relative(sharp, soft), 1.0)


@pytest.mark.parametrize("flow_size", [(32, 80), SIZE])
def test_a_sharp_frame_is_measured_as_sharper_than_a_blurred_one(flow_size):
    """Even if the flow is of smaller frames."""
    sharp = blocks(4, *SIZE)[None]
    soft = blurred(sharp, 1.5, 1.5)
    route = still(flow_size)
    ratio = float(times(sharp, soft, route)[0])
    assert ratio > 1.5
    np.testing.assert_allclose(times(soft, sharp, route), [1.0 / ratio], rtol=0.1)
    np.testing.assert_allclose(times(sharp, sharp, route), [1.0], rtol=1e-5)
    # Frames that show different places cannot be compared.
    nowhere = route._replace(confidence=np.zeros_like(route.confidence))
    assert np.isnan(times(sharp, soft, nowhere)).all()


def test_frames_without_texture_are_not_blurred(rng):
    flat, other = (
        level + np.float32(3e-4) * rng.standard_normal((1, *SIZE, 3)).astype(np.float32)
        for level in np.float32([0.4, 0.7])
    )
    np.testing.assert_allclose(relative(flat, other), 1.0, atol=0.05)


@pytest.mark.parametrize(("sigma", "share"), [(0.4, (0.1, 0.5)), (0.5, (0.0, 0.1)), (0.6, (0.0, 0.02))])
def test_even_slight_blur_counts(rng, sigma, share):
    """In an image whose texture is as strong as that of photographs; `sigma` is in LR pixels."""
    scene = blurred(noise(rng), 0.7, 0.7)
    found = relative(blurred(scene, sigma, sigma), scene)
    assert share[0] <= found.mean() <= share[1]


def test_blur_counts_only_where_it_is(rng):
    frame, middle = noise(rng), SIZE[1] // 2
    half = frame.copy()
    half[:, :, middle:] = blurred(frame, 1.5, 1.5)[:, :, middle:]
    share = np.asarray(relative(half, frame))[0, ..., 0]
    assert share[:, : middle - 20].min() > 0.99
    assert share[:, middle + 20 :].max() < 0.01


def test_a_damaged_frame_is_blurred_only_as_far_as_it_is_faster():
    """Compression takes texture, too; without damage, only texture counts."""
    route, ones = still((8, 20)), np.ones((1, 8, 20, 1), np.float32)

    def sharp(faster, damage):
        found = np.asarray(least(ones + np.float32(faster), ones, route, np.float32(damage)))
        np.testing.assert_allclose(found, found[0, 0, 0, 0], rtol=1e-6)
        return float(found.mean())

    for damage in (0.0, 0.5, 1.0):
        found = [sharp(x, damage) for x in (-1.0, AS_FAST, (AS_FAST + FASTER) / 2, FASTER, 3.0)]
        np.testing.assert_allclose(found, [damage, damage, damage / 2, 0.0, 0.0], atol=1e-5)


def test_speeds_are_compared_at_the_same_places():
    """The left half of the other frame is fast; the route leads there from the right half."""
    this, damage = np.full((1, 8, 20, 1), 2.0, np.float32), np.float32(1)
    other = np.zeros_like(this)
    other[:, :, :10] = 2.0
    found = least(this, other, still((8, 20), -10.0), damage)
    np.testing.assert_allclose(found, 1.0)
    here = np.asarray(least(this, other, still((8, 20)), damage))
    np.testing.assert_array_equal(here[0, 0, :, 0], [1.0] * 10 + [0.0] * 10)


def test_speed_is_that_to_the_slower_side():
    flows = [still((2, 2), x).flow for x in (3.0, -2.0)]
    np.testing.assert_allclose(slower_speed(flows), 2.0)
    np.testing.assert_allclose(slower_speed(flows[:1]), 3.0)
