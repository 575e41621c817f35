"""The arbitrary-scale grid against exact fractions."""

from fractions import Fraction
from math import floor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.ops.grid import Grid, crop_axis, sample_bicubic, sample_nearest, whole_axis, whole_grid


@pytest.mark.parametrize(("n", "N"), [(4, 6), (5, 5), (7, 28), (8, 28), (9, 31), (64, 96), (3, 24)])
def test_whole_axis_is_exact(n, N):
    axis = whole_axis(n, N)
    for y in range(N):
        place = (y + Fraction(1, 2)) * n / N - Fraction(1, 2)
        assert axis.index[y] == floor(place + Fraction(1, 2))
        assert axis.offset[y] == np.float32(float(place - int(axis.index[y])))
    assert axis.pixel == np.float32(n / N)


def test_a_crop_is_a_part_of_the_whole():
    """No ties at this scale: float32 places then agree with the exact ones."""
    whole = whole_axis(40, 132)
    step = 40 / 132
    part = crop_axis(jnp.float32((17 + 0.5) * step - 0.5), jnp.float32(step), 60)
    np.testing.assert_array_equal(part.index, whole.index[17:77])
    np.testing.assert_allclose(part.offset, whole.offset[17:77], atol=1e-5)


def test_nearest_at_an_integer_scale_repeats(rng):
    x = jnp.asarray(rng.standard_normal((2, 3, 4, 2)), jnp.float32)
    got = sample_nearest(x, whole_grid((3, 4), (9, 12)))
    np.testing.assert_array_equal(got, jnp.repeat(jnp.repeat(x, 3, axis=1), 3, axis=2))


def test_bicubic_equals_resize_inside(rng):
    """At the border jax.image.resize leaves outside taps out; here the edge is held."""
    x = jnp.asarray(rng.standard_normal((1, 12, 10, 3)), jnp.float32)
    got = sample_bicubic(x, whole_grid((12, 10), (30, 33)))
    want = jax.image.resize(x, (1, 30, 33, 3), "cubic", antialias=False)
    np.testing.assert_allclose(got[:, 5:-5, 7:-7], want[:, 5:-5, 7:-7], atol=3e-6)


def test_bicubic_holds_constants_and_identity(rng):
    x = jnp.asarray(rng.standard_normal((1, 5, 6, 3)), jnp.float32)
    np.testing.assert_array_equal(sample_bicubic(x, whole_grid((5, 6), (5, 6))), x)
    flat = sample_bicubic(jnp.ones_like(x), whole_grid((5, 6), (17, 13)))
    np.testing.assert_allclose(flat, 1.0, atol=1e-6)


def test_one_program_serves_every_scale():
    traces = []

    @jax.jit
    def program(x, grid: Grid):
        traces.append(1)
        return sample_bicubic(x, grid)

    x = jnp.ones((1, 8, 8, 3))
    for step in (0.3, 0.41, 0.5):
        axis = crop_axis(jnp.float32(0.0), jnp.float32(step), 16)
        program(x, Grid(axis, axis))
    assert len(traces) == 1
