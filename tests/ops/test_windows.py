"""Window partitions and padding."""

import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.ops.windows import from_windows, pad_to_windows, relative_index, to_windows


def test_windows_there_and_back(rng):
    x = jnp.asarray(rng.standard_normal((2, 16, 24, 3)), jnp.float32)
    tokens = to_windows(x, 8)
    assert tokens.shape == (12, 64, 3)
    np.testing.assert_array_equal(tokens[1, 9], x[0, 1, 9])
    np.testing.assert_array_equal(from_windows(tokens, 8, 16, 24), x)


def test_relative_index_counts_from_the_lower_right():
    index = relative_index(8)
    assert index.shape == (64, 64)
    assert index[0, 0] == 7 * 15 + 7
    assert index[0, 63] == 0
    assert index[63, 0] == 224
    assert index[8, 0] == 8 * 15 + 7


@pytest.mark.parametrize(("h", "w", "shift"), [(8, 16, 0), (9, 3, 0), (8, 16, 4), (13, 4, 4), (1, 1, 4)])
def test_every_window_holds_something_real(h, w, shift):
    padded, real = pad_to_windows(jnp.ones((1, h, w, 2)), 8, shift)
    if real is None:
        assert (h % 8, w % 8, shift) == (0, 0, 0)
        return
    assert padded.shape[1] % 8 == padded.shape[2] % 8 == 0
    assert real.sum() == h * w
    assert (to_windows(real, 8).sum(axis=1) > 0).all()
    np.testing.assert_array_equal(padded[:, shift : shift + h, shift : shift + w], jnp.ones((1, h, w, 2)))
