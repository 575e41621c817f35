"""The routes along which detail is carried, from a clip to a training step."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.data.crop_spec import CropSpec
from ldip_jax.data.crops import draw_crop, stack
from ldip_jax.data.records import load_record, save_record
from ldip_jax.errors import InputError
from ldip_jax.models.carry import Route, Routes, carry, to_hr
from ldip_jax.models.trainable import quick_jit
from ldip_jax.training.config import check_same_run
from ldip_jax.training.step import restored_images
from tests.data.record import draw_reference, random_record
from tests.models.random_models import shaken
from tests.training.batches import training_ldip

SPEC = CropSpec(
    target_frames=3,
    hr_side=32,
    lr_side=8,
    reference_side=48,
    window_jitter=4,
    max_key_frames=2,
    max_references=2,
    routes=True,
)


def with_routes(record, rng):
    """A pan: routes move 3 pixels to the right for each frame from t to the key-frame."""
    t, (h, w) = len(record.hr), record.hr.shape[1:3]
    x, y = np.meshgrid(np.arange(w), np.arange(h))
    grid = np.stack([x, y], axis=-1).astype(np.float32)
    apart = (record.key_frames[None] - np.arange(t)[:, None])[..., None, None]
    warps = np.broadcast_to(grid, (t, len(record.key_frames), h, w, 2)).copy()
    warps[..., 0] += 3.0 * apart
    confidence = rng.uniform(0, 1, (t, len(record.key_frames), h, w, 1)).astype(np.float16)
    return record._replace(route_warps=warps, route_confidence=confidence)


def test_routes_are_stored_and_records_without_them_still_load(rng, tmp_path):
    plain = random_record(rng)
    save_record(tmp_path / "plain.safetensors", plain, {})
    assert load_record(tmp_path / "plain.safetensors").route_warps is None
    record = with_routes(plain, rng)
    save_record(tmp_path / "routes.safetensors", record, {})
    found = load_record(tmp_path / "routes.safetensors")
    np.testing.assert_allclose(found.route_warps, record.route_warps, atol=1e-2)
    np.testing.assert_array_equal(found.route_confidence, record.route_confidence)
    np.testing.assert_array_equal(found.hr, record.hr)


def test_routes_of_a_crop_are_in_its_own_pixels(rng):
    record = with_routes(random_record(rng), rng)
    sample = draw_crop(record, draw_reference(record), np.random.default_rng(5), SPEC)
    x = np.arange(32, dtype=np.float32)
    for slot in np.flatnonzero(sample.key_valid):
        for t in range(SPEC.target_frames):
            moved = 3.0 * (sample.key_frames[slot] - t)
            np.testing.assert_allclose(sample.route_warps[t, slot, 7, :, 0], x + moved, atol=1e-4)
            np.testing.assert_allclose(sample.route_warps[t, slot, :, 7, 1], x, atol=1e-4)
    assert stack([sample], (1, 2)).route_warps.shape == (1, 3, 1, 32, 32, 2)
    plain = draw_crop(record, draw_reference(record), np.random.default_rng(5), replace(SPEC, routes=False))
    assert plain.route_warps is None
    np.testing.assert_array_equal(plain.warps, sample.warps)


def test_a_record_without_routes_is_named(rng):
    record = random_record(rng)
    with pytest.raises(InputError, match=r"a record: .*config.propagation=hrip"):
        draw_crop(record, draw_reference(record), rng, SPEC, "a record")


@pytest.fixture(scope="module")
def parts():
    """A narrow network, its parameters, a batch with routes, and the backbone's frames of it."""
    rng = np.random.default_rng(0)
    record = with_routes(random_record(rng), rng)
    record = record._replace(features=record.features[..., :8].astype(np.float32))
    batch = stack([draw_crop(record, draw_reference(record), rng, SPEC)], (2, 2))
    net, params = training_ldip()
    backbone = quick_jit(partial(restored_images, net.clone(lrrf=None), propagate=False))(params, batch)
    return net, params, batch, backbone


@pytest.mark.parametrize("propagation", ["carry", "both"])
def test_a_step_carries_detail_and_trains_ref_fusion(parts, rng, propagation):
    net, params, batch, backbone = parts
    net = net.clone(propagation=propagation)

    def loss(lrrf, batch):
        frames = restored_images(net, {**params, "lrrf": lrrf}, batch, propagate=True)
        return jnp.mean(jnp.abs(frames)), frames

    # One program for the frames of the untrained network and for the gradient of a trained one.
    learn = quick_jit(jax.grad(loss, has_aux=True))
    _, silent = learn(params["lrrf"], batch)
    np.testing.assert_array_equal(silent, backbone)
    gradient, _ = learn(shaken(params["lrrf"], rng), batch)
    sizes = {
        name: max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
        for name, tree in gradient.items()
    }
    assert sizes["ref_fusion"] > 0
    assert sizes["ref_align"] > 0
    assert (sizes["hrip"] > 0) == (propagation == "both")


def test_a_crop_gets_no_detail_from_beyond_its_edges(rng):
    """Detail beyond a crop's edge is unknown: it is not filled in from the edge."""
    detail = rng.standard_normal((1, 1, 8, 10, 4)).astype(np.float32)
    x, y = np.meshgrid(np.arange(10.0), np.arange(8.0))
    warp = np.stack([x + 3, y - 2], axis=-1)[None, None, None].repeat(2, axis=1).astype(np.float32)
    routes = Routes(warp, np.ones((1, 2, 1, 8, 10, 1), np.float32))
    index, valid = np.zeros((1, 1), np.int32), np.ones((1, 1), np.float32)
    carried = np.asarray(quick_jit(carry)(detail, routes, index, valid))
    np.testing.assert_array_equal(carried[0, 1, 2:, :7], detail[0, 0, :6, 3:])
    assert not carried[0, 1, :2].any()
    assert not carried[0, 1, :, 7:].any()


def test_routes_of_a_whole_frame_are_in_hr_pixels():
    flow = np.broadcast_to(np.array([1.5, -0.5], np.float32), (1, 6, 8, 2))
    route = Route(flow, np.ones((1, 6, 8, 1), np.float32))
    warp, confidence = quick_jit(partial(to_hr, size=(24, 32)))(route)
    np.testing.assert_allclose(warp[0, 3, 5], [5 + 6.0, 3 - 2.0], atol=1e-5)
    np.testing.assert_array_equal(confidence, 1.0)


def test_a_run_older_than_carry_counts_as_hrip(tmp_path):
    old = {"config": {"seed": 0}, "frozen": {}}
    check_same_run(old, {"config": {"seed": 0, "propagation": "hrip"}, "frozen": {}}, tmp_path)
    with pytest.raises(InputError, match=r"propagation \(hrip there, carry now\)"):
        check_same_run(old, {"config": {"seed": 0, "propagation": "carry"}, "frozen": {}}, tmp_path)
