"""IART under LDIP: streaming equals the scanned program, and an untrained LRRF changes nothing."""

import jax
import numpy as np
import pytest

from ldip_jax.inference.engine import backbone_frames, refined_frames
from ldip_jax.inference.model import BAND_PIXELS
from ldip_jax.inference.programs import Programs
from ldip_jax.inference.streaming import WindowFeatures
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.lrrf import LRRF
from ldip_jax.models.networks.iart import IART
from ldip_jax.models.trainable import quick_jit
from ldip_jax.weights.iart import IART_NETWORK
from ldip_jax.weights.rules import convert
from tests.models.random_models import random_references, untrained_lrrf
from tests.networks import HR, LR
from tests.weights import narrow

COUNT = 4


@pytest.fixture(scope="module")
def programs():
    """With an untrained LRRF, as `ldip upscale` would put it together."""
    params, _ = convert(narrow.iart_arrays(), IART_NETWORK.rules, IART_NETWORK.skeleton(narrow.IART), "test")
    net = LDIP(IART(**narrow.IART, band_pixels=400), LRRF(feature_scale=0.5, band_pixels=BAND_PIXELS))
    return Programs(net, {"backbone": params, "lrrf": untrained_lrrf()})


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(3).uniform(0, 1, (COUNT, *LR, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def window(programs, frames):
    return WindowFeatures(programs, list(frames), lambda _: None)


@pytest.fixture(scope="module")
def backbone_only(programs, window):
    return np.concatenate(list(backbone_frames(window, range(COUNT), lambda _: None)))


def test_frame_by_frame_equals_the_whole_program(programs, frames, backbone_only):
    params = {"params": programs._params["backbone"]}
    whole = quick_jit(programs.net.backbone.apply)(params, frames[None])[0]
    assert np.std(whole) > 0.1
    np.testing.assert_allclose(backbone_only, whole, atol=1e-5)


def test_untrained_lrrf_equals_the_backbone_bit_for_bit(programs, window, backbone_only, rng):
    stack = random_references(rng, (1, 2), HR)
    references = [jax.tree.map(lambda x, n=n: x[:, n], stack) for n in range(2)]
    whole = range(COUNT)
    images = refined_frames(programs, window, whole, whole, lambda _: references, (0, 3), lambda _: None)
    np.testing.assert_array_equal(np.concatenate(list(images)), backbone_only)
