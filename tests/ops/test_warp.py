"""Sampling against plain loops, at and beyond the borders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.ops.grid import Grid, crop_axis, sample_bicubic
from ldip_jax.ops.warp import bicubic, bilinear, flow_warp, nearest, pixel_grid


def sample(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """One bilinear sample, zero outside, in float64."""
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    out = np.zeros(image.shape[-1])
    for yi, xi in ((y0, x0), (y0, x0 + 1), (y0 + 1, x0), (y0 + 1, x0 + 1)):
        if 0 <= yi < image.shape[0] and 0 <= xi < image.shape[1]:
            out += (1 - abs(x - xi)) * (1 - abs(y - yi)) * image[yi, xi]
    return out


def test_bilinear_zeros_equals_a_loop_over_neighbours(rng):
    x = rng.standard_normal((2, 5, 7, 3)).astype(np.float32)
    coords = rng.uniform(-3, 9, (2, 6, 4, 2)).astype(np.float32)
    coords[0, 0] = [[0, 0], [6, 4], [-0.5, 2], [6.5, 3.25]]
    got = bilinear(jnp.asarray(x), jnp.asarray(coords))
    expected = [[[sample(x[b], *coords[b, i, j]) for j in range(4)] for i in range(6)] for b in range(2)]
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_bilinear_border_clamps(rng):
    x = jnp.asarray(rng.standard_normal((1, 4, 5, 2)), jnp.float32)
    coords = jnp.array([[[[-9.0, 1.0], [4.7, 3.9], [2.0, -1e6], [1e9, 1e9]]]])
    got = bilinear(x, coords, "border")
    expected = jnp.stack([x[0, 1, 0], x[0, 3, 4], x[0, 0, 2], x[0, 3, 4]])
    np.testing.assert_allclose(got[0, 0], expected, atol=1e-6)


def test_far_outside_is_zero_not_wrapped():
    got = bilinear(jnp.ones((1, 3, 3, 1)), jnp.array([[[[3e9, 3e9], [-3e9, 1.0], [1.0, -3e9]]]]))
    assert not got.any()


def test_unknown_padding_is_refused():
    with pytest.raises(ValueError, match="reflect"):
        bilinear(jnp.ones((1, 2, 2, 1)), jnp.zeros((1, 1, 1, 2)), "reflect")


def test_whole_pixel_flow_moves_the_image(rng):
    x = jnp.asarray(rng.standard_normal((1, 6, 8, 2)), jnp.float32)
    got = flow_warp(x, jnp.broadcast_to(jnp.array([2.0, -1.0]), (1, 6, 8, 2)))
    np.testing.assert_array_equal(got[:, 1:, :-2], x[:, :-1, 2:])
    assert not got[:, 0].any()
    assert not got[:, :, -2:].any()


def test_bilinear_equals_torch(rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((2, 9, 11, 3)).astype(np.float32)
    coords = rng.uniform(-2, 12, (2, 5, 6, 2)).astype(np.float32)
    place = torch.from_numpy(coords / np.array([10, 8], np.float32) * 2 - 1)
    image = torch.from_numpy(x).permute(0, 3, 1, 2)
    for padding in ("zeros", "border"):
        expected = torch.nn.functional.grid_sample(image, place, padding_mode=padding, align_corners=True)
        got = bilinear(jnp.asarray(x), jnp.asarray(coords), padding)
        np.testing.assert_allclose(got, expected.permute(0, 2, 3, 1).numpy(), atol=2e-5)


def test_nearest_rounds_half_to_even_and_returns_the_remainder():
    x = jnp.arange(4, dtype=jnp.float32).reshape(1, 1, 4, 1) + 10
    coords = jnp.array([[[[0.5, 0.0], [1.5, 0.0], [2.25, 0.4], [3.5, 0.0], [-0.5, -0.5], [-0.6, 0.0]]]])
    values, offset, inside = nearest(x, coords)
    np.testing.assert_array_equal(values[0, 0, :, 0], [10, 12, 12, 0, 10, 0])
    np.testing.assert_array_equal(inside[0, 0, :, 0], [1, 1, 1, 0, 1, 0])
    np.testing.assert_allclose(
        offset[0, 0], [[0.5, 0], [-0.5, 0], [0.25, 0.4], [0, 0], [-0.5, -0.5], [0, 0]], atol=1e-7
    )


def test_nearest_ends_at_the_true_size():
    x = jnp.ones((2, 4, 6, 1))
    coords = jnp.broadcast_to(pixel_grid(4, 6), (2, 4, 6, 2))
    values, _, inside = nearest(x, coords, jnp.array([[4, 6], [2, 3]]))
    assert values[0].sum() == 24
    assert values[1].sum() == inside[1].sum() == 6
    assert values[1, :2, :3].all()


def test_nearest_gradient_counts_readers_in_float32():
    """1000 readers of one pixel: in bfloat16, counting would stop at 256."""
    x = jnp.ones((1, 2, 2, 1), jnp.bfloat16)
    coords = jnp.zeros((1, 10, 100, 2))
    grad = jax.grad(lambda x: nearest(x, coords)[0].astype(jnp.float32).sum())(x)
    assert grad.dtype == jnp.bfloat16
    assert grad[0, 0, 0, 0] == 1000
    assert jnp.count_nonzero(grad) == 1


def test_nearest_has_no_gradient_to_places(rng):
    x = jnp.asarray(rng.standard_normal((1, 3, 3, 2)), jnp.float32)
    coords = jnp.asarray(rng.uniform(0, 2, (1, 4, 4, 2)), jnp.float32)
    grad = jax.grad(lambda c: sum(part.sum() for part in nearest(x, c)))(coords)
    assert not grad.any()


def test_bicubic_at_whole_pixels_is_the_pixel_bit_for_bit(rng):
    x = jnp.asarray(rng.standard_normal((2, 6, 7, 3)), jnp.float32)
    places = jnp.broadcast_to(pixel_grid(6, 7) + jnp.array([2.0, -1.0])[None, None], (2, 6, 7, 2))
    out = bicubic(x, places)
    np.testing.assert_array_equal(out[:, 1:, :-2], x[:, :-1, 2:])
    # Edges are extended.
    np.testing.assert_array_equal(out[:, 0], out[:, 1])
    np.testing.assert_array_equal(out[:, :, -1], out[:, :, -3])


def test_bicubic_equals_sampling_along_both_axes(rng):
    x = jnp.asarray(rng.standard_normal((2, 9, 11, 3)), jnp.float32)
    rows, columns = (
        crop_axis(jnp.float32(-2.3), jnp.float32(0.37), 37),
        crop_axis(*jnp.float32([1.7, 0.61]), 16),
    )
    where = [np.asarray(axis.index) + np.asarray(axis.offset) for axis in (rows, columns)]
    places = np.stack(np.meshgrid(where[1], where[0]), -1).astype(np.float32)
    out = bicubic(x, jnp.broadcast_to(jnp.asarray(places), (2, *places.shape)))
    np.testing.assert_allclose(out, sample_bicubic(x, Grid(rows, columns)), atol=2e-5)


def test_bicubic_far_outside_is_the_nearest_edge(rng):
    x = jnp.asarray(rng.standard_normal((1, 4, 5, 2)), jnp.float32)
    out = bicubic(x, jnp.array([[[[3e9, 3e9], [-3e9, 1.0], [2.0, -3e9]]]]))
    np.testing.assert_allclose(out[0, 0], jnp.stack([x[0, 3, 4], x[0, 1, 0], x[0, 0, 2]]), atol=1e-6)


def test_bicubic_gradient_is_the_transpose_and_places_get_none(rng):
    shape, coords = (2, 5, 6, 3), jnp.asarray(rng.uniform(-2, 8, (2, 4, 7, 2)), jnp.float32)
    x, other = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for _ in range(2))
    g = jnp.asarray(rng.standard_normal((2, 4, 7, 3)), jnp.float32)
    _, back = jax.vjp(bicubic, x, coords)
    to_x, to_coords = back(g)
    np.testing.assert_allclose(jnp.sum(bicubic(other, coords) * g), jnp.sum(other * to_x), rtol=1e-4)
    assert not to_coords.any()


def test_bicubic_gradient_counts_readers_in_float32():
    x = jnp.ones((1, 2, 2, 1), jnp.bfloat16)
    grad = jax.grad(lambda x: bicubic(x, jnp.zeros((1, 10, 100, 2))).astype(jnp.float32).sum())(x)
    assert grad.dtype == jnp.bfloat16
    assert grad.astype(jnp.float32).sum() == 1000
