"""Ref-Fusion's initialisation as a transfer of detail."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.models.lrrf import LRRF
from ldip_jax.models.ref_align import Reference
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.conv import conv2d
from ldip_jax.training.features import (
    EXTRACTOR_SCALE,
    DetailMaps,
    MeasuredClip,
    extract_detail,
    fit_detail_maps,
)
from ldip_jax.training.fusion_start import transfer_start
from ldip_jax.training.setup import Run
from ldip_jax.weights.load import Weights
from tests.models.random_models import narrow_ldip

SIDE, SCALE = 40, 0.5
NO_WEIGHTS = Weights("none", "basicvsr", {}, {}, "", "", [])
# The places of all pixels.
GRID = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1)[None].astype(np.float32)
# Features that hold detail in their first channels and are read from there.
READ = np.zeros((3, 3, 64, 3), np.float32)
READ[1, 1, range(3), range(3)] = 1.0
MAPS = DetailMaps(READ, np.zeros(3, np.float32), READ.transpose(0, 1, 3, 2))


# In one program; the images of these tests have one size.
detail = quick_jit(extract_detail)


def started(attention="ica"):
    net, params = narrow_ldip()
    start = params["lrrf"]
    if attention == "cross":
        # It has the same layers except for the MLPs; drawing them again would only take time.
        layers = {
            name: {key: leaf for key, leaf in layer.items() if not key.startswith("mlp_")}
            for name, layer in start["ref_fusion"].items()
        }
        start = {**start, "ref_fusion": layers}
    return net.lrrf.clone(attention=attention, gate="max_confidence"), transfer_start(start, MAPS)


@cache
def fusing(attention="ica"):
    """Ref-Fusion with this initialisation: a function of key-frames' features and references."""
    lrrf, params = started(attention)
    return partial(quick_jit(partial(lrrf.apply, method=LRRF.refine)), {"params": params})


@pytest.fixture(scope="module", params=["ica", "cross"])
def fusion(request):
    return fusing(request.param)


@pytest.fixture
def texture(rng):
    return (0.5 + 0.15 * rng.standard_normal((1, SIDE, SIDE, 3))).astype(np.float32)


def reference(image, confidence=1.0, warp=None):
    """The image as the first of two references, the second empty; by default warped by the identity."""
    warp = GRID if warp is None else warp
    twice = lambda x: np.stack([x, np.zeros_like(x)], axis=1)  # noqa: E731
    confidences = np.full((1, SIDE, SIDE, 1), confidence, np.float32)
    size = np.array([[image.shape[1:3], (1, 1)]], np.int32)
    return Reference(twice(image), size, twice(warp), twice(confidences), np.array([[1.0, 0.0]], np.float32))


def features(channels):
    """HR features of an image with this detail."""
    return np.float32(SCALE) * np.pad(channels, ((0, 0), (0, 0), (0, 0), (0, 61)))


def transferred(fusion, channels, references):
    hr = features(channels)
    moved = (np.asarray(fusion(hr, references)) - hr)[:, 8:-8, 8:-8]
    assert not moved[..., 3:].any()
    return moved[..., :3] / SCALE


def test_detail_of_a_confident_reference_is_transferred_where_the_key_frame_has_none(fusion, texture):
    expected = np.asarray(detail(texture))[:, 8:-8, 8:-8]
    found = transferred(fusion, np.zeros_like(texture), reference(texture))
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97
    assert 0.6 < (found * expected).sum() / (expected**2).sum() < 1.2


def test_detail_that_the_key_frame_already_has_is_not_added_again(fusion, texture):
    present = np.asarray(detail(texture))
    found = transferred(fusion, present, reference(texture))
    assert np.abs(found).mean() < 0.1 * np.abs(present).mean()


def test_low_confidence_reduces_the_transfer_and_no_confidence_prevents_it(fusion, texture):
    blank = np.zeros_like(texture)
    confident, doubtful, none = (
        np.abs(transferred(fusion, blank, reference(texture, c))).mean() for c in (1, 0.6, 0)
    )
    assert doubtful < 0.4 * confident
    assert none == 0.0


def test_a_coarse_reference_transfers_little(texture):
    """Its detail has another size, which shows in sampling offsets that change from pixel to pixel."""
    fusion, blank = fusing(), np.zeros_like(texture)
    quarter = texture[:, :10, :10]
    coarse = transferred(
        fusion, blank, reference(quarter, warp=(GRID + np.float32(0.5)) / 4 - np.float32(0.5))
    )
    fine = transferred(fusion, blank, reference(texture))
    assert np.abs(coarse).mean() < 0.5 * np.abs(fine).mean()


def test_every_layer_can_still_learn():
    """No layer is cut off: after a first step, everything but key biases has a gradient."""
    lrrf, params = started()
    lrrf = lrrf.clone(keep_features=True)
    rng = np.random.default_rng(0)
    hr = (SCALE * rng.standard_normal((1, SIDE, SIDE, 64))).astype(np.float32)
    refs = reference(rng.uniform(size=(1, SIDE, SIDE, 3)).astype(np.float32), 0.9)
    refs = refs._replace(image=refs.image[:, [0, 0]], size=refs.size[:, [0, 0]], warp=refs.warp[:, [0, 0]],
                         valid=np.ones((1, 2), np.float32))  # fmt: skip
    target = rng.standard_normal(hr.shape).astype(np.float32)

    def loss(params, hr, refs):
        return jnp.mean(jnp.abs(lrrf.apply({"params": params}, hr, refs, method=LRRF.refine) - target))

    gradient = quick_jit(jax.grad(loss))(jax.tree.map(lambda p: p + np.float32(1e-3), params), hr, refs)
    flat = jax.tree_util.tree_flatten_with_path({k: gradient[k] for k in ("ref_align", "ref_fusion")})[0]
    still = [jax.tree_util.keystr(path) for path, leaf in flat if not np.any(leaf)]
    assert all(name.endswith("['k']['bias']") for name in still), still


def test_a_trained_ref_fusion_is_refused():
    _, params = started()
    with pytest.raises(InputError, match="trained already"):
        transfer_start(params, MAPS)


def test_the_maps_fit_the_frozen_decoder(rng, monkeypatch):
    """`read` gives the detail of the decoded image; what `write` adds appears in the decoder's output."""
    # Fewer steps and crops are enough to fit a narrow decoder.
    monkeypatch.setattr("ldip_jax.training.features.STEPS", 60)
    monkeypatch.setattr("ldip_jax.training.features.CROPS", 4)
    net, params = narrow_ldip()
    run = Run(net, NO_WEIGHTS, {"backbone": params["backbone"]}, {"lrrf": params["lrrf"]}, {})
    clips = [
        MeasuredClip(
            rng.standard_normal((3, 24, 24, 8)).astype(np.float32),
            np.full((3, 24, 24, 3), 128, np.uint8),
            rng.integers(96, 160, (3, 96, 96, 3), dtype=np.uint8),
        )
        for _ in range(2)
    ]
    maps = fit_detail_maps(run, clips)
    requested = (EXTRACTOR_SCALE * 0.02 * rng.standard_normal((1, 96, 96, 3))).astype(np.float32)

    @quick_jit
    def used(params, features, lr, requested):
        upscale, decode = (
            partial(net.apply, {"params": params}, method=m) for m in (net.upscale, net.decode)
        )
        hr = upscale(features)
        image = decode(hr, lr)
        read = conv2d(hr / net.lrrf.feature_scale, jnp.asarray(maps.read))
        written = net.lrrf.feature_scale * conv2d(requested, jnp.asarray(maps.write))
        changed = EXTRACTOR_SCALE * (decode(hr + written, lr) - image)
        inner = (slice(None), slice(8, -8), slice(8, -8))
        return tuple(x[inner].ravel() for x in (read, extract_detail(image), changed, requested))

    lr = clips[0].lr[:1].astype(np.float32) / np.float32(255)
    read, expected, changed, requested = used(params, clips[0].features[:1], lr, requested)
    assert np.corrcoef(read, expected)[0, 1] > 0.7
    assert np.corrcoef(changed, requested)[0, 1] > 0.5


def test_clips_that_are_too_small_are_named():
    net, params = narrow_ldip()
    run = Run(net, NO_WEIGHTS, {"backbone": params["backbone"]}, {"lrrf": params["lrrf"]}, {})
    small = MeasuredClip(
        np.zeros((3, 16, 32, 8), np.float32),
        np.zeros((3, 16, 32, 3), np.uint8),
        np.zeros((3, 64, 128, 3), np.uint8),
    )
    with pytest.raises(InputError, match="128x64, LR 32x16, are too small"):
        fit_detail_maps(run, [small])
