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
from ldip_jax.ops.warp import pixel_grid
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
# Features that hold detail in their first channels and are read from there.
READ = np.zeros((3, 3, 64, 3), np.float32)
READ[1, 1, range(3), range(3)] = 1.0
MAPS = DetailMaps(READ, np.zeros(3, np.float32), READ.transpose(0, 1, 3, 2))


def started(attention="ica"):
    net, params = narrow_ldip(attention=attention, gate="max_confidence")
    return net.lrrf, transfer_start(params["lrrf"], MAPS)


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
    return jnp.asarray(0.5 + 0.15 * rng.standard_normal((1, SIDE, SIDE, 3)), jnp.float32)


def reference(image, confidence=1.0, warp=None):
    """The image as the first of two references, the second empty; by default warped by the identity."""
    warp = pixel_grid(SIDE, SIDE)[None] if warp is None else warp
    twice = lambda x: jnp.stack([x, jnp.zeros_like(x)], axis=1)  # noqa: E731
    confidences = jnp.full((1, SIDE, SIDE, 1), confidence, jnp.float32)
    size = jnp.array([[image.shape[1:3], (1, 1)]], jnp.int32)
    return Reference(twice(image), size, twice(warp), twice(confidences), jnp.array([[1.0, 0.0]]))


def features(channels):
    """HR features of an image with this detail."""
    return SCALE * jnp.pad(channels, ((0, 0), (0, 0), (0, 0), (0, 61)))


def transferred(fusion, channels, references):
    hr = features(channels)
    moved = np.asarray(fusion(hr, references) - hr)[:, 8:-8, 8:-8]
    assert not moved[..., 3:].any()
    return moved[..., :3] / SCALE


def test_detail_of_a_confident_reference_is_transferred_where_the_key_frame_has_none(fusion, texture):
    expected = np.asarray(extract_detail(texture))[:, 8:-8, 8:-8]
    found = transferred(fusion, jnp.zeros_like(texture), reference(texture))
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97
    assert 0.6 < (found * expected).sum() / (expected**2).sum() < 1.2


def test_detail_that_the_key_frame_already_has_is_not_added_again(fusion, texture):
    found = transferred(fusion, extract_detail(texture), reference(texture))
    assert np.abs(found).mean() < 0.1 * np.abs(extract_detail(texture)).mean()


def test_low_confidence_reduces_the_transfer_and_no_confidence_prevents_it(fusion, texture):
    blank = jnp.zeros_like(texture)
    confident, doubtful, none = (
        np.abs(transferred(fusion, blank, reference(texture, c))).mean() for c in (1, 0.6, 0)
    )
    assert doubtful < 0.4 * confident
    assert none == 0.0


def test_a_coarse_reference_transfers_little(texture):
    """Its detail has another size, which shows in sampling offsets that change from pixel to pixel."""
    fusion, blank = fusing(), jnp.zeros_like(texture)
    quarter = texture[:, :10, :10]
    coarse = transferred(
        fusion, blank, reference(quarter, warp=(pixel_grid(SIDE, SIDE)[None] + 0.5) / 4 - 0.5)
    )
    fine = transferred(fusion, blank, reference(texture))
    assert np.abs(coarse).mean() < 0.5 * np.abs(fine).mean()


def test_every_layer_can_still_learn():
    """No layer is cut off: after a first step, everything but key biases has a gradient."""
    lrrf, params = started()
    rng = np.random.default_rng(0)
    hr = jnp.asarray(SCALE * rng.standard_normal((1, SIDE, SIDE, 64)), jnp.float32)
    refs = reference(jnp.asarray(rng.uniform(size=(1, SIDE, SIDE, 3)), jnp.float32), 0.9)
    refs = refs._replace(image=refs.image[:, [0, 0]], size=refs.size[:, [0, 0]], warp=refs.warp[:, [0, 0]],
                         confidence=refs.confidence * jnp.array([1.0, 1.0])[None, :, None, None, None],
                         valid=jnp.ones((1, 2)))  # fmt: skip
    target = jnp.asarray(rng.standard_normal(hr.shape), jnp.float32)

    def loss(params):
        return jnp.mean(jnp.abs(lrrf.apply({"params": params}, hr, refs, method=LRRF.refine) - target))

    gradient = quick_jit(jax.grad(loss))(jax.tree.map(lambda p: p + 1e-3, params))
    flat = jax.tree_util.tree_flatten_with_path({k: gradient[k] for k in ("ref_align", "ref_fusion")})[0]
    still = [jax.tree_util.keystr(path) for path, leaf in flat if not np.any(leaf)]
    assert all(name.endswith("['k']['bias']") for name in still), still


def test_a_trained_ref_fusion_is_refused():
    _, params = started()
    with pytest.raises(InputError, match="trained already"):
        transfer_start(params, MAPS)


def test_the_maps_fit_the_frozen_decoder(rng, monkeypatch):
    """`read` gives the detail of the decoded image; what `write` adds appears in the decoder's output."""
    # Fewer steps are enough to fit a narrow decoder.
    monkeypatch.setattr("ldip_jax.training.features.STEPS", 60)
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
    lr = jnp.asarray(clips[0].lr[:1], jnp.float32) / 255.0
    upscale, decode = (quick_jit(partial(net.apply, method=method)) for method in (net.upscale, net.decode))
    hr = upscale({"params": params}, jnp.asarray(clips[0].features[:1]))
    image = decode({"params": params}, hr, lr)
    inner = (slice(None), slice(8, -8), slice(8, -8))
    read = conv2d(hr / net.lrrf.feature_scale, jnp.asarray(maps.read))
    expected = np.asarray(extract_detail(image))[inner]
    assert np.corrcoef(np.asarray(read)[inner].ravel(), expected.ravel())[0, 1] > 0.7
    requested = EXTRACTOR_SCALE * 0.02 * jnp.asarray(rng.standard_normal((1, 96, 96, 3)), jnp.float32)
    written = net.lrrf.feature_scale * conv2d(requested, jnp.asarray(maps.write))
    changed = EXTRACTOR_SCALE * np.asarray(decode({"params": params}, hr + written, lr) - image)
    assert np.corrcoef(changed[inner].ravel(), np.asarray(requested)[inner].ravel())[0, 1] > 0.5


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
