"""Key-frames and the frames that serve them."""

import pytest

from ldip_jax.inference.keyframes import key_frames, self_references


def test_key_frames_are_every_stride_th_with_both_ends():
    assert key_frames(0, 20, 8, ends=True) == [0, 8, 16, 19]
    assert key_frames(0, 17, 8, ends=True) == [0, 8, 16]
    assert key_frames(0, 1, 8, ends=True) == [0]
    assert key_frames(0, 3, 1, ends=True) == [0, 1, 2]


def test_a_window_in_the_middle_keeps_the_clip_s_own_key_frames():
    """What lies in two windows is a key-frame in both or in neither."""
    whole = set(key_frames(0, 60, 8, ends=True))
    for first in range(40):
        window = key_frames(first, 20, 8, ends=False)
        assert set(window) == {index for index in whole if first <= index < first + 20}


def test_a_window_without_a_multiple_of_the_stride_has_a_key_frame_all_the_same():
    assert key_frames(10, 5, 100, ends=False) == [14]


def test_self_references_are_spread_over_distant_frames():
    assert self_references(0, 0, 16, 5, 5) == [6, 8, 10, 13, 15]
    assert self_references(8, 0, 17, 5, 5) == [0, 1, 2, 15, 16]
    assert self_references(8, 4, 9, 2, 4) == [4, 5, 11, 12]
    assert self_references(8, 4, 9, 2, 1) == [4]


@pytest.mark.parametrize("slots", [1, 2, 5, 100])
@pytest.mark.parametrize("key", [0, 7, 15])
def test_self_references_are_distant_ordered_and_none_twice(key, slots):
    chosen = self_references(key, 0, 16, 3, slots)
    candidates = [index for index in range(16) if abs(index - key) > 3]
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(candidates)
    assert len(chosen) == min(slots, len(candidates))
    if slots > 1:
        assert (chosen[0], chosen[-1]) == (candidates[0], candidates[-1])


def test_a_short_clip_or_no_slot_has_no_self_references():
    assert self_references(3, 0, 6, 5, 5) == []
    assert self_references(0, 0, 6, 5, 5) == []
    assert self_references(0, 0, 100, 5, 0) == []
    assert self_references(0, 0, 100, 5, -2) == []
