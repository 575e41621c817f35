"""The library: LDIP with its weights, matched references, and an upscaler that is reused."""

import doctest
import importlib
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ldip_jax
from ldip_jax import InputError, Upscaler, load_pretrained, match_references
from ldip_jax.cache import cache_dir
from ldip_jax.inference import api
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.grid import whole_grid
from tests.networks import HR, LR
from tests.published import published_params

OPTIONS = {"matcher": "flow", "ref_threshold": 0.0}


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(1).uniform(size=(4, *LR, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def stills():
    rng = np.random.default_rng(2)
    return [rng.uniform(size=(*HR, 3)), rng.integers(0, 256, (38, 46, 3), dtype=np.uint8)]


def test_the_model_with_matched_references_equals_the_upscaler(networks, frames, stills):
    model, params = load_pretrained(networks.backbone, networks.trained)
    keys = match_references(model, params, frames, stills, [0, 3], **OPTIONS)
    assert keys.references.warp.shape == (1, 2, 2, *HR, 2)
    whole = quick_jit(model.apply)({"params": params}, jnp.asarray(frames)[None], keys)[0]
    upscaler = Upscaler(networks.backbone, networks.trained, key_stride=3, cuts="none", **OPTIONS)
    upscaled = upscaler(frames, stills)
    assert [choice.used for choice in upscaler.choices[3]] == [True, True]
    changed = np.abs(upscaled - Upscaler(networks.backbone, "none")(frames)).max()
    assert changed > 0.01
    # Inference stores residuals of HRIP as bfloat16.
    np.testing.assert_allclose(upscaled, np.clip(whole, 0, 1), atol=0.01 * changed)


def test_stages_are_available_as_methods(networks, frames):
    model, params = load_pretrained(networks.backbone, "none")
    assert sorted(params) == ["backbone"]
    variables = {"params": params}
    apply = jax.jit(model.apply, static_argnames="method")
    features = apply(variables, jnp.asarray(frames)[None], method="features")
    images = apply(variables, features, jnp.asarray(frames)[None], method="images")
    assert images.shape == (1, 4, *HR, 3)
    np.testing.assert_allclose(images[0], Upscaler(networks.backbone, "none")(frames), atol=1e-5)


def test_key_frames_without_a_match_get_empty_slots(networks, frames, stills):
    model, params = load_pretrained(networks.backbone, networks.trained)
    keys = match_references(model, params, frames, stills[:1], [1, 2], matcher="flow", ref_threshold=1.0)
    assert keys.references.valid.shape == (1, 2, 1)
    assert not np.any(keys.references.valid)
    hr = jnp.asarray(np.random.default_rng(3).uniform(size=(1, 4, *HR, 64)), jnp.float32)
    refined = quick_jit(partial(model.apply, method="refine"))({"params": params}, hr, keys)
    np.testing.assert_array_equal(refined, hr)


def test_any_scale(networks, frames, stills):
    model, params = load_pretrained(networks.wide, networks.head, scale=2.5)
    grid = whole_grid(LR, (20, 25))
    images = quick_jit(model.apply)({"params": params}, jnp.asarray(frames)[None], None, grid)
    assert images.shape == (1, 4, 20, 25, 3)
    with pytest.raises(InputError, match=r"x4 only; scale 2\.5 needs"):
        load_pretrained(networks.backbone, networks.trained, scale=2.5)
    with pytest.raises(InputError, match="no arbitrary-scale weights are shipped"):
        load_pretrained(networks.backbone, scale=3.0)


def test_an_upscaler_loads_once(networks, frames, stills, monkeypatch):
    loaded = []
    load = api.load_model
    monkeypatch.setattr(api, "load_model", lambda *args, **kwargs: loaded.append(1) or load(*args, **kwargs))
    upscaler = Upscaler(networks.backbone, networks.trained, **OPTIONS)
    first = upscaler(frames, stills)
    np.testing.assert_array_equal(upscaler(frames, stills), first)
    assert len(loaded) == 1
    # Nor does it load again for frames of another size. LRRF would be compiled for that size.
    upscaler = Upscaler(networks.backbone, "none")
    for height in (8, 6):
        assert upscaler(frames[:, :height], stills).shape == (4, 4 * height, 40, 3)
    assert len(loaded) == 2


def test_arguments_are_checked_before_weights_are_loaded(monkeypatch):
    monkeypatch.setattr(api, "load_model", None)
    for options in ({"key_stride": 0}, {"exclude": -1}, {"ref_threshold": 1.5}, {"matcher": "sift"}):
        with pytest.raises(InputError):
            Upscaler(**options)


def test_match_references_refuses_invalid_key_frames(networks, frames, stills):
    model, params = load_pretrained(networks.backbone, networks.trained)
    for keys in ([], [4], [-1], [True]):
        with pytest.raises(InputError, match="key_frames"):
            match_references(model, params, frames, stills, keys, **OPTIONS)


def test_every_name_is_exported_without_importing_jax():
    for name in ldip_jax.__all__:
        assert getattr(ldip_jax, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ldip_jax.nothing
    quiet = "import sys, ldip_jax; dir(ldip_jax); sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", quiet], check=False).returncode == 0


@pytest.fixture(scope="module")
def weights_cache():
    """The user's own cache, which holds the weights that the examples name."""
    for name in ("basicvsr-reds4", "gmflow"):
        published_params(name)
    return cache_dir()


@pytest.fixture
def quick_compilation():
    """The examples run whole networks only once, on tiny frames: nearly all of their time is compiling."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize("module", ["inference.api", "inference.library"])
def test_docstring_examples(module, weights_cache, quick_compilation, monkeypatch):
    monkeypatch.setenv("LDIP_CACHE", str(weights_cache))
    failed, tried = doctest.testmod(importlib.import_module(f"ldip_jax.{module}"))
    assert failed == 0
    assert tried > 0
