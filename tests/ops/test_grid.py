"""The arbitrary-scale grid against exact fractions."""

from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.models.ldip import flow_in_hr_pixels
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.grid import (
    Axis,
    Grid,
    crop_axis,
    sample_bicubic,
    sample_flow,
    sample_nearest,
    whole_axis,
    whole_grid,
)

cropped_axis = jax.jit(crop_axis, static_argnums=2)


@pytest.mark.parametrize(("n", "N"), [(4, 6), (5, 5), (7, 28), (8, 28), (9, 31), (64, 96), (3, 24)])
def test_whole_axis_is_exact(n, N):
    axis = Axis(*map(np.asarray, whole_axis(n, N)))
    for y in range(N):
        place = (y + Fraction(1, 2)) * n / N - Fraction(1, 2)
        assert axis.index[y] == floor(place + Fraction(1, 2))
        assert axis.offset[y] == np.float32(float(place - int(axis.index[y])))
    assert axis.pixel == np.float32(n / N)


def test_a_crop_is_a_part_of_the_whole():
    """No ties at this scale: float32 places then agree with the exact ones."""
    whole = whole_axis(40, 132)
    step = 40 / 132
    part = cropped_axis(np.float32((17 + 0.5) * step - 0.5), np.float32(step), 60)
    np.testing.assert_array_equal(part.index, np.asarray(whole.index)[17:77])
    np.testing.assert_allclose(part.offset, np.asarray(whole.offset)[17:77], atol=1e-5)


def test_nearest_at_an_integer_scale_repeats(rng):
    x = rng.standard_normal((2, 3, 4, 2)).astype(np.float32)
    got = quick_jit(sample_nearest)(x, whole_grid((3, 4), (9, 12)))
    np.testing.assert_array_equal(got, np.repeat(np.repeat(x, 3, axis=1), 3, axis=2))


def test_bicubic_equals_resize_inside(rng):
    """At the border, jax.image.resize ignores taps outside; here the edge is extended."""
    x = rng.standard_normal((1, 12, 10, 3)).astype(np.float32)

    def both(x, grid):
        return sample_bicubic(x, grid), jax.image.resize(x, (1, 30, 33, 3), "cubic", antialias=False)

    got, expected = map(np.asarray, quick_jit(both)(x, whole_grid((12, 10), (30, 33))))
    np.testing.assert_allclose(got[:, 5:-5, 7:-7], expected[:, 5:-5, 7:-7], atol=3e-6)


def test_bicubic_keeps_constants_and_is_the_identity_at_x1(rng):
    x = rng.standard_normal((1, 5, 6, 3)).astype(np.float32)
    bicubic = quick_jit(sample_bicubic)
    np.testing.assert_array_equal(bicubic(x, whole_grid((5, 6), (5, 6))), x)
    np.testing.assert_allclose(bicubic(np.ones_like(x), whole_grid((5, 6), (17, 13))), 1.0, atol=1e-6)


SIZES = [((9, 12), (36, 48)), ((8, 10), (28, 20)), ((7, 9), (10, 14)), ((8, 10), (17, 33)), ((6, 5), (6, 5))]


@pytest.mark.parametrize(("size", "out"), SIZES)
def test_a_flow_on_a_whole_grid_is_resized_bilinearly_with_half_pixel_centres(rng, size, out):
    """Up to the edges, with two scales, and if sizes are not multiples, such as 9 pixels at x1.5."""
    flow = rng.standard_normal((2, *size, 2)).astype(np.float32)
    grid = whole_grid(size, out)

    def both(flow, grid):
        return flow_in_hr_pixels(flow, out, grid), flow_in_hr_pixels(flow, out)

    sampled, resized = quick_jit(both)(flow, grid)
    np.testing.assert_allclose(sampled, resized, atol=2e-5)
    # In float32, whatever the type of the features.
    assert jax.eval_shape(sample_flow, flow.astype(jnp.bfloat16), grid).dtype == jnp.float32


class Cropped(NamedTuple):
    """An axis of a frame: its sizes, an HR crop of it, an LR window around that, and the crop's grid."""

    hr: int
    lr: int
    crop: slice
    window: slice
    axis: Axis


def axis_of_crop(rng, scale, side) -> Cropped:
    lr = int(side / scale) + 40
    hr = round(lr * scale)
    step = lr / hr
    first = int(rng.integers(5, hr - side - 5))
    begin, end = floor((first + 0.5) * step - 0.5), ceil((first + side - 0.5) * step - 0.5)
    window = slice(int(rng.integers(0, begin + 1)), int(rng.integers(end + 1, lr + 1)))
    origin = (first + 0.5) * step - 0.5 - window.start
    axis = cropped_axis(np.float32(origin), np.float32(step), side)
    return Cropped(hr, lr, slice(first, first + side), window, axis)


@pytest.mark.parametrize("side", [64, 256])
@pytest.mark.parametrize("scales", [(1.5, 1.5), (2.37, 2.37), (3.9, 3.9), (4.0, 4.0), (3.5, 2.0), (1.7, 4.3)])
def test_a_flow_on_a_crop_equals_the_cropped_flow_of_the_whole_frame(rng, scales, side):
    rows, columns = (axis_of_crop(rng, scale, side) for scale in scales)
    flow = rng.standard_normal((1, rows.lr, columns.lr, 2)).astype(np.float32)

    def both(flow, window, grid):
        return flow_in_hr_pixels(flow, (rows.hr, columns.hr)), sample_flow(window, grid)

    window = flow[:, rows.window, columns.window]
    whole, got = quick_jit(both)(flow, window, Grid(rows.axis, columns.axis))
    np.testing.assert_allclose(got, np.asarray(whole)[:, rows.crop, columns.crop], atol=1e-3)


def test_one_program_serves_every_scale():
    traces = []

    @jax.jit
    def program(x, grid: Grid):
        traces.append(1)
        return sample_bicubic(x, grid)

    x = np.ones((1, 8, 8, 3), np.float32)
    for step in (0.3, 0.41, 0.5):
        axis = cropped_axis(np.float32(0.0), np.float32(step), 16)
        program(x, Grid(axis, axis))
    assert len(traces) == 1
