"""The Swin block against its textbook form: cyclic shift, region mask, whole map at once."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange
from scipy.special import erf

from ldip_jax.models.networks.swin import SwinBlock
from ldip_jax.models.trainable import initialise, quick_jit
from ldip_jax.ops.windows import relative_index
from tests.models.random_models import shaken


def norm(x, p):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * p["scale"] + p["bias"]


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def textbook(x, p, shifted, heads=4, size=8):
    """One image, NumPy float64; padding at the bottom and right, as the paper's references do."""
    h, w, c = x.shape
    H, W = -(-h // size) * size, -(-w // size) * size
    shift = size // 2 if shifted else 0
    labels = np.zeros((H, W))
    if shifted:
        for a, rows in enumerate((slice(0, -size), slice(-size, -shift), slice(-shift, None))):
            for b, columns in enumerate((slice(0, -size), slice(-size, -shift), slice(-shift, None))):
                labels[rows, columns] = 3 * a + b
    real = np.roll(np.pad(np.ones((h, w), bool), ((0, H - h), (0, W - w))), (-shift, -shift), (0, 1))
    y = np.roll(np.pad(x, ((0, H - h), (0, W - w), (0, 0))), (-shift, -shift), (0, 1))
    cut = lambda m: rearrange(m, "(i y) (j x) ... -> (i j) (y x) ...", y=size, x=size)  # noqa: E731
    tokens, labels, real = cut(y), cut(labels), cut(real)
    qkv = dense(norm(tokens, p["norm1"]), p["attn"]["qkv"])
    qkv = rearrange(qkv, "n t (k m d) -> k n m t d", k=3, m=heads)
    bias = p["attn"]["relative_position_bias_table"][relative_index((size, size))].transpose(2, 0, 1)
    scores = np.einsum("nmid,nmjd->nmij", qkv[0], qkv[1]) / np.sqrt(c // heads) + bias
    seen = (labels[:, :, None] == labels[:, None]) & real[:, None]
    # A padded token that sees no other may hold anything.
    scores = np.where(seen[:, None], scores, -1e9)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    out = rearrange(np.einsum("nmij,nmjd->nmid", weights, qkv[2]), "n m t d -> n t (m d)")
    tokens = tokens + dense(out, p["attn"]["proj"])
    hidden = dense(norm(tokens, p["norm2"]), p["fc1"])
    tokens = tokens + dense(0.5 * hidden * (1 + erf(hidden / np.sqrt(2))), p["fc2"])
    y = rearrange(tokens, "(i j) (y x) c -> (i y) (j x) c", i=H // size, y=size, x=size)
    return np.roll(y, (shift, shift), (0, 1))[:h, :w]


@cache
def untrained():
    """Initial parameters; they depend neither on the map's size nor on the shift."""

    def init(key):
        return SwinBlock(16).init(key, jnp.zeros((1, 8, 8, 16)), shifted=False)["params"]

    return initialise(init, jax.random.key(0))


def run(block, params, x, shifted):
    return quick_jit(partial(block.apply, shifted=shifted))({"params": params}, x)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", [(16, 24), (19, 13), (8, 8), (5, 30)])
def test_equals_the_textbook_form(rng, size, shifted):
    x = rng.standard_normal((2, *size, 16)).astype(np.float32)
    params = shaken(untrained(), rng, scale=0.2)
    got = run(SwinBlock(16, heads=4), params, x, shifted)
    p64 = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    expected = np.stack([textbook(image, p64, shifted) for image in x.astype(np.float64)])
    np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize("shifted", [False, True])
def test_bands_change_nothing(rng, shifted):
    x = rng.standard_normal((1, 37, 20, 16)).astype(np.float32)
    whole = run(SwinBlock(16), untrained(), x, shifted)
    bands = run(SwinBlock(16, band_pixels=200), untrained(), x, shifted)
    # How matrix products are rounded depends on their shapes, and on the CPU.
    np.testing.assert_allclose(bands, whole, atol=1e-6 * np.abs(whole).max())
