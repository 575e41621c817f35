"""Blurred key-frames give way to sharper frames, or take less detail; other key-frames stay as they are."""

import jax.numpy as jnp
import numpy as np
import pytest

from ldip_jax.inference.keyframe_motion import (
    DISTANT,
    EVEN,
    REACH,
    NearbySharpness,
    WindowMotion,
    blur,
    detail_shares,
    key_frames_between,
    sharper_key_frames,
)
from ldip_jax.ops.blur import gaussian_blur

COUNT, STEP = 13, 2
WHOLE = [range(COUNT)]


def smooth(image, sigma):
    """A blurred image."""
    return gaussian_blur(jnp.asarray(image, jnp.float32)[None], (sigma, sigma))


class Pan:
    """A window whose camera moves STEP pixels a frame over fine texture, with its flow."""

    def __init__(self, blurred=(), contrast=None):
        wide = smooth(np.random.default_rng(2).random((40, 60 + STEP * COUNT, 3), np.float32), 0.7)
        cut = [wide[:, :, STEP * place : STEP * place + 60] for place in range(COUNT)]
        self.frames = [
            smooth(cut[place][0], 0.45) if place in blurred else cut[place] for place in range(COUNT)
        ]
        if contrast is not None:
            self.frames = [0.5 + contrast(place) * (self.frames[place] - 0.5) for place in range(COUNT)]

    def detail_flow(self, here, there):
        assert abs(here - there) == 1
        flow = jnp.array([STEP * (here - there), 0.0], jnp.float32)
        return jnp.broadcast_to(flow, (1, 40, 60, 2))


def window(pan, first=0, cuts=()):
    return WindowMotion([np.asarray(frame)[0] for frame in pan.frames], pan.detail_flow, first, cuts)


def compare(pan, first=0):
    return NearbySharpness(window(pan, first))


def moved(pan, key_frames, stride, spans=WHOLE, first=0):
    return sharper_key_frames(key_frames, spans, stride, compare(pan, first))


def test_sharpness_is_compared_at_the_same_places():
    """Blur is found, and new content at the edges has no effect, although its sharpness varies by more."""
    found = compare(Pan(blurred=[6]))(5, WHOLE[0])
    assert sorted(found) == list(range(5 - REACH, 5 + REACH + 1))
    assert found.pop(6) < 0.8
    np.testing.assert_allclose(list(found.values()), 1.0, atol=0.02)


def test_frames_that_show_other_places_are_not_compared():
    class Jump(Pan):
        def detail_flow(self, here, there):
            return super().detail_flow(here, there) + 100.0 * (here == 4) * (there == 5)

    assert sorted(compare(Jump())(6, WHOLE[0])) == [5, 6, 7, 8, 9, 10]


def test_a_blurred_key_frame_gives_way_to_the_nearest_sharp_frame():
    assert moved(Pan(blurred=[6]), [0, 6, 12], 6) in ([0, 5, 12], [0, 7, 12])
    assert moved(Pan(blurred=[5, 6]), [0, 6, 12], 6) == [0, 7, 12]
    # The next key-frame may be the nearest sharp frame.
    assert moved(Pan(blurred=[3, 4, 5, 6]), [0, 4, 7, 12], 4) in ([0, 2, 7, 12], [0, 7, 12])
    # No further than the stride.
    assert moved(Pan(blurred=[5, 6, 7]), [6], 1) == [6]


def test_key_frames_are_numbered_within_the_clip():
    assert moved(Pan(blurred=[5, 6]), [106], 6, [range(100, 100 + COUNT)], first=100) == [107]


def test_sharp_key_frames_are_kept():
    for pan in (Pan(), Pan(blurred=[1, 5, 7, 11])):
        nearby = compare(pan)
        assert sharper_key_frames([0, 6, 12], WHOLE, 6, nearby) == [0, 6, 12]
        assert detail_shares([0, 6, 12], WHOLE, nearby) == {0: 1.0, 6: 1.0, 12: 1.0}


def test_a_trend_is_not_blur():
    """As if the camera approached: sharpness rises steadily, by 5 % a frame."""
    nearby = compare(Pan(contrast=lambda place: 0.3 * 1.025**place))
    assert max(nearby(6, WHOLE[0]).values()) > 1.1
    assert sharper_key_frames([0, 6, 12], WHOLE, 6, nearby) == [0, 6, 12]
    assert detail_shares([0, 6, 12], WHOLE, nearby) == {0: 1.0, 6: 1.0, 12: 1.0}


def test_key_frames_do_not_leave_their_shot():
    """Frames 6 to 12 are blurred and a shot of their own: compared with each other, they are sharp."""
    spans = [range(6), range(6, COUNT)]
    assert moved(Pan(blurred=range(6, COUNT)), [0, 5, 6, 12], 6, spans) == [0, 5, 6, 12]
    assert moved(Pan(blurred=[7, 8]), [0, 5, 8, 12], 6, spans) == [0, 5, 9, 12]


@pytest.mark.parametrize(
    ("sharpness", "expected"),
    [
        ({3: 1.2, 4: 1.0, 5: 1.1}, 1.1),
        ({3: 1.2, 4: 1.0, 5: 0.9}, 1.0),
        ({3: 1.2, 4: 1.0}, 1.0),
        ({0: 1.3, 3: 0.7, 4: 1.0, 5: 0.8, 6: 1.5}, 1.3),
    ],
)
def test_blur_needs_sharper_frames_on_both_sides(sharpness, expected):
    assert blur(sharpness, 4) == expected


def test_the_share_falls_with_blur_where_no_frame_nearby_is_much_sharper():
    ratio = 1.0 + 2 * DISTANT
    sharpness = {2: ratio, 3: 1.0, 4: 1.0, 5: 1.0, 6: ratio}
    assert sharper_key_frames([4], WHOLE, 8, lambda *_: sharpness) == [4]
    assert 0.8 < detail_shares([4], WHOLE, lambda *_: sharpness)[4] == (EVEN / ratio) ** 5 < 0.9


class Hidden(Pan):
    """A pan where half of the pixels of one frame, and of no other, are hidden in the frames beside it."""

    def __init__(self, hidden):
        super().__init__()
        self.hidden = hidden

    def detail_flow(self, here, there):
        flow = super().detail_flow(here, there)
        return flow.at[:, :20].add(50.0) if self.hidden in (here, there) and here < there else flow


def test_a_key_frame_is_added_between_distant_ones_if_detail_does_not_reach():
    def between(pan, keys, cuts=()):
        return key_frames_between(window(pan, cuts=cuts), keys)

    assert between(Pan(), [0, 12]) == set()
    assert between(Hidden(6), [0, 12]) == {6}
    assert between(Hidden(6), [2, 10]) == set(), "they are not far apart"
    assert between(Hidden(6), [0, 7, 8, 12], {8}) == set()
    assert between(Hidden(6), [0, 12], {8}) == set(), "no shot has two of them"
