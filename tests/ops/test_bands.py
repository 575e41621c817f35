"""Bands cover a map once, whatever its height."""

import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.ops.bands import (
    Bands,
    crop_band,
    fill_rows,
    join_bands,
    map_bands,
    plan_bands,
    read_band,
    sum_bands,
)


@pytest.mark.parametrize(("height", "rows", "halo"), [(20, 5, 0), (21, 5, 2), (23, 9, 1), (50, 8, 3)])
def test_joined_bands_equal_the_map(rng, height, rows, halo):
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


def test_plan_bands():
    assert plan_bands(100, 100, None) is None
    assert plan_bands(10, 10, 100) is None
    plan = plan_bands(720, 1280, 2**14)
    assert plan.rows * 1280 <= 2**14 * 1.1
    assert plan.count * plan.rows >= 720
    assert plan_bands(720, 1280, 2**14, halo=3).rows >= 24
    assert plan_bands(100, 1000, 1000, multiple=8).rows % 8 == 0
    assert plan_bands(20, 1000, 1000, halo=9) is None


@pytest.mark.parametrize("height", [32, 33, 47])
@pytest.mark.parametrize("halo", [0, 2])
def test_maps_and_sums_do_not_depend_on_bands(rng, height, halo):
    """A row needs those up to `halo` away; the last band repeats rows of the one before."""
    maps = jnp.asarray(rng.integers(0, 100, (2, 2, height, 3, 2)), jnp.float32)
    seen = []

    def chain(x, y):
        seen.append(x.shape[1])
        padded = jnp.pad(x, ((0, 0), (halo, halo), (0, 0), (0, 0)))
        return padded[:, : x.shape[1]] + 2.0 * padded[:, 2 * halo :] - y

    expected = chain(*maps)
    np.testing.assert_array_equal(map_bands(chain, tuple(maps), 16, halo), expected)
    np.testing.assert_array_equal(sum_bands(chain, tuple(maps), 16, halo), expected.sum((0, 1, 2)))
    np.testing.assert_array_equal(sum_bands(chain, tuple(maps), None, halo), expected.sum((0, 1, 2)))
    assert min(seen) < height == max(seen)


@pytest.mark.parametrize("pixels", [None, 10, 21])
def test_fill_rows(pixels):
    def band(rows):
        column = rows.astype(jnp.float32)[None, :, None, None]
        return jnp.repeat(column, 3, axis=2), -column

    rows, minus = fill_rows(band, (11, 3), pixels)
    np.testing.assert_array_equal(rows[0, :, :, 0], np.repeat(np.arange(11.0)[:, None], 3, axis=1))
    np.testing.assert_array_equal(minus[0, :, 0, 0], -np.arange(11.0))
