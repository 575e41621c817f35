"""What LRRF guarantees: it has no effect if untrained, and empty slots, canvases and bands have none."""

from functools import cache, partial

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
from tests.models.random_models import (
    narrow_ldip,
    random_keys,
    random_references,
    shaken,
    shaken_lrrf,
    untrained_lrrf,
)

FRAMES, LR, HR = 4, (4, 6), (16, 24)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(7)
    frames = rng.uniform(0, 1, (2, FRAMES, *LR, 3)).astype(np.float32)
    return frames, random_keys(rng, [[0, 3], [1, 2]], HR)


@cache
def program(net, method=None):
    """A method, or the whole path, traced and compiled once for all tests that run it on the same shapes."""
    return quick_jit(partial(net.apply, method=method))


def run(net, params, frames, keys):
    return np.asarray(program(net)({"params": params}, frames, keys))


def refine(net, params, *inputs):
    """`refine` of only LRRF, or of LDIP."""
    return np.asarray(program(net, "refine")({"params": params}, *inputs))


@pytest.fixture(scope="module")
def untrained(scene):
    """What an untrained LRRF restores."""
    return run(*narrow_ldip(), *scene)


def features(rng, *lead):
    return rng.standard_normal((*lead, *HR, 64)).astype(np.float32)


def test_parameter_counts(key):
    shapes = untrained_lrrf()
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


def test_conv_r_changes_only_key_frames(scene, untrained, rng):
    net, params = narrow_ldip()
    params["lrrf"]["ref_fusion"]["conv_r"] = shaken(params["lrrf"]["ref_fusion"]["conv_r"], rng)
    changed = np.abs(run(net, params, *scene) - untrained).max(axis=(2, 3, 4)) > 0
    np.testing.assert_array_equal(changed, [[True, False, False, True], [False, True, True, False]])


def test_hrip_changes_other_frames(scene, untrained, rng):
    net, params = narrow_ldip()
    for cell in params["lrrf"]["hrip"].values():
        cell["conv_last"] = shaken(cell["conv_last"], rng)
    assert (np.abs(run(net, params, *scene) - untrained).max(axis=(2, 3, 4)) > 0).all()


def test_detail_travels_from_a_key_frame_to_all_frames(scene, rng):
    """With active HRIP, another reference at frame 0 changes even the last frame."""
    frames, keys = scene
    net, params = narrow_ldip()
    params["lrrf"] = shaken(params["lrrf"], rng)
    keys = keys._replace(valid=np.float32([[1, 0], [0, 0]]))
    other = keys._replace(references=keys.references._replace(image=1 - np.asarray(keys.references.image)))
    difference = np.abs(run(net, params, frames, keys) - run(net, params, frames, other))
    assert (difference[0].max(axis=(1, 2, 3)) > 1e-7).all()
    assert not difference[1].any()


def test_without_a_valid_reference_features_are_unchanged(rng):
    lrrf, params = shaken_lrrf(rng, gate="none")
    hr = features(rng, 2)
    references = random_references(rng, (2, 3), HR)

    @quick_jit
    @partial(jax.grad, has_aux=True)
    def gradient(params, hr, references):
        refined = lrrf.apply({"params": params}, hr, references, method="refine")
        return refined.sum(), refined

    one = references._replace(valid=np.float32([[0, 0, 0], [0, 1, 0]]))
    grads, refined = gradient(params, hr, one)
    np.testing.assert_array_equal(refined[0], hr[0])
    assert (refined[1] != hr[1]).any()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    none = references._replace(valid=np.zeros((2, 3), np.float32))
    grads, _ = gradient(params, hr, none)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(grads))


def test_empty_slots_do_not_count(rng):
    """An invalid reference has no effect, whatever it holds."""
    lrrf, params = shaken_lrrf(rng, gate="max_confidence")
    hr = features(rng, 1)
    three = random_references(rng, (1, 3), HR)._replace(valid=np.float32([[1, 0, 1]]))
    two = jax.tree.map(lambda x: np.asarray(x)[:, ::2], three)
    np.testing.assert_allclose(refine(lrrf, params, hr, three), refine(lrrf, params, hr, two), atol=1e-6)


def test_empty_key_frame_slots_write_nowhere(rng):
    """A masked key-frame slot at index 0 must not undo the real key-frame there."""
    net, params = narrow_ldip()
    params = {"lrrf": shaken(params["lrrf"], rng)}
    hr = features(rng, 2, FRAMES)
    two = random_keys(rng, [[0, 0], [1, 1]], HR)._replace(valid=np.float32([[1, 0], [1, 0]]))
    one = jax.tree.map(lambda x: np.asarray(x)[:, :1], two)
    refined = refine(net, params, hr, two)
    np.testing.assert_allclose(refined, refine(net, params, hr, one), atol=1e-6)
    changed = np.abs(refined - hr).max(axis=(2, 3, 4)) > 1e-3
    np.testing.assert_array_equal(changed, [[True, False, False, False], [False, True, False, False]])


def test_max_confidence_gate_closes_where_nothing_matches(rng):
    lrrf, params = shaken_lrrf(rng, gate="max_confidence")
    hr = features(rng, 1)
    references = random_references(rng, (1, 2), HR)
    confidence = np.array(references.confidence)
    confidence[..., :6, :] = 0.0
    refined = refine(lrrf, params, hr, references._replace(confidence=confidence))
    np.testing.assert_array_equal(refined[..., :6, :], hr[..., :6, :])
    assert (refined[..., 6:, :] != hr[..., 6:, :]).any()


def test_a_larger_canvas_changes_nothing(rng):
    lrrf, params = shaken_lrrf(rng, gate="max_confidence")
    hr = features(rng, 1)
    bare = random_references(rng, (1, 2), HR)
    around = rng.uniform(0, 1, (1, 2, 41, 33, 3)).astype(np.float32)
    around[:, :, :24, :20] = bare.image
    canvas = bare._replace(image=around)
    np.testing.assert_allclose(refine(lrrf, params, hr, canvas), refine(lrrf, params, hr, bare), atol=1e-6)


def test_bands_equal_the_whole_frame(scene, rng):
    frames, keys = scene
    whole, params = narrow_ldip(gate="max_confidence")
    params["lrrf"] = shaken(params["lrrf"], rng)
    bands, _ = narrow_ldip(band_pixels=140, gate="max_confidence")
    np.testing.assert_allclose(run(bands, params, frames, keys), run(whole, params, frames, keys), atol=1e-6)


def test_which_parameters_have_gradients_at_first_and_after_a_step(rng):
    """At first only conv_r and HRIP's last layers; after one step all but the key biases."""
    net, params = narrow_ldip()
    hr, target = features(rng, 1, FRAMES), features(rng, 1, FRAMES)
    flows = Flows(*rng.standard_normal((2, 1, FRAMES, *LR, 2)).astype(np.float32))
    keys = random_keys(rng, [[0, 3]], HR)

    @quick_jit
    @jax.grad
    def gradient_of(lrrf, hr, flows, keys):
        out = net.apply({"params": {"lrrf": lrrf}}, hr, flows, keys, method="spread")
        return jnp.abs(out - target).mean()

    def gradient(lrrf):
        return gradient_of(lrrf, hr, flows, keys)

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
    lrrf = untrained_lrrf()
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
