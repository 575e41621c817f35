"""Thumbnails, and the likeness of two frames."""

import numpy as np
import pytest

from ldip_jax.ops.likeness import BLOCK, common_move, likeness, thumbnail
from tests.scenes import blocks


@pytest.mark.parametrize(
    "size", [(270, 480), (480, 270), (36, 64), (16, 16), (17, 31), (16, 3000), (101, 33)]
)
def test_a_thumbnail_consists_of_whole_blocks_and_keeps_the_mean(size, rng):
    frame = rng.random((*size, 3), np.float32)
    small = thumbnail(frame)
    assert small.shape[0] == 3
    assert all(
        side % BLOCK == 0 and 0 < side <= whole for side, whole in zip(small.shape[1:], size, strict=True)
    )
    luma = frame.mean(axis=(0, 1)) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(small[0].mean(), luma, rtol=1e-5)


def test_a_thumbnail_averages_areas_and_grey_has_no_colour(rng):
    grey = rng.random((64, 112, 1), np.float32)
    small = thumbnail(np.repeat(grey, 3, axis=-1))
    np.testing.assert_allclose(small[0], grey.reshape(32, 2, 56, 2).mean(axis=(1, 3)), rtol=1e-5)
    np.testing.assert_allclose(small[1:], 0, atol=1e-6)


@pytest.mark.parametrize("size", [(72, 128), (36, 64), (16, 16)])
def test_likeness_is_one_with_itself_and_the_same_in_either_order(size):
    one, other = (thumbnail(blocks(seed, *size)) for seed in (0, 1))
    assert likeness(one, one) == pytest.approx(1, abs=1e-3)
    assert likeness(one, 0.5 * one) > 0.95
    assert likeness(one, other) == likeness(other, one)
    assert likeness(one, other) < 0.6


def test_flat_frames_are_alike_and_unlike_textured_ones():
    flat = np.zeros((3, 32, 56), np.float32)
    textured = thumbnail(blocks(0, 64, 112))
    assert likeness(flat, flat + 0.5) == pytest.approx(1, abs=1e-3)
    assert likeness(flat, textured) == likeness(textured, flat) < 0.3


@pytest.mark.parametrize("move", [(0, 0), (3, -5), (-6, 18), (2, -24)])
def test_the_common_move_is_found(move):
    image = blocks(0, 64, 112).transpose(2, 0, 1)
    one = image[:, 16:48, 28:84]
    other = image[:, 16 + move[0] : 48 + move[0], 28 + move[1] : 84 + move[1]]
    assert common_move(one, other) == move
    assert common_move(other, one) == (-move[0], -move[1])
    assert likeness(one, other) > 0.8
