"""The arbitrary-scale head: counts, bands, crops, and its place in LDIP."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.models.arbitrary_scale import (
    ArbitraryScale,
    ArbitraryScaleDecoder,
    init_decoder,
    init_head,
)
from ldip_jax.models.trainable import initialise
from ldip_jax.ops.grid import Axis, Grid, sample_bicubic, whole_grid
from tests.models.random_models import shaken


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_parameter_counts(key):
    head = jax.eval_shape(lambda key: init_head(ArbitraryScale(), key), key)
    assert count(head) == 157_248
    bare = jax.eval_shape(lambda key: init_head(ArbitraryScale(pixel_size=False), key), key)
    assert count(bare) == 157_248 - 2 * 64 * 9
    assert count(jax.eval_shape(lambda key: init_decoder(ArbitraryScaleDecoder(), key), key)) == 38_659


@pytest.fixture(scope="module")
def features():
    return jnp.asarray(np.random.default_rng(3).standard_normal((2, 9, 12, 64)), jnp.float32)


@pytest.fixture(scope="module")
def params():
    return initialise(partial(init_head, ArbitraryScale()), jax.random.key(1))


# As one program: JAX would otherwise compile one for each operation.
@partial(jax.jit, static_argnames="band_pixels")
def program(params, features, grid, band_pixels):
    return ArbitraryScale(band_pixels=band_pixels).apply({"params": params}, features, grid)


def head(params, features, grid, band_pixels=None):
    return np.asarray(program(params, features, grid, band_pixels))


def grid_of(*sizes):
    return jax.tree.map(np.asarray, jax.jit(whole_grid, static_argnums=(0, 1))(*sizes))


def test_bands_equal_the_whole_frame(features, params):
    whole = head(params, features, grid_of((9, 12), (31, 30)))
    assert whole.shape == (2, 31, 30, 64)
    # A band has eight times the rows of its halo, so this needs a tall map.
    tall = grid_of((9, 12), (190, 14))
    banded = head(params, features, tall, band_pixels=100)
    np.testing.assert_allclose(banded, head(params, features, tall), atol=1e-5)


def test_a_crop_equals_the_whole_away_from_its_edges(features, params):
    """The receptive field is 9 pixels: further inside, the grid of a crop gives the same features."""
    grid = grid_of((9, 12), (30, 40))

    def part(axis: Axis, start: int, stop: int) -> Axis:
        return Axis(axis.index[start:stop], axis.offset[start:stop], axis.pixel)

    crop = Grid(part(grid.rows, 3, 28), part(grid.columns, 8, 36))
    got, expected = head(params, features, crop), head(params, features, grid)[:, 3:28, 8:36]
    np.testing.assert_allclose(got[:, 9:-9, 9:-9], expected[:, 9:-9, 9:-9], atol=1e-5)
    assert np.abs(got - expected).max() > 1e-3


def test_scales_are_distinguished_by_the_pixel_size(features, params):
    """The same nearest pixels and offsets give other features if the pixel size differs."""
    grid = grid_of((9, 12), (18, 24))
    wide = Grid(grid.rows, grid.columns._replace(pixel=np.float32(0.9)))
    assert np.abs(head(params, features, grid) - head(params, features, wide)).max() > 1e-3


def test_decoder_adds_to_a_bicubic_base(key, rng):
    frame = jnp.asarray(rng.uniform(0, 1, (1, 6, 8, 3)), jnp.float32)
    grid = grid_of((6, 8), (15, 28))
    params = shaken(initialise(partial(init_decoder, ArbitraryScaleDecoder()), key), rng)
    params["conv_last"] = jax.tree.map(jnp.zeros_like, params["conv_last"])
    hr = jnp.asarray(rng.standard_normal((1, 15, 28, 64)), jnp.float32)
    got = jax.jit(ArbitraryScaleDecoder().apply)({"params": params}, hr, frame, grid)
    np.testing.assert_allclose(got, jax.jit(sample_bicubic)(frame, grid), atol=1e-6)
