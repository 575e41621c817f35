"""The matcher around a flow network, with networks that return a prescribed flow."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.matching.dense import DenseMatcher, fine_detail, gmflow_size, resize_image
from ldip_jax.matching.gmflow import gmflow_features, gmflow_flows
from ldip_jax.matching.matcher import Pair, confident_share, flow_to_warp, rescale
from ldip_jax.models.networks.gmflow import Encoded, GMFlow
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.warp import bilinear, pixel_grid


def shift(params, a, b):
    """The flow in `params`, whatever the images."""
    flow = jnp.broadcast_to(params["flow"], (*a.shape[:3], 2))
    return flow, -flow


def pair(anchor_size, reference_size, rng):
    return Pair(rng.random((1, *anchor_size, 3), np.float32), rng.random((1, *reference_size, 3), np.float32))


@pytest.mark.parametrize("matching", [(48, 80), (30, 50), (96, 160), (31, 47)])
@pytest.mark.parametrize("reference", [(48, 80), (100, 90), (13, 200)])
def test_places_follow_the_half_pixel_convention_exactly(rng, monkeypatch, matching, reference):
    # This network reads no images, so these are not resized, which would be a program for each size.
    blank = lambda image, size, sigma: jnp.asarray(np.zeros((1, *size, 3), np.float32))  # noqa: E731
    monkeypatch.setattr("ldip_jax.matching.dense.resize_image", blank)
    flow = np.array([2.25, -1.5], np.float32)
    matcher = DenseMatcher(shift, {"flow": flow}, lambda size: matching)
    warp = np.asarray(matcher.coarse(pair((48, 80), reference, rng)).warp)
    for axis, n, m, r in ((0, 80, matching[1], reference[1]), (1, 48, matching[0], reference[0])):
        expected = ((np.arange(n) + 0.5) * m / n + flow[axis]) * r / m - 0.5
        found = warp[0, 5, :, 0] if axis == 0 else warp[0, :, 5, 1]
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_confidence_is_zero_exactly_where_the_place_is_outside(rng):
    matcher = DenseMatcher(shift, {"flow": np.array([10.0, 0.0], np.float32)}, lambda size: (24, 40))
    match = matcher.coarse(pair((48, 80), (24, 160), rng))
    confidence = np.asarray(match.confidence)[0, ..., 0]
    outside = np.round(np.asarray(match.warp)[0, ..., 0]) > 159
    assert outside.any()
    assert (confidence[outside] == 0.0).all()
    np.testing.assert_allclose(confidence[:, :58], 1.0, atol=1e-6)


def test_a_zoomed_crop_is_found_where_it_was_cut_from():
    """A reference that shows columns 20..60, rows 10..34 of the scene, enlarged 3 times."""
    h, w = 48, 80
    y, x = np.mgrid[:h, :w]
    ramp = np.stack([x / w, y / h, 0 * x], axis=-1).astype(np.float32)[None]
    reference = resize_image(ramp[:, 10:34, 20:60], (72, 120))

    def exact(params, a, b):
        # Both at (48, 80): scene place X is at ((X + 0.5 - 20) * 3) of 120 in the reference, so * 2 of 80.
        grid = pixel_grid(h, w)[None]
        there = rescale(grid - jnp.array([[[[20.0, 10.0]]]]), jnp.array([2.0, 2.0]))
        return there - grid, grid * 0.0

    match = DenseMatcher(exact, {}, lambda size: size).coarse(Pair(ramp, reference))
    seen = np.asarray(quick_jit(bilinear)(reference, match.warp))
    # Away from the edges of the crop, where resizing bends a ramp.
    np.testing.assert_allclose(seen[0, 13:31, 23:57], ramp[0, 13:31, 23:57], atol=2e-3)


def test_another_reference_size_needs_no_new_matching_program(rng):
    traced = []

    def counting(params, a, b):
        traced.append(a.shape)
        return shift(params, a, b)

    matcher = DenseMatcher(counting, {"flow": np.zeros(2, np.float32)}, lambda size: (24, 40))
    for reference in ((48, 80), (50, 81), (200, 30)):
        matcher.coarse(pair((48, 80), reference, rng))
    DenseMatcher(counting, {"flow": np.ones(2, np.float32)}, lambda size: (24, 40)).coarse(
        pair((48, 80), (10, 10), rng)
    )
    assert traced == [(1, 24, 40, 3)]


def test_each_image_is_encoded_once(rng):
    encoded = []

    def encode(params, image):
        jax.debug.callback(lambda: encoded.append(None))
        return {"copy": image + params["flow"][0]}

    def flow(params, a, b):
        return shift(params, a["copy"], b["copy"])

    def coarse(pair, count):
        match = matcher.coarse(pair)
        jax.effects_barrier()
        assert len(encoded) == count
        return match

    params = {"flow": np.array([2.0, 1.0], np.float32)}
    matcher = DenseMatcher(shift, params, lambda size: (24, 40), halves=(encode, flow))
    one, other = pair((48, 80), (50, 70), rng), pair((48, 80), (50, 70), rng)
    found = coarse(one, 2)
    # The same memory, through another view of it; and new images.
    again = coarse(replace(one, reference=one.reference[0][None]), 2)
    coarse(replace(one, reference=other.reference), 3)
    coarse(replace(one, reference=one.reference.copy()), 4)
    plain = DenseMatcher(shift, params, lambda size: (24, 40)).coarse(one)
    for match in (found, again):
        np.testing.assert_allclose(match.warp, plain.warp, atol=1e-4)


def test_without_a_refiner_refine_returns_the_match(rng):
    matcher = DenseMatcher(shift, {"flow": np.zeros(2, np.float32)}, lambda size: size)
    images = pair((16, 24), (16, 24), rng)
    match = matcher.coarse(images)
    assert matcher.refine(images, match, (4.0, 4.0)) is match


def test_flow_at_full_size_is_added_to_the_pixel_grid(rng):
    flow = rng.standard_normal((2, 6, 9, 2)).astype(np.float32)
    to_warp = quick_jit(lambda flow, size: (flow_to_warp(flow, (6, 9), size), pixel_grid(6, 9)))
    warp, grid = map(np.asarray, to_warp(flow, np.float32([9.0, 6.0])))
    np.testing.assert_allclose(warp, flow + grid[None], atol=1e-5)


def test_rescaling_is_invertible(rng):
    coords = 50.0 * rng.standard_normal((3, 4, 2)).astype(np.float32)
    factor, rescaled = np.float32([0.25, 3.0]), quick_jit(rescale)
    np.testing.assert_allclose(rescaled(rescaled(coords, factor), 1.0 / factor), coords, atol=1e-4)
    np.testing.assert_allclose(rescaled(np.float32([-0.5, 7.5]), factor), [-0.5, 23.5])


def test_resizing_a_reference_is_antialiased_and_stays_in_range(rng):
    checker = np.indices((64, 64)).sum(axis=0)[None, ..., None] % 2 * np.ones(3, np.float32)
    small = np.asarray(resize_image(checker, (16, 16)))
    np.testing.assert_allclose(small[:, 2:-2, 2:-2], 0.5, atol=0.02)
    large = np.asarray(resize_image(checker[:, :8, :8], (30, 30)))
    assert large.min() >= 0.0
    assert large.max() <= 1.0


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((352, 640), (352, 640)),
        ((720, 1280), (352, 640)),
        ((1280, 720), (640, 352)),
        ((240, 424), (288, 512)),
        ((300, 600), (288, 608)),
        ((96, 128), (384, 512)),
        ((8, 8), (512, 512)),
        # Too far from any multiple of 32.
        ((60, 640), (60, 640)),
        ((2, 4000), (1, 640)),
    ],
)
def test_gmflow_size_nearly_keeps_proportions_within_bounds(size, expected):
    assert gmflow_size(size) == expected


def test_ordinary_frames_are_not_padded_for_gmflow(rng):
    for height, width in rng.integers(64, 4320, (500, 2)).tolist():
        matching = gmflow_size((height, width))
        assert 512 <= max(matching) <= 640
        scale = max(matching) / max(height, width)
        for side, found in zip((height, width), matching, strict=True):
            assert abs(found / (side * scale) - 1.0) < 0.13
            assert found % 32 == 0 or found < 256


def test_gmflow_takes_sizes_that_are_not_multiples_of_32(monkeypatch):
    class Recorder:
        def apply(self, variables, *inputs, method):
            if method is GMFlow.encode:
                return Encoded(inputs[0], inputs[0])
            flow = jnp.stack(jnp.broadcast_arrays(*jnp.meshgrid(jnp.arange(64.0), jnp.arange(32.0))), axis=-1)
            return flow[None], -flow[None]

    Recorder.encode, Recorder.compare = GMFlow.encode, GMFlow.compare
    monkeypatch.setattr("ldip_jax.matching.gmflow.GMFlow", Recorder)
    a = np.arange(20 * 50 * 3, dtype=np.float32).reshape(1, 20, 50, 3)

    def whole(a):
        features = gmflow_features({}, a)
        return features, gmflow_flows({}, features, features)

    (padded, _), (forward, backward) = jax.device_get(quick_jit(whole)(a))
    assert padded.shape == (1, 32, 64, 3)
    np.testing.assert_array_equal(padded[:, :20, :50], a)
    np.testing.assert_array_equal(padded[0, 31, 63], a[0, 19, 49])
    # Flows are of the same pixels: nothing is moved or scaled.
    np.testing.assert_array_equal(forward, -backward)
    np.testing.assert_array_equal(forward[0, 19, 49], [49.0, 19.0])


def moved_by_noise(params, a, b):
    """Forward-backward consistent, except in columns whose right neighbours in `b` are darker or lighter."""
    noise = jnp.abs(jnp.diff(b, axis=2, append=b[:, :, -1:])).max(axis=(1, 3))
    forward = jnp.broadcast_to(params["flow"], (*a.shape[:3], 2))
    return forward, -forward + 100.0 * (noise > 0.1)[:, None, :, None]


@pytest.mark.parametrize(
    ("noisy", "damaged", "taken"), [(0, True, False), (8, True, False), (40, True, True), (40, False, False)]
)
def test_damaged_key_frames_are_matched_softened_if_that_matches_clearly_more(noisy, damaged, taken):
    size = (32, 80)
    image = np.full((1, *size, 3), 0.5, np.float32)
    image[:, :, 1 : 1 + noisy : 2] = 0.7
    image[:, :, 40:] += 0.2
    anchor = resize_image(image, size, 2.0) if damaged else jnp.asarray(image)
    pair = Pair(anchor, image)
    params = {"flow": np.zeros(2, np.float32)}

    def share(softens):
        matcher = DenseMatcher(moved_by_noise, params, lambda size: size, softens=softens)
        return confident_share(matcher.coarse(pair).confidence)

    assert share(True) > share(False) if taken else share(True) == share(False)


@pytest.mark.parametrize(("strength", "lower"), [(0.5, False), (2.0, False), (1.0, True)])
def test_fine_detail_decreases_with_damage_but_not_with_contrast(rng, strength, lower):
    scene = np.asarray(resize_image(rng.random((1, 48, 64, 3), np.float32), (96, 128)))
    image = 0.5 + np.float32(0.4 * strength) * (scene - 0.5)
    if lower:
        image = resize_image(image, (96, 128), 2.0)
    ratio = float(fine_detail(image, (96, 128)) / fine_detail(scene, (96, 128)))
    assert ratio < 0.7 if lower else abs(ratio - 1.0) < 0.01
