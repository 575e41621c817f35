"""Places in key-frames that are found in bands of rows equal those of whole frames."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.models import carry
from ldip_jax.models.carry import Route
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.networks.basicvsr import BasicVSR
from ldip_jax.models.networks.spynet import SPyNet
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.resize import resize_bilinear
from ldip_jax.ops.warp import bilinear, pixel_grid
from tests.models.random_models import NARROW
from tests.networks import random_backbone
from tests.scenes import blocks

# High enough for several bands, whose halos are 35 rows.
LR = (90, 16)


@pytest.fixture(scope="module")
def spynet():
    return random_backbone(1).params["spynet"]


def example(rng, size):
    """Two frames of a scene that moves, their images in float16, and a route that is a little wrong."""
    scene = blocks(3, size[0], size[1] + 8)[None]
    images = scene[:, :, : size[1]], scene[:, :, 5 : 5 + size[1]]
    frames = [np.asarray(quick_jit(partial(resize_bilinear, size=LR))(image)) for image in images]
    flow = [-5.0 * LR[1] / size[1], 0.0] + 0.1 * rng.standard_normal((1, *LR, 2))
    confidence = rng.uniform(0.5, 1.0, (1, *LR, 1))
    route = Route(flow.astype(np.float32), confidence.astype(np.float32))
    here, there = (image.astype(np.float16) for image in images)
    return frames[0], here, frames[1], there, route


@pytest.mark.parametrize("size", [(360, 64), (351, 50)])
def test_bands_give_the_places_of_whole_frames(rng, monkeypatch, size):
    """With a flow that depends on everything that the network is shown; its own bands are tested below."""
    inputs = example(rng, size)
    net, params = LDIP(BasicVSR(**NARROW)), {"params": {}}
    monkeypatch.setattr(SPyNet, "__call__", lambda self, ref, supp: 4.0 * (ref - supp)[..., :2])
    counts = []
    real = carry.fill_rows

    def counting(band, *args):
        return real(lambda rows: counts.append(len(rows)) or band(rows), *args)

    monkeypatch.setattr(carry, "fill_rows", counting)

    def located(pixels):
        monkeypatch.setattr(carry, "BAND_PIXELS", pixels)
        counts.clear()
        found = quick_jit(lambda *inputs: net.apply(params, *inputs, method=LDIP.locate))(*inputs)
        return map(np.asarray, found), max(counts)

    (whole_warp, whole_confidence), rows = located(2**18)
    assert rows == size[0]
    (warp, confidence), rows = located(2**11)
    assert rows < size[0] / 2
    np.testing.assert_allclose(warp, whole_warp, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(confidence, whole_confidence, atol=1e-5)
    # The example has places that move, and both trusted and untrusted ones.
    assert np.abs(whole_warp - np.asarray(pixel_grid(*size))).max() > 4.0
    assert 0.05 < np.mean(whole_confidence > 0.3) < 0.95


def test_an_image_in_float16_is_sampled_in_float32(rng):
    image = jnp.asarray(rng.random((1, 9, 11, 3)), jnp.float16)
    places = jnp.asarray(rng.uniform(-1.0, 12.0, (1, 6, 7, 2)), jnp.float32)
    # Not as programs, which would round differently.
    found = carry.sample_image(image, places)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, bilinear(image.astype(jnp.float32), places, "border"))


def test_flow_does_not_depend_on_bands(spynet):
    scene = blocks(2, 176, 56)[None]
    pair = scene[:, 3:173, 4:52], scene[:, 1:171, 2:50]
    whole, banded = (np.asarray(quick_jit(SPyNet(n).apply)({"params": spynet}, *pair)) for n in (None, 512))
    assert np.abs(whole).max() > 0.1
    np.testing.assert_allclose(banded, whole, atol=1e-5)
