"""The online softmax is the softmax."""

import jax
import jax.numpy as jnp
import numpy as np

from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.attention import attend_nothing, attend_one, attended_value


def direct(q, ks, vs, valid, heads):
    """All references at once, float64."""
    b, h, w, c = q.shape
    split = lambda x: x.reshape(*x.shape[:-1], heads, c // heads).astype(np.float64)  # noqa: E731
    scores = np.stack([(split(q) * split(k)).sum(-1) for k in ks]) / np.sqrt(c // heads)
    weights = np.exp(scores - scores.max(0)) * np.stack(valid)[:, :, None, None, None]
    total = weights.sum(0)
    out = sum(wt[..., None] * split(v) for wt, v in zip(weights, vs, strict=True))
    return (out / np.where(total > 0, total, 1)[..., None]).reshape(b, h, w, c)


SHAPE = (2, 3, 4, 16)


def attended(q, ks, vs, valid):
    state = attend_nothing(*q.shape[:3], 4, q.shape[-1])
    for k, v, m in zip(ks, vs, valid, strict=True):
        state = attend_one(state, q, k, v, m)
    return attended_value(state)


run = quick_jit(attended)


def test_equals_softmax_with_masks(rng):
    q = rng.standard_normal(SHAPE).astype(np.float32) * 3
    ks, vs = (list(rng.standard_normal((5, *SHAPE)).astype(np.float32) * 3) for _ in range(2))
    valid = [np.array(m, np.float32) for m in ([1, 0], [1, 1], [0, 1], [1, 1], [1, 0])]
    np.testing.assert_allclose(run(q, ks, vs, valid), direct(q, ks, vs, valid, 4), atol=2e-6)


def test_order_does_not_matter_and_large_scores_stay_finite(rng):
    q = 100 * rng.standard_normal(SHAPE).astype(np.float32)
    ks, vs = (list(100 * rng.standard_normal((5, *SHAPE)).astype(np.float32)) for _ in range(2))
    valid = [np.ones(2, np.float32)] * 5
    one, two = run(q, ks, vs, valid), run(q, ks[::-1], vs[::-1], valid)
    assert np.isfinite(one).all()
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-4)


def test_nothing_valid_gives_zero_with_finite_gradients(rng):
    shape = (1, 2, 2, 8)
    q, k, v = rng.standard_normal((3, *shape)).astype(np.float32)
    loss = lambda q, k, v: attended(q, [k, k], [v, v], [jnp.zeros(1)] * 2).sum()  # noqa: E731
    value, grads = quick_jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(q, k, v)
    assert value == 0
    assert all(np.isfinite(g).all() and not np.any(g) for g in grads)
