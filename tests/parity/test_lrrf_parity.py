"""LRRF against a PyTorch twin with random weights: a clip's output, and the gradient of every parameter.

No layer is silent, the sizes are not multiples of a window, and references have another size.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.models.ldip import LDIP, KeyFrames
from ldip_jax.models.lrrf import LRRF, init_lrrf
from ldip_jax.models.networks.backbone import Flows
from ldip_jax.models.networks.basicvsr import BasicVSR
from ldip_jax.models.ref_align import Reference
from ldip_jax.models.trainable import quick_jit

torch = pytest.importorskip("torch")
from tests.parity import torch_lrrf as twins  # noqa: E402

FRAMES, SIZE, STILL, KEYS, COUNT, SCALE = 3, (20, 28), (36, 26), (0, 2), 2, 0.5


@pytest.fixture(scope="module")
def clip():
    """Features, key-frames and flows, as the Flax network takes them."""
    rng = np.random.default_rng(0)
    stack = (1, len(KEYS), COUNT)
    zoom = np.array([STILL[1] / SIZE[1], STILL[0] / SIZE[0]])
    # Some places lie outside.
    pixels = np.stack(np.meshgrid(np.arange(SIZE[1]), np.arange(SIZE[0])), -1)
    warp = (pixels + 3 * rng.standard_normal((*stack, *SIZE, 2))) * zoom
    references = Reference(
        rng.random((*stack, *STILL, 3)).astype(np.float32),
        np.broadcast_to(np.array(STILL, np.int32), (*stack, 2)),
        warp.astype(np.float32),
        rng.random((*stack, *SIZE, 1)).astype(np.float32),
        np.ones(stack, np.float32),
    )
    lr = (1, FRAMES, SIZE[0] // 4, SIZE[1] // 4, 2)
    flows = Flows(*rng.standard_normal((2, *lr)).astype(np.float32))
    hr = (SCALE * rng.standard_normal((1, FRAMES, *SIZE, 64))).astype(np.float32)
    keys = KeyFrames(np.array([KEYS], np.int32), np.ones((1, len(KEYS)), np.float32), references)
    return hr, keys, flows


@pytest.fixture(scope="module")
def params():
    """Random parameters, none of them zero."""
    rng = np.random.default_rng(1)

    def lively(path, like):
        values = rng.standard_normal(like.shape)
        match path[-1].key:
            case "kernel":
                values *= np.prod(like.shape[:-1]) ** -0.5
            case "scale":
                values = 1.0 + 0.1 * values
            case _:
                values *= 0.1
        return np.asarray(values, np.float32)

    return jax.tree_util.tree_map_with_path(
        lively, jax.eval_shape(partial(init_lrrf, LRRF()), jax.random.key(0))
    )


def test_output_and_every_gradient_equal_torch(clip, params, rng):
    net = LDIP(BasicVSR(), LRRF(feature_scale=SCALE, gate="max_confidence"))
    weights = rng.standard_normal(clip[0].shape).astype(np.float32)

    def ours(params, hr, keys, flows):
        variables = {"params": {"lrrf": params}}
        refined = net.apply(variables, hr, keys, method=LDIP.refine)
        out = net.apply(variables, refined, flows, method=LDIP.propagate)
        return jnp.mean(out * weights), out

    gradients, out = quick_jit(jax.grad(ours, has_aux=True))(params, *clip)
    twin = twins.LRRF(SCALE)
    twins.load(twin, params)
    theirs = twin(*twins.inputs(*clip))
    (theirs * twins.channels_first(weights[0])).mean().backward()
    assert np.abs(out - clip[0]).mean() > 0.1
    np.testing.assert_allclose(twins.channels_first(out[0]), theirs.detach(), rtol=0, atol=2e-4)
    named = dict(twin.named_parameters())
    for name, gradient in twins.in_torch(gradients):
        expected = named.pop(name).grad.numpy()
        # Compared as a whole: a value that rounding moves across a leaky ReLU's kink changes single entries.
        # The keys' bias has no gradient: it cancels out in the softmax.
        difference, whole = np.linalg.norm(gradient - expected), np.linalg.norm(expected)
        assert difference < 2e-3 * whole + 1e-9, f"{name}: {difference:.1e} of {whole:.1e}"
    assert not named
