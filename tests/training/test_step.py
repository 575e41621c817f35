"""One step: what learns when, what stays unchanged, and what happens to non-finite values."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, AxisType

from ldip_jax.data.crop_spec import CropSpec
from ldip_jax.models.arbitrary_scale import ArbitraryScale, ArbitraryScaleDecoder, init_decoder
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.ref_align import Reference
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.grid import whole_grid
from ldip_jax.training.config import StepOptions
from ldip_jax.training.sharding import AXES
from ldip_jax.training.state import start_state, trained_params, update_average
from ldip_jax.training.step import feature_distance, restored_images, train_step, validation_step
from tests.models.random_models import shaken
from tests.networks import random_like
from tests.training.batches import noise_batch, training_ldip

SPEC = CropSpec(
    target_frames=2,
    hr_side=32,
    reference_side=24,
    window_jitter=4,
    max_key_frames=1,
    max_references=2,
    min_references=2,
)
STEP = StepOptions(propagate=True, dtype="float32", ema=0.9)


@pytest.fixture(scope="module")
def parts():
    net, params = training_ldip()
    optimizer = optax.adamw(1e-5)
    frozen = {"backbone": params["backbone"]}
    state = start_state({"lrrf": params["lrrf"]}, optimizer, ema=True)
    batch = noise_batch(np.random.default_rng(0), SPEC)
    # The narrow backbone has 8 channels.
    batch = batch._replace(features=batch.features[..., :8])
    step = quick_jit(lambda state, batch: train_step(net, optimizer, STEP, state, frozen, batch))
    return net, frozen, state, batch, step


@cache
def program(net, propagate):
    """Traced and compiled once for all tests that run it on the same shapes."""
    return quick_jit(partial(restored_images, net, propagate=propagate))


def run(net, params, batch, propagate=True):
    # Without LRRF there is nothing to propagate.
    return np.asarray(program(net, propagate and net.lrrf is not None)(params, batch))


def images_and_warps(batch):
    """The references of a batch."""
    images = batch.images.astype(jnp.float32) / 255.0
    return Reference(images, batch.sizes, batch.warps, batch.confidence, batch.valid)


def moved(before, after):
    flat = jax.tree_util.tree_flatten_with_path(
        jax.tree.map(lambda a, b: np.any(np.asarray(a) != np.asarray(b)), before, after)
    )[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): hit for path, hit in flat}


def test_an_untrained_run_starts_with_the_frames_of_the_backbone(parts):
    net, frozen, state, batch, _ = parts
    params = {**frozen, **state.params}
    out, backbone_only = run(net, params, batch), run(net.clone(lrrf=None), params, batch)
    np.testing.assert_array_equal(out, backbone_only)
    metrics, frames = quick_jit(partial(validation_step, net, STEP))(state, frozen, batch)
    assert float(metrics["gain"]) == 0.0
    np.testing.assert_array_equal(frames, out)


def test_bfloat16_is_kept_from_layer_to_layer_and_is_close_to_float32(parts):
    """No layer may return its parameters' type: HRIP's carry would change type, and memory would double."""
    net, frozen, state, batch, _ = parts
    perturbed = {**frozen, "lrrf": shaken(state.params["lrrf"], np.random.default_rng(1))}
    half = jax.eval_shape(
        lambda: net.apply(
            {"params": perturbed},
            jnp.zeros((1, 32, 32, 64), jnp.bfloat16),
            jax.tree.map(lambda x: x[:, 0], images_and_warps(batch)),
            method=lambda net, hr, references: net.lrrf.refine(hr, references),
        )
    )
    assert half.dtype == jnp.bfloat16
    exact = run(net, perturbed, batch)
    near = np.asarray(
        quick_jit(partial(restored_images, net, propagate=True, dtype="bfloat16"))(perturbed, batch)
    )
    backbone_only = run(net.clone(lrrf=None), perturbed, batch)
    assert np.abs(near - exact).mean() < 0.1 * np.abs(exact - backbone_only).mean()
    step = quick_jit(partial(train_step, net, optax.adamw(1e-5), STEP._replace(dtype="bfloat16")))
    after, metrics = step(state, frozen, batch)
    assert not metrics["skipped"]
    assert {leaf.dtype for leaf in jax.tree.leaves(after.params)} == {jnp.dtype("float32")}


def test_silent_layers_get_gradients_first_and_the_others_follow(parts):
    _, _, state, batch, step = parts
    first, metrics = step(state, batch)
    # Weight decay moves kernels too, but the first moment shows what had a gradient.
    had = moved(jax.tree.map(np.zeros_like, state.params), first.opt_state[0].mu)
    assert {name for name, hit in had.items() if hit} == {
        f"lrrf/{layer}/{leaf}"
        for layer in ("ref_fusion/conv_r", "hrip/backward/conv_last", "hrip/forward/conv_last")
        for leaf in ("kernel", "bias")
    }
    second, again = step(first, batch)
    still = {name for name, hit in moved(first.opt_state[0].mu, second.opt_state[0].mu).items() if not hit}
    # A key's bias shifts all scores of a softmax equally.
    assert all(name.endswith("/k/bias") for name in still), still
    assert float(again["loss"]) < float(metrics["loss"])
    assert int(second.step) == 2


def test_the_average_follows_the_parameters(parts):
    _, _, state, batch, step = parts
    after, _ = step(state, batch)
    # With NumPy: JAX would compile a program for each shape.
    before, now = jax.device_get((state.ema, after.params))
    expected = jax.tree.map(lambda a, p: a + np.float32(0.9) * (p - a), before, now)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), after.ema, expected)
    assert trained_params(after) is after.ema
    assert trained_params(after.replace(ema=None)) is after.params
    late = update_average({"w": jnp.zeros(())}, {"w": jnp.ones(())}, jnp.array(10_000), 0.99)
    np.testing.assert_allclose(late["w"], 0.01, rtol=1e-5)


def test_a_step_that_is_not_finite_changes_nothing(parts):
    _, _, state, batch, step = parts
    broken = batch._replace(features=jnp.full_like(batch.features, jnp.nan))
    after, metrics = step(state, broken)
    assert float(metrics["skipped"]) == 1.0
    assert int(after.step) == 1
    for before, now in zip(
        jax.tree.leaves(state.replace(step=0)), jax.tree.leaves(after.replace(step=0)), strict=True
    ):
        np.testing.assert_array_equal(before, now)


def test_empty_slots_have_no_influence(parts):
    net, frozen, state, wide, _ = parts
    params = {**frozen, **shaken(state.params, np.random.default_rng(1))}
    valid = np.asarray(wide.valid) * np.array([1.0, 0.0], np.float32)
    masked = run(net, params, wide._replace(valid=valid))
    names = ("images", "sizes", "warps", "confidence", "valid")
    cut = wide._replace(**{name: getattr(wide, name)[:, :, :1] for name in names})
    np.testing.assert_allclose(masked, run(net, params, cut), atol=1e-4)


def test_without_propagation_only_key_frames_change(parts):
    net, frozen, state, batch, _ = parts
    params = {**frozen, **shaken(state.params, np.random.default_rng(1))}
    out = run(net, params, batch, propagate=False)
    backbone_only = run(net.clone(lrrf=None), params, batch, propagate=False)
    key = int(batch.key_frames[0, 0])
    assert (out[0, key] != backbone_only[0, key]).any()
    np.testing.assert_array_equal(out[0, 1 - key], backbone_only[0, 1 - key])


def test_devices_exchange_gradients_once_and_nothing_else(parts):
    """Otherwise the compiler would copy all maps to every device for each warp, even inside loops."""
    net, frozen, state, batch, _ = parts
    mesh = AbstractMesh((2, 1), AXES, axis_types=(AxisType.Auto,) * 2)
    two = jax.tree.map(lambda x: np.concatenate([x, x]), batch)
    step = partial(train_step, net, optax.adamw(1e-5), STEP, mesh=mesh)
    (shared,) = (e for e in jax.make_jaxpr(step)(state, frozen, two).eqns if e.primitive.name == "shard_map")
    own = shared.params["jaxpr"]
    samples = {var.aval.shape[0] for var in own.invars[-len(jax.tree.leaves(batch)) :]}
    assert samples == {1}
    exchanged = [equation for equation in own.eqns if equation.primitive.name == "psum"]
    assert sum(len(equation.invars) for equation in exchanged) == 1 + len(jax.tree.leaves(state.params))
    assert str(own).count("psum") == len(exchanged)


def test_the_head_can_be_trained_on_features_of_the_backbone(parts):
    net, frozen, _, batch, _ = parts
    net = LDIP(net.backbone, as_head=ArbitraryScale(), as_decoder=ArbitraryScaleDecoder())
    features = batch.features.astype(jnp.float32)
    flat, (h, w) = features[0], features.shape[2:4]
    grid = whole_grid((h, w), (4 * h, 4 * w))
    key = jax.random.key(0)
    shapes = {
        "as_head": jax.eval_shape(lambda: net.as_head.init(key, flat, grid)["params"]),
        "as_decoder": jax.eval_shape(partial(init_decoder, net.as_decoder), key),
    }
    params = random_like(shapes, np.random.default_rng(2))

    @quick_jit
    def both(head, backbone):
        predicted = net.as_head.apply({"params": head}, flat, grid)
        return predicted, net.backbone.apply({"params": backbone}, flat, method="upscale")

    predicted, own = map(np.asarray, both(params["as_head"], frozen["backbone"]))
    apart = quick_jit(lambda params: feature_distance(net, {**frozen, **params}, features))
    before = float(apart(params))
    np.testing.assert_allclose(before, np.abs(predicted - own).mean() / np.std(own), rtol=1e-4)

    optimizer = optax.adam(1e-4)
    options = STEP._replace(feature_loss=2.0, ema=0.0)
    state = start_state(params, optimizer, ema=False)
    image_loss = np.abs(run(net, {**frozen, **params}, batch) - batch.hr / 255.0).mean()
    state, metrics = quick_jit(partial(train_step, net, optimizer, options))(state, frozen, batch)
    np.testing.assert_allclose(metrics["loss"], image_loss + 2.0 * before, rtol=1e-4)
    assert float(apart(state.params)) < before
