"""Which stills a key-frame is offered, and which part of them it may use."""

import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.inference.reference_images import Still, UsablePart, bound_moments, cropped_part, offered_stills
from ldip_jax.matching.matcher import Match, Pair
from ldip_jax.matching.view import View
from ldip_jax.ops.warp import pixel_grid

IMAGE = np.zeros((8, 12, 3), np.float32)


def still(name, moment=None):
    return Still(name, IMAGE, moment)


def names(key, stills, cuts=()):
    return [each.name for each in offered_stills(key, stills, cuts)]


def test_stills_without_a_moment_are_offered_everywhere():
    for key in (0, 50, 1000):
        assert names(key, [still("a"), still("b")], {20}) == ["a", "b"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (0, ["a", "any"]),
        (10, ["a", "any"]),
        (12, ["a", "b", "any"]),
        (30, ["b", "a", "any"]),
        (40, ["b", "c", "any"]),
        (90, ["c", "b", "any"]),
        (100, ["c", "any"]),
        (500, ["c", "any"]),
    ],
)
def test_the_nearest_moments_on_either_side_are_offered(key, expected):
    assert names(key, [still("any"), still("c", 100), still("a", 10), still("b", 32)]) == expected


def test_stills_of_one_moment_are_offered_together():
    assert names(5, [still("a", 8), still("b", 8), still("c", 20)]) == ["a", "b"]


def test_stills_with_a_moment_are_not_offered_in_another_shot():
    stills = [still("a", 10), still("b", 30)]
    assert names(19, stills, {20}) == ["a"]
    assert names(20, stills, {20}) == ["b"]
    assert names(45, stills, {40}) == []
    # A cut at a moment begins its shot; a cut right after it ends it.
    assert names(10, stills, {10, 11}) == ["a"]
    assert names(9, stills, {10, 11}) == []
    assert names(11, stills, {10, 11}) == ["b"]


def test_moments_within_a_window_are_key_frames():
    stills = [still("any"), still("a", 10), still("b", 30), still("c", 30)]
    assert bound_moments(stills, range(0, 31)) == {10, 30}
    assert bound_moments(stills, range(11, 30)) == set()


def limit(part, image, warp):
    confidence = jnp.ones((*warp.shape[:3], 1))
    pair = Pair(jnp.zeros((*warp.shape[:3], 3)), image[None])
    return np.asarray(part.limit(Match(warp, confidence), pair).confidence)[0, ..., 0]


def test_a_mask_removes_confidence_where_it_is_black():
    mask = np.zeros((8, 12), np.float32)
    mask[:, 6:] = 1.0
    warp = pixel_grid(8, 12)[None]
    np.testing.assert_array_equal(limit(UsablePart(mask=mask), IMAGE, warp), mask)
    # It is reduced together with its still.
    small = limit(UsablePart(mask=mask), IMAGE[::2, ::2], pixel_grid(4, 6)[None])
    np.testing.assert_array_equal(small, mask[::2, ::2])
    np.testing.assert_array_equal(limit(UsablePart(), IMAGE, warp), 1.0)


def test_a_mask_is_cropped_with_its_still(rng):
    mask = (rng.random((40, 60)) > 0.5).astype(np.float32)
    image = rng.random((40, 60, 3)).astype(np.float32)
    masked = Still("a", image, mask=mask)
    view = View(-4, 10, 24, 30, 0.9)
    shown, part = cropped_part(masked, view, (24, 30))
    np.testing.assert_array_equal(shown[4:], image[:20, 10:40])
    confidence = limit(part, shown, pixel_grid(24, 30)[None])
    np.testing.assert_array_equal(confidence[4:], mask[:20, 10:40])
    np.testing.assert_array_equal(confidence[:4], 0.0)
