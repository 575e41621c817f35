"""The convolution's own gradients against XLA's, and its values against the bare operation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops import conv
from ldip_jax.ops.conv import POINTS, WIDE, conv2d, toom_cook

CASES = [
    # kernel, stride, channels in, channels out, batch, height, width
    (1, 1, 12, 5, 2, 6, 7),
    (3, 1, 5, 12, 2, 6, 7),
    (3, 1, 12, 5, 1, 6, 7),
    (3, 1, 40, 40, 2, 5, 6),
    (3, 1, 32, 33, 1, 4, 9),
    (3, 1, 33, 32, 1, 1, 1),
    (3, 1, 4, 4, 1, 1, 2),
    (5, 1, 3, 6, 1, 6, 4),
    (7, 1, 6, 2, 2, 5, 9),
    (7, 1, 16, 20, 2, 5, 9),
    (7, 1, 17, 16, 1, 2, 1),
    (3, 1, 40, 3, 2, 5, 17),
    (3, 2, 6, 4, 2, 6, 7),
]


@pytest.fixture(autouse=True)
def small_maps(monkeypatch):
    monkeypatch.setattr(conv, "LEAST_PIXELS", 0)
    monkeypatch.setattr(conv, "LARGE", {3: 0, 7: 0})
    # What was traced with other sizes would be used again.
    conv2d.clear_cache()
    yield
    conv2d.clear_cache()


def bare(x, kernel, stride):
    pad = (kernel.shape[0] // 2,) * 2
    return jax.lax.conv_general_dilated(
        x, kernel.astype(x.dtype), (stride,) * 2, (pad, pad), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def arrays(rng, case):
    k, stride, c, o, b, h, w = case
    x, kernel = rng.standard_normal((b, h, w, c)), rng.standard_normal((k, k, c, o)) / (k * np.sqrt(c))
    shape = jax.eval_shape(lambda x, kernel: bare(x, kernel, stride), x, kernel).shape
    return tuple(a.astype(np.float32) for a in (x, kernel, rng.standard_normal(shape)))


def close(a, b, to):
    np.testing.assert_allclose(a, b, atol=to * np.abs(b).max(), rtol=0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "k{}s{}-{}to{}".format(*case[:4]))
def test_gradients_equal_those_of_xla(rng, case):
    x, kernel, g = arrays(rng, case)

    def both(x, kernel, g):
        value, pull = jax.vjp(lambda x, kernel: conv2d(x, kernel, case[1], winograd=True), x, kernel)
        expected, pull_bare = jax.vjp(lambda x, kernel: bare(x, kernel, case[1]), x, kernel)
        return (value, *pull(g)), (expected, *pull_bare(g))

    (value, *ours), (expected, *theirs) = quick_jit(both)(x, kernel, g)
    side, stride, *channels = case[:4]
    wide = stride == 1 and side in WIDE and min(channels) >= WIDE[side]
    close(value, expected, to=2e-5 if wide else 1e-6)
    for a, b in zip(ours, theirs, strict=True):
        close(a, b, to=2e-6)


@pytest.mark.parametrize("taps", POINTS)
def test_products_give_the_outputs_of_a_filter(rng, taps):
    from_input, from_taps, to_output = toom_cook(taps)
    inputs, row = rng.standard_normal(from_input.shape[1]), rng.standard_normal(taps)
    outputs = to_output @ ((from_taps @ row) * (from_input @ inputs))
    np.testing.assert_allclose(outputs, np.correlate(inputs, row), rtol=0, atol=1e-12)


def test_winograd_is_optional(rng):
    x, kernel, _ = arrays(rng, (3, 1, 32, 32, 1, 4, 8))
    expected = quick_jit(lambda x, kernel: bare(x, kernel, 1))(x, kernel)
    np.testing.assert_array_equal(quick_jit(conv2d)(x, kernel), expected)
    assert np.any(quick_jit(partial(conv2d, winograd=True))(x, kernel) != expected)


@pytest.mark.parametrize("case", [CASES[1], CASES[2]], ids=["widening", "narrowing"])
def test_bfloat16_sums_in_float32(rng, case):
    x, kernel, g = arrays(rng, (*case[:4], 1, 64, 96))
    x, g = x.astype(jnp.bfloat16), g.astype(jnp.bfloat16)

    def pull(x, kernel, g):
        return jax.vjp(lambda x, kernel: conv2d(x, kernel), x, kernel)[1](g)

    dx, dw = quick_jit(pull)(x, kernel, g)
    assert dx.dtype == jnp.bfloat16
    assert dw.dtype == jnp.float32
    exact = quick_jit(pull)(x.astype(np.float32), kernel, g.astype(np.float32))
    # 6144 products in a sum: bfloat16 would have lost the small ones.
    close(dw, exact[1], to=1e-5)
    np.testing.assert_allclose(np.float32(dx), exact[0], atol=0.05)


def test_gradients_under_scan_remat_and_vmap(rng):
    x, kernel, g = arrays(rng, CASES[1])

    def loss(conv, x, kernel):
        def step(carry, row):
            return carry + jnp.sum(jnp.tanh(conv(row, kernel, 1)) * g), None

        return jax.lax.scan(jax.checkpoint(step), 0.0, jnp.stack([x, 2.0 * x]))[0]

    def gradients(conv, xs, kernel):
        return jax.vmap(jax.grad(partial(loss, conv), argnums=(0, 1)), (0, None))(xs, kernel)

    both = quick_jit(lambda *args: [gradients(conv, *args) for conv in (conv2d, bare)])
    ours, theirs = both(np.stack([x, x[::-1]]), kernel)
    for a, b in zip(ours, theirs, strict=True):
        close(a, b, to=1e-5)


def test_other_platforms_use_only_convolutions(rng):
    x, kernel, g = arrays(rng, (3, 1, 32, 32, 1, 4, 8))
    traced = jax.jit(lambda x, kernel, g: jax.vjp(conv2d, x, kernel)[1](g)).trace(x, kernel, g)
    forward = jax.jit(partial(conv2d, winograd=True)).trace(x, kernel)
    for program, convolutions in ((forward, 1), (traced, 2)):
        cpu, cuda = (program.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda"))
        assert "dot_general" in cpu
        assert "dot_general" not in cuda
        assert cuda.count("stablehlo.convolution") == convolutions
