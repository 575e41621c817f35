"""What LDIP does with detail beyond the key-frames, with an LRRF of two parameters."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.models.carry import PROPAGATIONS, Routes
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.lrrf import LRRF
from ldip_jax.models.networks.backbone import Flows
from ldip_jax.models.networks.basicvsr import BasicVSR
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.warp import pixel_grid
from tests.models.random_models import NARROW, random_keys
from tests.networks import random_backbone

COUNT, LR, HR = 4, (4, 6), (16, 24)


class Dab(LRRF):
    """Adds `amount` at key-frames, and `share` of a neighbour's features to a frame's."""

    def setup(self):
        self.amount = self.param("amount", nn.initializers.ones, (1, 1, 1, 64))
        self.share = self.param("share", nn.initializers.ones, ())

    def refine(self, hr, references):
        return hr + self.amount * references.confidence[:, 0]

    def propagate(self, reverse, current, previous, flow):
        return current + self.share * previous


@pytest.fixture(scope="module")
def params():
    lrrf = {"amount": np.full((1, 1, 1, 64), 0.3, np.float32), "share": np.float32(0.2)}
    return {"backbone": random_backbone(1).params, "lrrf": lrrf}


@pytest.fixture(scope="module")
def scene():
    """LR features, flows, frames, a key-frame at 0 and an empty slot, and routes of no motion."""
    rng = np.random.default_rng(2)
    features, frames = (
        rng.uniform(0, 1, (1, COUNT, *LR, channels)).astype(np.float32) for channels in (8, 3)
    )
    flow = np.zeros((1, COUNT, *LR, 2), np.float32)
    keys = random_keys(rng, [[0, 2]], HR)._replace(valid=np.float32([[1, 0]]))
    warp = np.broadcast_to(pixel_grid(*HR), (1, COUNT, 2, *HR, 2))
    return features, Flows(flow, flow), frames, keys, Routes(warp, np.ones((*warp.shape[:-1], 1), np.float32))


@cache
def program(net):
    """The whole path on a clip, traced and compiled once for all tests that run it."""
    return quick_jit(net.apply)


def run(propagation, params, frames, keys):
    net = LDIP(BasicVSR(**NARROW), Dab(), propagation=propagation)
    return np.asarray(program(net)({"params": params}, frames, keys))


def restore(net, params, routes, scene):
    features, flows, frames, keys, _ = scene
    return net.apply({"params": params}, features, flows, frames, keys, routes=routes, method=LDIP.restore)


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_other_frames_train_what_produces_the_detail_but_no_route(params, scene, propagation):
    net = LDIP(BasicVSR(**NARROW), Dab(), propagation=propagation)

    def score(params, routes, scene):
        return jnp.mean(jnp.square(restore(net, params, routes, scene)[:, 3]))

    of_params, of_routes = quick_jit(jax.grad(score, (0, 1)))(params, scene[4], scene)
    assert np.abs(of_params["lrrf"]["amount"]).min() > 0.0
    # With only carry, nothing goes through HRIP.
    assert bool(of_params["lrrf"]["share"] != 0.0) == (propagation != "carry")
    assert not any(np.any(leaf) for leaf in of_routes)


def test_carry_brings_the_same_detail_to_all_frames(params, scene):
    """Decoding consists of convolutions: the same detail changes four equal frames alike."""
    features, flows, frames, keys, routes = scene
    still = [np.broadcast_to(x[:, :1], x.shape) for x in (features, frames)]
    scene = still[0], flows, still[1], keys, routes
    restored = quick_jit(partial(restore, LDIP(BasicVSR(**NARROW), Dab(), propagation="carry")))

    def carried(params, routes):
        return np.asarray(restored(params, routes, scene))

    output = carried(params, routes)
    none = {**params["lrrf"], "amount": np.zeros_like(params["lrrf"]["amount"])}
    silent = carried({**params, "lrrf": none}, routes)
    np.testing.assert_array_equal(output, np.broadcast_to(output[:, :1], output.shape))
    assert np.abs(output - silent).max(axis=(2, 3, 4)).min() > 1e-3
    # Nothing arrives by a route without confidence.
    confidence = routes.confidence.copy()
    confidence[:, 1] = 0.0
    refuted = carried(params, routes._replace(confidence=confidence))
    np.testing.assert_array_equal(refuted[:, 1], silent[:, 1])
    np.testing.assert_array_equal(refuted[:, 2], output[:, 2])


@pytest.mark.parametrize("propagation", ["carry", "both"])
def test_key_frames_of_a_whole_clip_stay_as_they_were_refined(params, scene, propagation):
    """The network's flow from a frame to itself is not zero here, but has no effect."""
    _, _, frames, keys, _ = scene
    # A clip without motion: detail goes only where frames agree.
    frames = np.broadcast_to(frames[:, :1], frames.shape)
    silenced = {**params, "lrrf": {**params["lrrf"], "share": np.float32(0)}}
    output, expected = (run(name, silenced, frames, keys) for name in (propagation, "hrip"))
    np.testing.assert_allclose(output[:, 0], expected[:, 0], atol=1e-5)
    assert np.abs(output - expected)[:, 1:].max(axis=(2, 3, 4)).min() > 1e-3


def test_without_routes_nothing_is_carried(params, scene):
    net = LDIP(BasicVSR(**NARROW), Dab(), propagation="carry")
    with pytest.raises(ValueError, match="carry needs routes"):
        jax.eval_shape(partial(restore, net), params, None, scene)
