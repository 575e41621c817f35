import jax
import numpy as np
import pytest

from ldip_jax.ops.blur import gaussian_blur

blur = jax.jit(gaussian_blur, static_argnums=1)


def test_impulse_becomes_a_gaussian_of_the_given_width_on_each_axis():
    x = np.zeros((1, 41, 61, 1), np.float32)
    x[0, 20, 30, 0] = 1.0
    y = np.asarray(blur(x, (1.6, 2.5)))[0, ..., 0]
    np.testing.assert_allclose(y.sum(), 1.0, atol=1e-6)
    for axis, sigma in ((0, 1.6), (1, 2.5)):
        marginal = y.sum(axis=1 - axis)
        place = np.arange(len(marginal)) - len(marginal) // 2
        np.testing.assert_allclose((marginal * place).sum(), 0.0, atol=1e-5)
        np.testing.assert_allclose((marginal * place**2).sum(), sigma**2, rtol=1e-2)


def test_border_is_replicated(rng):
    x = rng.random((2, 9, 11, 3), np.float32)
    padded = np.pad(x, ((0, 0), (20, 20), (20, 20), (0, 0)), mode="edge")
    expected = np.asarray(blur(padded, (1.6, 1.6)))[:, 20:-20, 20:-20]
    np.testing.assert_allclose(blur(x, (1.6, 1.6)), expected, atol=1e-6)
    np.testing.assert_allclose(blur(np.full((1, 3, 2, 1), 0.7), (2.0, 2.0)), 0.7, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_zero_leaves_an_axis_unchanged(rng, axis):
    x = rng.random((1, 8, 8, 1), np.float32)
    sigma = (0.0, 1.0) if axis == 0 else (1.0, 0.0)
    assert np.isfinite(blur(x, sigma)).all()
    np.testing.assert_array_equal(blur(x, (0.0, 0.0)), x)
    constant = np.broadcast_to(x[:, :, :1] if axis == 0 else x[:, :1], x.shape)
    np.testing.assert_allclose(blur(constant, sigma), constant, atol=1e-6)


def test_matches_torch_convolution(rng):
    torch = pytest.importorskip("torch")
    x = rng.random((1, 12, 15, 2)).astype(np.float32)
    taps = np.exp(-0.5 * (np.arange(-4, 5) / 1.0) ** 2)
    taps /= taps.sum()
    kernel = torch.tensor(np.outer(taps, taps)[None, None].repeat(2, 0), dtype=torch.float32)
    padded = torch.nn.functional.pad(torch.tensor(x).permute(0, 3, 1, 2), (4, 4, 4, 4), mode="replicate")
    expected = torch.nn.functional.conv2d(padded, kernel, groups=2).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(blur(x, (1.0, 1.0)), expected, atol=1e-6)
