"""Window partitions and padding."""

import jax
import numpy as np
import pytest

from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.windows import from_windows, pad_to_windows, relative_index, to_windows


def test_windows_round_trip(rng):
    x = rng.standard_normal((2, 16, 24, 3)).astype(np.float32)

    def there_and_back(x):
        tokens = to_windows(x, 8)
        return tokens, from_windows(tokens, 8, 16, 24)

    tokens, back = map(np.asarray, quick_jit(there_and_back)(x))
    assert tokens.shape == (12, 64, 3)
    np.testing.assert_array_equal(tokens[1, 9], x[0, 1, 9])
    np.testing.assert_array_equal(back, x)


def test_maps_that_share_windows_follow_each_other(rng):
    x = rng.standard_normal((6, 8, 16, 3)).astype(np.float32)

    def there_and_back(x):
        tokens = to_windows(x, 8, depth=3)
        return tokens, from_windows(tokens, 8, 8, 16, depth=3)

    tokens, back = map(np.asarray, quick_jit(there_and_back)(x))
    assert tokens.shape == (4, 192, 3)
    np.testing.assert_array_equal(tokens[3, 64 + 9], x[4, 1, 9])
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("shift", [0, 4])
def test_zeros_that_are_seen_are_keys_but_not_part_of_the_map(shift):
    pad = quick_jit(lambda x: pad_to_windows(x, 8, shift, zeros_seen=True))
    padded, masks = map(np.asarray, pad(np.ones((1, 9, 16, 2), np.float32)))
    assert padded.shape[1:3] == (16 + 2 * shift, 16 + 2 * shift)
    keys, own = masks[0, ..., 0], masks[0, ..., 1]
    assert (keys.sum(), own.sum()) == (16 * 16, 9 * 16)
    np.testing.assert_array_equal(own[..., None] * padded[0], padded[0])


def test_relative_index_of_three_axes():
    index = relative_index((3, 8, 8))
    assert index.shape == (192, 192)
    assert index[64, 0] == 3 * 225 + 7 * 15 + 7
    assert index[0, 191] == 0
    assert index[191, 0] == 1124


def test_relative_index_counts_from_the_lower_right():
    index = relative_index((8, 8))
    assert index.shape == (64, 64)
    assert index[0, 0] == 7 * 15 + 7
    assert index[0, 63] == 0
    assert index[63, 0] == 224
    assert index[8, 0] == 8 * 15 + 7


@pytest.mark.parametrize(("h", "w", "shift"), [(8, 16, 0), (9, 3, 0), (8, 16, 4), (13, 4, 4), (1, 1, 4)])
def test_every_window_holds_a_real_pixel(h, w, shift):
    def in_windows(x):
        padded, masks = pad_to_windows(x, 8, shift)
        return padded, masks, None if masks is None else to_windows(masks[..., :1], 8)

    padded, masks, tokens = jax.device_get(quick_jit(in_windows)(np.ones((1, h, w, 2), np.float32)))
    if masks is None:
        assert (h % 8, w % 8, shift) == (0, 0, 0)
        return
    assert padded.shape[1] % 8 == padded.shape[2] % 8 == 0
    np.testing.assert_array_equal(masks[..., 0], masks[..., 1])
    assert masks[..., 0].sum() == h * w
    assert (tokens.sum(axis=1) > 0).all()
    np.testing.assert_array_equal(padded[:, shift : shift + h, shift : shift + w], np.ones((1, h, w, 2)))
