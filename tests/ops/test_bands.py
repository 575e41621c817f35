"""Bands cover a map once, whatever its height."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.models.trainable import quick_jit
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
    x = rng.standard_normal((2, height, 3, 1)).astype(np.float32)
    bands = Bands(height, rows, halo)

    def joined(x):
        parts = jax.lax.map(lambda i: crop_band(read_band(x, bands, i), bands, i), jnp.arange(bands.count))
        return join_bands(parts, bands)

    np.testing.assert_array_equal(quick_jit(joined)(x), x)


def test_a_band_reads_its_halo_or_ends_with_the_map():
    bands = Bands(23, 9, 2)
    starts = jax.jit(bands.starts)
    for i in range(bands.count):
        read, first = map(int, starts(np.int32(i)))
        assert read == 0 or first - read >= 2
        assert read + bands.read == 23 or first + 9 + 2 <= read + bands.read


def test_enlarged_bands_join(rng):
    x = rng.standard_normal((1, 13, 2, 1)).astype(np.float32)
    bands, scale = Bands(13, 4, 1), 3

    def joined(x):
        def part(i):
            return crop_band(jnp.repeat(read_band(x, bands, i), scale, axis=1), bands, i, scale)

        return join_bands(jax.lax.map(part, jnp.arange(bands.count)), bands, scale)

    np.testing.assert_array_equal(quick_jit(joined)(x), np.repeat(x, scale, axis=1))


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
    maps = tuple(rng.integers(0, 100, (2, 2, height, 3, 2)).astype(np.float32))
    seen = []

    def chain(x, y):
        seen.append(x.shape[1])
        padded = jnp.pad(x, ((0, 0), (halo, halo), (0, 0), (0, 0)))
        return padded[:, : x.shape[1]] + 2.0 * padded[:, 2 * halo :] - y

    @quick_jit
    def results(*maps):
        sums = [sum_bands(chain, maps, pixels, halo) for pixels in (16, None)]
        return chain(*maps), map_bands(chain, maps, 16, halo), sums

    expected, banded, sums = jax.device_get(results(*maps))
    np.testing.assert_array_equal(banded, expected)
    for total in sums:
        np.testing.assert_array_equal(total, expected.sum((0, 1, 2)))
    assert min(seen) < height == max(seen)


@pytest.mark.parametrize("pixels", [None, 10, 21])
def test_fill_rows(pixels):
    def band(rows):
        column = rows.astype(jnp.float32)[None, :, None, None]
        return jnp.repeat(column, 3, axis=2), -column

    rows, minus = jax.device_get(quick_jit(lambda: fill_rows(band, (11, 3), pixels))())
    np.testing.assert_array_equal(rows[0, :, :, 0], np.repeat(np.arange(11.0)[:, None], 3, axis=1))
    np.testing.assert_array_equal(minus[0, :, 0, 0], -np.arange(11.0))
