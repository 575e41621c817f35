"""Sampling against plain loops, at and beyond the borders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.grid import Grid, crop_axis, sample_bicubic
from ldip_jax.ops.warp import bicubic, bilinear, flow_warp, nearest, pixel_grid

sample_bilinear = jax.jit(bilinear, static_argnums=2)
sample_bicubic_at = jax.jit(bicubic)
# The sizes of most maps and places, so that one program serves several tests.
MAP, PLACES = (2, 9, 11, 3), (2, 5, 6, 2)


def repeated(places: list[list[float]]) -> np.ndarray:
    """These places again and again, in as many rows and columns as `PLACES` has."""
    return np.resize(np.array(places, np.float32), PLACES)


def sample(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """One bilinear sample, zero outside, in float64."""
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    out = np.zeros(image.shape[-1])
    for yi, xi in ((y0, x0), (y0, x0 + 1), (y0 + 1, x0), (y0 + 1, x0 + 1)):
        if 0 <= yi < image.shape[0] and 0 <= xi < image.shape[1]:
            out += (1 - abs(x - xi)) * (1 - abs(y - yi)) * image[yi, xi]
    return out


def test_bilinear_zeros_equals_a_loop_over_neighbours(rng):
    x = rng.standard_normal(MAP).astype(np.float32)
    coords = rng.uniform(-3, 13, PLACES).astype(np.float32)
    coords[0, 0, :4] = [[0, 0], [10, 8], [-0.5, 2], [10.5, 7.25]]
    got = sample_bilinear(x, coords)
    expected = [[[sample(x[b], *coords[b, i, j]) for j in range(6)] for i in range(5)] for b in range(2)]
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_bilinear_border_clamps(rng):
    x = rng.standard_normal(MAP).astype(np.float32)
    got = sample_bilinear(x, repeated([[-9.0, 1.0], [10.7, 8.9], [2.0, -1e6], [1e9, 1e9]]), "border")
    expected = np.stack([x[0, 1, 0], x[0, 8, 10], x[0, 0, 2], x[0, 8, 10]])
    np.testing.assert_allclose(np.asarray(got)[0, 0, :4], expected, atol=1e-6)


def test_far_outside_is_zero_not_wrapped():
    got = sample_bilinear(np.ones(MAP, np.float32), repeated([[3e9, 3e9], [-3e9, 1.0], [1.0, -3e9]]))
    assert not np.any(got)


def test_unknown_padding_is_refused():
    with pytest.raises(ValueError, match="reflect"):
        bilinear(jnp.ones((1, 2, 2, 1)), jnp.zeros((1, 1, 1, 2)), "reflect")


def test_whole_pixel_flow_moves_the_image(rng):
    x = rng.standard_normal((1, 6, 8, 2)).astype(np.float32)
    got = np.asarray(quick_jit(flow_warp)(x, np.full(x.shape, [2.0, -1.0], np.float32)))
    np.testing.assert_array_equal(got[:, 1:, :-2], x[:, :-1, 2:])
    assert not got[:, 0].any()
    assert not got[:, :, -2:].any()


def test_bilinear_equals_torch(rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal(MAP).astype(np.float32)
    coords = rng.uniform(-2, 12, PLACES).astype(np.float32)
    place = torch.from_numpy(coords / np.array([10, 8], np.float32) * 2 - 1)
    image = torch.from_numpy(x).permute(0, 3, 1, 2)
    for padding, got in (
        ("zeros", sample_bilinear(x, coords)),
        ("border", sample_bilinear(x, coords, "border")),
    ):
        expected = torch.nn.functional.grid_sample(image, place, padding_mode=padding, align_corners=True)
        np.testing.assert_allclose(got, expected.permute(0, 2, 3, 1).numpy(), atol=2e-5)


def test_nearest_rounds_half_to_even_and_returns_the_remainder():
    x = np.arange(10, 14, dtype=np.float32).reshape(1, 1, 4, 1)
    coords = np.array([[[[0.5, 0.0], [1.5, 0.0], [2.25, 0.4], [3.5, 0.0], [-0.5, -0.5], [-0.6, 0.0]]]])
    values, offset, inside = map(np.asarray, quick_jit(nearest)(x, coords))
    np.testing.assert_array_equal(values[0, 0, :, 0], [10, 12, 12, 0, 10, 0])
    np.testing.assert_array_equal(inside[0, 0, :, 0], [1, 1, 1, 0, 1, 0])
    np.testing.assert_allclose(
        offset[0, 0], [[0.5, 0], [-0.5, 0], [0.25, 0.4], [0, 0], [-0.5, -0.5], [0, 0]], atol=1e-7
    )


def test_nearest_ends_at_the_true_size():
    def at_every_pixel(x, size):
        return nearest(x, jnp.broadcast_to(pixel_grid(4, 6), (2, 4, 6, 2)), size)

    sizes = np.array([[4, 6], [2, 3]])
    values, _, inside = map(np.asarray, quick_jit(at_every_pixel)(np.ones((2, 4, 6, 1), np.float32), sizes))
    assert values[0].sum() == 24
    assert values[1].sum() == inside[1].sum() == 6
    assert values[1, :2, :3].all()


def test_nearest_gradient_counts_readers_in_float32():
    """1000 readers of one pixel: in bfloat16, counting would stop at 256."""
    x, coords = np.ones((1, 2, 2, 1), jnp.bfloat16), np.zeros((1, 10, 100, 2), np.float32)

    def total(x, coords):
        return nearest(x, coords)[0].astype(jnp.float32).sum()

    grad = np.asarray(quick_jit(jax.grad(total))(x, coords))
    assert grad.dtype == jnp.bfloat16
    assert grad[0, 0, 0, 0] == 1000
    assert np.count_nonzero(grad) == 1


def test_nearest_has_no_gradient_to_places(rng):
    x = rng.standard_normal((1, 3, 3, 2)).astype(np.float32)
    coords = rng.uniform(0, 2, (1, 4, 4, 2)).astype(np.float32)
    grad = quick_jit(jax.grad(lambda c, x: sum(part.sum() for part in nearest(x, c))))(coords, x)
    assert not np.any(grad)


def test_bicubic_at_whole_pixels_is_the_pixel_bit_for_bit(rng):
    x = rng.standard_normal(MAP).astype(np.float32)
    # A part of the map, moved: its upper edge lies above the map, its right edge beyond it.
    columns, rows = np.meshgrid(np.arange(7, 13), np.arange(-1, 4))
    places = np.broadcast_to(np.stack([columns, rows], -1), PLACES).astype(np.float32)
    out = np.asarray(sample_bicubic_at(x, places))
    np.testing.assert_array_equal(out[:, 1:, :-2], x[:, :4, 7:])
    # Edges are extended.
    np.testing.assert_array_equal(out[:, 0], out[:, 1])
    np.testing.assert_array_equal(out[:, :, -1], out[:, :, -3])


def test_bicubic_equals_sampling_along_both_axes(rng):
    x = rng.standard_normal(MAP).astype(np.float32)

    def both(x, origins, steps):
        grid = Grid(*(crop_axis(*axis) for axis in zip(origins, steps, (37, 16), strict=True)))
        rows, columns = (axis.index + axis.offset for axis in grid)
        places = jnp.stack(jnp.meshgrid(columns, rows), -1)
        return bicubic(x, jnp.broadcast_to(places, (2, *places.shape))), sample_bicubic(x, grid)

    out, expected = quick_jit(both)(x, np.float32([-2.3, 1.7]), np.float32([0.37, 0.61]))
    np.testing.assert_allclose(out, expected, atol=2e-5)


def test_bicubic_far_outside_is_the_nearest_edge(rng):
    x = rng.standard_normal(MAP).astype(np.float32)
    out = np.asarray(sample_bicubic_at(x, repeated([[3e9, 3e9], [-3e9, 1.0], [2.0, -3e9]])))
    np.testing.assert_allclose(out[0, 0, :3], [x[0, 8, 10], x[0, 1, 0], x[0, 0, 2]], atol=1e-6)


def test_bicubic_gradient_is_the_transpose_and_places_get_none(rng):
    x, other = rng.standard_normal((2, *MAP)).astype(np.float32)
    coords = rng.uniform(-2, 12, PLACES).astype(np.float32)
    g = rng.standard_normal((*PLACES[:3], MAP[3])).astype(np.float32)
    to_x, to_coords = quick_jit(lambda x, coords, g: jax.vjp(bicubic, x, coords)[1](g))(x, coords, g)
    np.testing.assert_allclose(np.sum(sample_bicubic_at(other, coords) * g), np.sum(other * to_x), rtol=1e-4)
    assert not np.any(to_coords)


def test_bicubic_gradient_counts_readers_in_float32():
    x, coords = np.ones((1, 2, 2, 1), jnp.bfloat16), np.zeros((1, 10, 100, 2), np.float32)

    def total(x, coords):
        return bicubic(x, coords).astype(jnp.float32).sum()

    grad = np.asarray(quick_jit(jax.grad(total))(x, coords))
    assert grad.dtype == jnp.bfloat16
    assert grad.astype(np.float32).sum() == 1000


@pytest.mark.parametrize("sample", [bilinear, bicubic])
def test_gradients_in_bfloat16_are_close_to_those_in_float32(sample, rng):
    """They are not 0, as they would be if 16-bit maps were read as integers without a rule for gradients."""
    x, weight = (jnp.asarray(rng.standard_normal(MAP), jnp.float32) for _ in range(2))
    coords = pixel_grid(*MAP[1:3])[None] + jnp.array([[[[0.3, -0.6]]]])

    def loss(x):
        return jnp.sum(sample(x, jnp.repeat(coords, 2, axis=0)).astype(jnp.float32) * weight)

    exact = jax.grad(loss)(x)
    found = jax.grad(loss)(x.astype(jnp.bfloat16)).astype(jnp.float32)
    assert jnp.linalg.norm(found - exact) < 0.01 * jnp.linalg.norm(exact)
