"""What LRRF guarantees: it has no effect if untrained, and empty slots, canvases and bands have none."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from ldip_jax.models.ldip import LDIP
from ldip_jax.models.lrrf import LRRF, init_lrrf
from ldip_jax.models.networks.backbone import Flows
from ldip_jax.models.networks.basicvsr import BasicVSR
from ldip_jax.models.trainable import quick_jit
from tests.models.random_models import narrow_ldip, random_keys, random_references, shaken, shaken_lrrf

FRAMES, LR, HR = 4, (4, 6), (16, 24)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(7)
    frames = jnp.asarray(rng.uniform(0, 1, (2, FRAMES, *LR, 3)), jnp.float32)
    return frames, random_keys(rng, [[0, 3], [1, 2]], HR)


@cache
def program(net):
    """The whole path, traced and compiled once for all tests that run it on the same shapes."""
    return jax.jit(net.apply)


def run(net, params, frames, keys):
    return program(net)({"params": params}, frames, keys)


def test_parameter_counts(key):
    shapes = jax.eval_shape(lambda key: init_lrrf(LRRF(), key), key)
    assert count(shapes) == 2_098_240
    assert count(shapes["ref_align"]) == 119_808
    assert count(shapes["ref_fusion"]) == 1_204_480
    assert count(shapes["hrip"]["backward"]) == count(shapes["hrip"]["forward"]) == 386_976
    assert count(shapes["ref_fusion"]["ica_0"]) == 66_368
    cross = jax.eval_shape(lambda key: init_lrrf(LRRF(attention="cross"), key), key)
    assert count(cross) == 1_999_296


@pytest.mark.parametrize("gate", ["none", "max_confidence"])
def test_untrained_lrrf_equals_the_backbone_bit_for_bit(scene, gate):
    frames, keys = scene
    net, params = narrow_ldip(gate=gate)
    only_backbone = program(LDIP(net.backbone))({"params": {"backbone": params["backbone"]}}, frames)
    np.testing.assert_array_equal(run(net, params, frames, keys), only_backbone)


def test_conv_r_changes_only_key_frames(scene, rng):
    frames, keys = scene
    net, params = narrow_ldip()
    before = run(net, params, frames, keys)
    params["lrrf"]["ref_fusion"]["conv_r"] = shaken(params["lrrf"]["ref_fusion"]["conv_r"], rng)
    changed = np.abs(run(net, params, frames, keys) - before).max(axis=(2, 3, 4)) > 0
    np.testing.assert_array_equal(changed, [[True, False, False, True], [False, True, True, False]])


def test_hrip_changes_other_frames(scene, rng):
    frames, keys = scene
    net, params = narrow_ldip()
    before = run(net, params, frames, keys)
    for cell in params["lrrf"]["hrip"].values():
        cell["conv_last"] = shaken(cell["conv_last"], rng)
    assert (np.abs(run(net, params, frames, keys) - before).max(axis=(2, 3, 4)) > 0).all()


def test_detail_travels_from_a_key_frame_to_all_frames(scene, rng):
    """With active HRIP, another reference at frame 0 changes even the last frame."""
    frames, keys = scene
    net, params = narrow_ldip()
    params["lrrf"] = shaken(params["lrrf"], rng)
    keys = keys._replace(valid=jnp.array([[1.0, 0.0], [0.0, 0.0]]))
    other = keys._replace(references=keys.references._replace(image=1.0 - keys.references.image))
    difference = np.abs(run(net, params, frames, keys) - run(net, params, frames, other))
    assert (difference[0].max(axis=(1, 2, 3)) > 1e-7).all()
    assert not difference[1].any()


def test_without_a_valid_reference_features_are_unchanged(rng):
    lrrf, params = shaken_lrrf(rng, gate="none")
    hr = jnp.asarray(rng.standard_normal((2, *HR, 64)), jnp.float32)
    references = random_references(rng, (2, 3), HR)
    references = references._replace(valid=jnp.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))

    def refine(params, hr, references=references):
        return lrrf.apply({"params": params}, hr, references, method="refine")

    refined = quick_jit(refine)(params, hr)
    np.testing.assert_array_equal(refined[0], hr[0])
    assert (refined[1] != hr[1]).any()
    gradient = quick_jit(
        jax.grad(lambda p, valid: refine(p, hr, references._replace(valid=valid)).sum()),
    )
    grads = gradient(params, references.valid)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    grads = gradient(params, jnp.zeros((2, 3)))
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(grads))


def test_empty_slots_do_not_count(rng):
    """An invalid reference has no effect, whatever it holds."""
    lrrf, params = shaken_lrrf(rng, gate="max_confidence")
    hr = jnp.asarray(rng.standard_normal((1, *HR, 64)), jnp.float32)
    three = random_references(rng, (1, 3), HR)._replace(valid=jnp.array([[1.0, 0.0, 1.0]]))
    two = jax.tree.map(lambda x: x[:, ::2], three)
    refine = quick_jit(lambda r: lrrf.apply({"params": params}, hr, r, method="refine"))
    np.testing.assert_allclose(refine(three), refine(two), atol=1e-6)


def test_empty_key_frame_slots_write_nowhere(scene, rng):
    """A masked key-frame slot at index 0 must not undo the real key-frame there."""
    frames, keys = scene
    net, params = narrow_ldip()
    params["lrrf"] = shaken(params["lrrf"], rng)
    two = keys._replace(index=jnp.array([[0, 0], [1, 1]]), valid=jnp.array([[1.0, 0.0], [1.0, 0.0]]))
    one = jax.tree.map(lambda x: x[:, :1], two)
    np.testing.assert_allclose(run(net, params, frames, two), run(net, params, frames, one), atol=1e-6)


def test_max_confidence_gate_closes_where_nothing_matches(rng):
    lrrf, params = shaken_lrrf(rng, gate="max_confidence")
    hr = jnp.asarray(rng.standard_normal((1, *HR, 64)), jnp.float32)
    references = random_references(rng, (1, 2), HR)
    confidence = references.confidence.at[..., :6, :].set(0.0)
    refine = quick_jit(lambda r: lrrf.apply({"params": params}, hr, r, method="refine"))
    refined = refine(references._replace(confidence=confidence))
    np.testing.assert_array_equal(refined[..., :6, :], hr[..., :6, :])
    assert (refined[..., 6:, :] != hr[..., 6:, :]).any()


def test_a_larger_canvas_changes_nothing(rng):
    lrrf, params = shaken_lrrf(rng)
    hr = jnp.asarray(rng.standard_normal((1, *HR, 64)), jnp.float32)
    bare = random_references(rng, (1, 2), HR)
    around = jnp.asarray(rng.uniform(0, 1, (1, 2, 41, 33, 3)), jnp.float32)
    canvas = bare._replace(image=around.at[:, :, :24, :20].set(bare.image))
    refine = quick_jit(lambda r: lrrf.apply({"params": params}, hr, r, method="refine"))
    np.testing.assert_allclose(refine(canvas), refine(bare), atol=1e-6)


def test_bands_equal_the_whole_frame(scene, rng):
    frames, keys = scene
    whole, params = narrow_ldip(gate="max_confidence")
    params["lrrf"] = shaken(params["lrrf"], rng)
    bands, _ = narrow_ldip(band_pixels=140, gate="max_confidence")
    np.testing.assert_allclose(run(bands, params, frames, keys), run(whole, params, frames, keys), atol=1e-6)


def test_which_parameters_have_gradients_at_first_and_after_a_step(scene, rng):
    """At first only conv_r and HRIP's last layers; after one step all but the key biases."""
    frames, keys = scene
    net, params = narrow_ldip()
    target = jnp.asarray(rng.uniform(0, 1, (2, FRAMES, *HR, 3)), jnp.float32)

    @quick_jit
    def gradient(lrrf):
        def loss(lrrf):
            out = net.apply({"params": {**params, "lrrf": lrrf}}, frames, keys)
            return jnp.abs(out - target).mean()

        return jax.grad(loss)(lrrf)

    def alive(grads):
        """Above rounding: adding a number to all keys shifts all scores alike, up to rounding in float32."""
        size = {"/".join(path): np.abs(leaf).max() for path, leaf in flatten_dict(grads).items()}
        return {path for path, most in size.items() if most > 1e-5 * max(size.values())}

    first = gradient(params["lrrf"])
    silent = {
        f"{layer}/{leaf}"
        for layer in ("ref_fusion/conv_r", "hrip/backward/conv_last", "hrip/forward/conv_last")
        for leaf in ("kernel", "bias")
    }
    assert alive(first) == silent
    stepped = jax.tree.map(lambda p, g: p - np.float32(0.1) * np.sign(g), params["lrrf"], first)
    every = {"/".join(path) for path in flatten_dict(params["lrrf"])}
    key_biases = {f"ref_fusion/ica_{d}/k/bias" for d in range(2)}
    assert every - alive(gradient(stepped)) == key_biases


@pytest.mark.parametrize("band_pixels", [None, 2**12])
def test_what_hrip_stores_for_its_gradients(band_pixels):
    """Only the maps of each chain of layers; with `remat_frames`, only the input of each frame."""
    net = LDIP(BasicVSR(), LRRF(band_pixels=band_pixels))
    lrrf = jax.eval_shape(lambda: init_lrrf(net.lrrf, jax.random.key(0)))
    hr = jax.ShapeDtypeStruct((1, 3, 128, 128, 64), jnp.float32)
    flows = Flows(*jnp.zeros((2, 1, 3, 32, 32, 2)))

    def stored(net):
        """The number of maps, of both passes together."""

        def pull(lrrf, hr):
            refine = lambda lrrf, hr: net.apply({"params": {"lrrf": lrrf}}, hr, flows, method="propagate")  # noqa: E731
            return jax.vjp(refine, lrrf, hr)[1]

        return count(jax.eval_shape(pull, lrrf, hr)) / hr.size

    assert stored(net) < 24
    assert stored(net.clone(remat_frames=True)) < 5


def test_unknown_choices_are_refused(key):
    with pytest.raises(ValueError, match="'sum'"):
        init_lrrf(LRRF(attention="sum"), key)
    with pytest.raises(ValueError, match="'soft'"):
        init_lrrf(LRRF(gate="soft"), key)
