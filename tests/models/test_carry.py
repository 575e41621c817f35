"""Carry: detail follows the motion undiminished, and goes nowhere that the motion does not support."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from ldip_jax.models.carry import (
    DAMAGED,
    RAISED,
    Route,
    Routes,
    agreement,
    blend,
    carry,
    clip_routes,
    damage,
    neighbour_weights,
    raise_confidence,
    refine_warp,
    sample_image,
    to_hr,
    zero_outside,
)
from ldip_jax.models.networks.backbone import Flows
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.blur import gaussian_blur
from ldip_jax.ops.warp import bilinear, pixel_grid
from tests.scenes import blocks

COUNT, LR, HR = 4, (12, 16), (48, 64)


def moving(x, y, count=COUNT, size=LR):
    """Flows of a clip in which everything moves by (x, y) LR pixels a frame."""
    there = jnp.broadcast_to(jnp.array([x, y], jnp.float32), (1, count, *size, 2))
    return Flows(there, -there)


def lr_routes(flows, index):
    return jax.jit(clip_routes)(flows, np.array([index]))


# As one program, here and below: JAX would otherwise compile one for each operation.
@partial(jax.jit, static_argnames="size")
def in_hr(route, size):
    """Routes in HR pixels, without the second look."""
    lead = route.flow.shape[:3]
    warp, confidence = to_hr(Route(*(rearrange(x, "b t k ... -> (b t k) ...") for x in route)), size)
    return Routes(*(x.reshape(*lead, *x.shape[1:]) for x in (warp, zero_outside(warp, confidence))))


def hr_routes(flows, index, size=HR):
    return in_hr(lr_routes(flows, index), size)


def shares_of(index, valid, count):
    return np.asarray(jax.jit(neighbour_weights, static_argnums=2)(index, valid, count))


def carried(rng, flows, index):
    """Noise at the key-frames, and what reaches each frame of it."""
    detail = jnp.asarray(rng.standard_normal((1, len(index), *HR, 2)), jnp.float32)
    routes = hr_routes(flows, index)
    out = jax.jit(carry)(detail, routes, np.array([index]), np.ones((1, len(index)), np.float32))
    return np.asarray(detail)[0], np.asarray(out)[0]


def test_without_motion_detail_arrives_bit_for_bit(rng):
    for key in (0, 1, COUNT - 1):
        detail, out = carried(rng, moving(0, 0), [key])
        np.testing.assert_array_equal(out, np.broadcast_to(detail, out.shape))


def test_a_pan_by_whole_pixels_moves_detail_with_it_and_invents_none(rng):
    key, (dx, dy) = 1, (8, -4)
    detail, out = carried(rng, moving(dx / 4, dy / 4), [key])
    y, x = np.mgrid[: HR[0], : HR[1]]
    for time, image in enumerate(out):
        # Where a pixel of this frame lies in the key-frame.
        to_x, to_y = x + (key - time) * dx, y + (key - time) * dy
        margin = np.minimum.reduce([to_x, HR[1] - 1 - to_x, to_y, HR[0] - 1 - to_y])
        inside, outside = margin >= 4, margin < 0
        np.testing.assert_array_equal(image[inside], detail[0][to_y[inside], to_x[inside]])
        assert not image[outside].any()
        assert outside.any() == (time != key)


def test_no_detail_passes_inconsistent_flow_to_any_later_frame(rng):
    flows = moving(0, 0)
    # In the left half of frame 1, the flow back to frame 0 is off by 3 pixels.
    to_previous = flows.to_previous.at[:, 1, :, : LR[1] // 2, 0].set(3.0)
    detail, out = carried(rng, Flows(flows.to_next, to_previous), [0])
    middle = HR[1] // 2
    for image in out[1:]:
        assert np.abs(image[:, : middle - 4]).max() < 1e-6
        np.testing.assert_array_equal(image[:, middle + 4 :], detail[0][:, middle + 4 :])
    np.testing.assert_array_equal(out[0], detail[0])


def test_composed_flow_of_smooth_motion_is_accurate_to_a_small_fraction_of_a_pixel():
    """Rows shift by a sine of their height while everything sinks: displacements have a closed form."""
    count, size, period, sway, fall = 6, (48, 40), 48.0, 1.5, 0.6
    x, y = np.moveaxis(np.asarray(pixel_grid(*size)), -1, 0)

    def place(steps):
        """Where a pixel is after so many frames, which may be negative."""
        sway_at = [
            np.sin(2 * np.pi * (y + step * fall) / period) for step in range(min(steps, 0), max(steps, 0))
        ]
        return np.stack([x + np.sign(steps) * sway * sum(sway_at, np.zeros(size)), y + steps * fall], -1)

    here = np.stack([x, y], -1)
    both = [
        jnp.broadcast_to(jnp.asarray(place(n) - here, jnp.float32), (1, count, *size, 2)) for n in (1, -1)
    ]
    keys = [0, count - 1]
    flow, confidence = (np.asarray(leaf[0]) for leaf in lr_routes(Flows(*both), keys))
    furthest = 0.0
    for time in range(count):
        for slot, key in enumerate(keys):
            true = place(key - time)
            margin = np.minimum.reduce([true, np.array([size[1], size[0]]) - 1 - true]).min(-1)
            inside = margin > count
            assert inside.mean() > 0.4
            error = np.linalg.norm(flow[time, slot] + here - true, axis=-1)[inside]
            assert error.max() < 0.04
            assert confidence[time, slot, ..., 0][inside].min() > 0.98
            furthest = max(furthest, np.abs(true - here)[inside].max())
    assert furthest > 4.0


def test_shares_are_linear_between_key_frames_and_full_beyond_them():
    shares = shares_of(np.array([[2, 6]]), np.ones((1, 2), np.float32), 9)[0]
    first = [1, 1, 1, 0.75, 0.5, 0.25, 0, 0, 0]
    np.testing.assert_allclose(shares, np.stack([first, 1 - np.array(first)], -1), atol=1e-6)


def test_empty_slots_never_count_at_any_index():
    expected = shares_of(np.array([[2, 6]]), np.ones((1, 2), np.float32), 9)[0]
    index, valid = np.array([[6, 4, 2, 2, 0]]), np.array([[1.0, 0.0, 0.0, 1.0, 0.0]], np.float32)
    shares = shares_of(index, valid, 9)[0]
    np.testing.assert_array_equal(shares[:, [3, 0]], expected)
    assert not shares[:, [1, 2, 4]].any()
    assert not shares_of(index, np.zeros((1, 5), np.float32), 9).any()


def test_shares_of_any_key_frames(rng):
    count, draws, slots = 12, 50, 4
    index = np.stack([rng.permutation(count)[:slots] for _ in range(draws)])
    valid = (rng.random((draws, slots)) < 0.7).astype(np.float32)
    shares = shares_of(index, valid, count)
    assert shares.min() >= 0.0
    np.testing.assert_allclose(
        shares.sum(-1), np.broadcast_to(valid.max(-1, keepdims=True), (draws, count)), atol=1e-6
    )
    for draw in range(draws):
        there = index[draw][valid[draw] > 0]
        for time in range(count):
            taken = set(index[draw][shares[draw, time] > 0].tolist())
            nearest = {max(there[there <= time], default=-1), min(there[there >= time], default=-1)} - {-1}
            assert taken == ({time} if time in there else {int(key) for key in nearest})


def test_weights_follow_time_and_confidence_and_sum_to_the_highest_confidence(rng):
    shares = rng.random((200, 2)).astype(np.float32)
    shares = np.stack([shares[:, 0], 1 - shares[:, 0]], -1)
    confidence = rng.random((200, 2)).astype(np.float32)
    weights = np.asarray(jax.jit(blend)(shares, confidence))
    np.testing.assert_allclose(weights.sum(-1), confidence.max(-1), rtol=1e-5)
    np.testing.assert_allclose(
        weights[:, 0] * shares[:, 1] * confidence[:, 1],
        weights[:, 1] * shares[:, 0] * confidence[:, 0],
        atol=1e-5,
    )
    np.testing.assert_allclose(jax.jit(blend)(shares, np.ones_like(confidence)), shares, atol=1e-6)


def test_one_side_replaces_the_other_and_nothing_replaces_both():
    shares = jnp.array([[0.9, 0.1], [0.9, 0.1], [0.0, 1.0], [0.0, 0.0]])
    confidence = jnp.array([[0.0, 0.6], [0.0, 0.0], [1.0, 0.3], [1.0, 1.0]])
    np.testing.assert_allclose(
        jax.jit(blend)(shares, confidence), [[0, 0.6], [0, 0], [0, 0.3], [0, 0]], atol=1e-6
    )


def test_gradients_reach_the_detail_that_is_used_but_never_the_routes(rng):
    index, valid = jnp.array([[0, 3, 2]]), jnp.array([[1.0, 1.0, 0.0]])
    routes = hr_routes(moving(0.3, -0.2), [0, 3, 2])
    probe = jnp.asarray(rng.standard_normal((1, *HR, 2)), jnp.float32)

    def score(detail, warp, confidence):
        return jnp.sum(carry(detail, Routes(warp, confidence), index, valid)[:, 1] * probe)

    detail = jnp.asarray(rng.standard_normal((1, 3, *HR, 2)), jnp.float32)
    value, grads = quick_jit(jax.value_and_grad(score, (0, 1, 2)))(detail, *routes)
    of_detail, *of_routes = map(np.asarray, grads)
    assert [bool(np.any(of_detail[:, slot])) for slot in range(3)] == [True, True, False]
    assert not any(np.any(grad) for grad in of_routes)
    # Carrying is linear, so the gradient describes all of it.
    np.testing.assert_allclose(np.sum(of_detail * np.asarray(detail)), value, rtol=1e-3)


def test_confidence_is_raised_only_on_damaged_images(rng):
    usual = np.array([0.0, DAMAGED[0], DAMAGED[3], 2.0, (DAMAGED[0] + DAMAGED[1]) / 2, *DAMAGED[1:3]])
    confidence = rng.uniform(0.05, 0.95, (len(usual), 8, 10, 1)).astype(np.float32)
    confidence[:, 0] = [[0.0], [1.0]] * 5
    damages = damage(jnp.asarray(usual, jnp.float32)[:, None, None, None])
    found = np.asarray(raise_confidence(jnp.asarray(confidence), damages))
    np.testing.assert_array_equal(found[:4], confidence[:4])
    before, after = confidence[4:, 1:], found[4:, 1:]
    odds = after / (1 - after) / (before / (1 - before))
    for share, raised in zip((0.5, 1.0, 1.0), odds, strict=True):
        np.testing.assert_allclose(raised, 1.0 + share * RAISED, rtol=1e-3)
    # Places without any confidence, and those with full confidence, stay as they are.
    np.testing.assert_array_equal(found[:, 0], confidence[:, 0])


def test_a_second_look_in_smaller_images_finds_the_same(rng):
    """The network is a stub that knows the motion, in pixels of whatever images it is given."""
    size = (48, 64)

    def motion(places):
        x, y = places[..., 0], places[..., 1]
        return jnp.stack([1.5 * jnp.sin(y / 9.0) + 0.5, 1.2 * jnp.cos(x / 11.0)], -1)

    def find_flow(seen, ref, supp):
        seen.append((ref, supp))
        shrink = jnp.array([size[1] / ref.shape[2], size[0] / ref.shape[1]])[None, None]
        places = (pixel_grid(*ref.shape[1:3]) + 0.5) * shrink - 0.5
        return (motion(places) / shrink)[None]

    def start(places):
        return 0.9 * places + jnp.array([3.0, 2.0])[None, None]

    grid = pixel_grid(*size)

    @jax.jit
    def locate_both(anchor, other):
        warp, seen = start(grid)[None], []
        find, show = partial(find_flow, seen), partial(sample_image, other)
        refined = [refine_warp(find, anchor, show, warp, (4.0, 4.0), reduce) for reduce in (1, 2)]
        warped = bilinear(other, warp, padding="border")
        smooth = gaussian_blur(warped, (1.6, 1.6))
        return refined, seen, smooth, warp, start(grid + motion(grid))

    anchor, other = (rng.random((1, *size, 3)).astype(np.float32) for _ in range(2))
    (full, half), seen, smooth, warp, true = jax.tree.map(np.asarray, locate_both(anchor, other))
    inner = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(full[0][inner], true[inner], atol=1e-4)
    np.testing.assert_allclose(half[0][inner], true[inner], atol=0.03)
    assert np.abs(true - warp[0])[inner].max() > 1.0
    # The network is shown the pair without the noise.
    for (ref, supp), n in zip(seen, (1, 2), strict=True):
        assert ref.shape == supp.shape == (1, size[0] // n, size[1] // n, 3)
        assert ref.std() < 0.2 * anchor.std()
        assert np.corrcoef(supp[0, ..., 1].ravel(), smooth[0, ::n, ::n, 1].ravel())[0, 1] > 0.8


def test_places_that_differ_are_not_trusted_unless_damage_makes_all_differ(rng):
    h, w = 64, 96
    image = blocks(seed=9, height=h, width=w)[None]
    changed, other = image.copy(), blocks(seed=10, height=h, width=w)[None]
    changed[:, 20:44, 50:80] = other[:, 20:44, 50:80]
    damage = 0.15 * rng.standard_normal((1, h // 4, w // 4, 3), np.float32).repeat(4, 1).repeat(4, 2)

    agreed = jax.jit(partial(agreement, scale=(4.0, 4.0)))

    def trusted(other, confidence=1.0):
        routes = np.full((1, h // 4, w // 4, 1), confidence, np.float32)
        return np.asarray(agreed(image, other, pixel_grid(h, w)[None], routes))[0, ..., 0]

    assert trusted(changed)[:, :30].min() > 0.99
    assert trusted(changed)[26:38, 58:72].mean() < 0.15
    assert trusted(image + damage).mean() > 0.6
    # Without confident places, it cannot be known that the whole image is damaged.
    assert trusted(image + damage, 0.2).mean() < 0.5
    assert trusted(other).mean() < 0.4
