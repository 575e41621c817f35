"""Bands cover a map once, whatever its height."""

import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.ops.bands import Bands, crop_band, join_bands, plan_bands, read_band


@pytest.mark.parametrize(("height", "rows", "halo"), [(20, 5, 0), (21, 5, 2), (23, 9, 1), (50, 8, 3)])
def test_joined_bands_are_the_map(rng, height, rows, halo):
    x = jnp.asarray(rng.standard_normal((2, height, 3, 1)), jnp.float32)
    bands = Bands(height, rows, halo)
    parts = [crop_band(read_band(x, bands, jnp.array(i)), bands, jnp.array(i)) for i in range(bands.count)]
    np.testing.assert_array_equal(join_bands(jnp.stack(parts), bands), x)


def test_a_band_reads_its_halo_or_ends_with_the_map():
    bands = Bands(23, 9, 2)
    for i in range(bands.count):
        read, first = (int(v) for v in bands.starts(jnp.array(i)))
        assert read == 0 or first - read >= 2
        assert read + bands.read == 23 or first + 9 + 2 <= read + bands.read


def test_enlarged_bands_join(rng):
    x = jnp.asarray(rng.standard_normal((1, 13, 2, 1)), jnp.float32)
    bands, scale = Bands(13, 4, 1), 3
    parts = [
        crop_band(jnp.repeat(read_band(x, bands, jnp.array(i)), scale, axis=1), bands, jnp.array(i), scale)
        for i in range(bands.count)
    ]
    np.testing.assert_array_equal(join_bands(jnp.stack(parts), bands, scale), jnp.repeat(x, scale, axis=1))


def test_plan():
    assert plan_bands(100, 100, None) is None
    assert plan_bands(10, 10, 100) is None
    plan = plan_bands(720, 1280, 2**14)
    assert plan.rows * 1280 <= 2**14 * 1.1
    assert plan.count * plan.rows >= 720
    assert plan_bands(720, 1280, 2**14, halo=3).rows >= 24
    assert plan_bands(100, 1000, 1000, multiple=8).rows % 8 == 0
    assert plan_bands(20, 1000, 1000, halo=9) is None
