"""Key-frames, and the frames that serve as references for them."""

import numpy as np
import pytest

from ldip_jax.inference.keyframes import (
    key_frames_for_stills,
    select_key_frames,
    select_self_references,
    shots,
)
from tests.scenes import blocks


def test_key_frames_are_a_stride_apart_and_include_both_ends():
    assert select_key_frames(0, 20, 8, ends=True) == [0, 8, 16, 19]
    assert select_key_frames(0, 17, 8, ends=True) == [0, 8, 16]
    # An end next to a key-frame is not one itself.
    assert select_key_frames(0, 18, 8, ends=True) == [0, 8, 16]
    assert select_key_frames(0, 2, 8, ends=True) == [0]
    assert select_key_frames(0, 1, 8, ends=True) == [0]
    assert select_key_frames(0, 3, 1, ends=True) == [0, 1, 2]


def test_a_window_in_the_middle_has_the_key_frames_of_the_clip():
    """A frame that lies in two windows is a key-frame in both or in neither."""
    whole = set(select_key_frames(0, 60, 8, ends=True))
    for first in range(40):
        window = select_key_frames(first, 20, 8, ends=False)
        assert set(window) == {index for index in whole if first <= index < first + 20}


def test_a_window_without_a_multiple_of_the_stride_still_has_a_key_frame():
    assert select_key_frames(10, 5, 100, ends=False) == [14]


def test_shots_lie_between_cuts():
    assert shots(10, 20, ()) == [range(10, 30)]
    assert shots(10, 20, {15, 27, 10, 30, 3, 99}) == [range(10, 15), range(15, 27), range(27, 30)]


def test_every_shot_has_key_frames_at_its_ends():
    assert select_key_frames(0, 40, 16, ends=True, cuts=(9, 21)) == [0, 8, 9, 16, 20, 21, 32, 39]
    # A shot shorter than a quarter of the stride has only one.
    assert select_key_frames(0, 40, 16, ends=True, cuts=(17, 20)) == [0, 16, 17, 20, 32, 39]
    for cut in range(1, 20):
        keys = select_key_frames(0, 20, 8, ends=True, cuts={cut})
        for shot in shots(0, 20, {cut}):
            inside = [key for key in keys if key in shot]
            # No frame of a shot is further from a key-frame than it would be without the cut.
            assert all(min(abs(index - key) for key in inside) <= 4 for index in shot)


def test_windows_agree_on_the_key_frames_of_shots():
    cuts = (13, 30, 46)
    whole = set(select_key_frames(0, 60, 8, ends=True, cuts=cuts))
    for first in range(40):
        window = set(select_key_frames(first, 20, 8, ends=False, cuts=cuts))
        # All but those that depend on a key-frame outside the window.
        inner = range(first + 2, first + 18)
        assert window & set(inner) == whole & set(inner)


def scene(place):
    """A frame of a pan over blocks."""
    return SCENE[:64, 6 * place : 6 * place + 96]


SCENE = blocks(11, 64, 220)
FRAMES = [scene(place) for place in range(17)]


@pytest.mark.parametrize("height", [64, 200])
def test_a_still_makes_its_frame_a_key_frame_at_any_exposure_and_size(height):
    still = np.clip(0.55 * FRAMES[4] + 0.2, 0, 1)
    still = np.asarray(still.repeat(3, 0).repeat(3, 1) if height > 64 else still)
    assert key_frames_for_stills(FRAMES, [still], [0, 8, 16], 8) == {4}
    assert key_frames_for_stills(FRAMES, [still, still], [0, 8, 16], 8) == {4}


def test_a_still_adds_no_key_frame_next_to_another():
    for place in (0, 1, 7, 8, 9):
        assert key_frames_for_stills(FRAMES, [FRAMES[place]], [0, 8, 16], 8) == set()
    assert key_frames_for_stills(FRAMES, [FRAMES[2], FRAMES[3], FRAMES[12]], [0, 8, 16], 8) == {2, 12}


def test_an_unrelated_still_adds_no_key_frame(rng):
    others = [blocks(seed, 80, 120) for seed in (1, 2, 3)] + [rng.random((64, 96, 3), np.float32)]
    others.append(np.full((64, 96, 3), 0.5, np.float32))
    assert key_frames_for_stills(FRAMES, others, [0, 8, 16], 8) == set()


def test_a_still_of_a_static_clip_adds_no_key_frame(rng):
    """Apart from noise, every frame is as good as the key-frames."""
    frames = [FRAMES[0] + 0.02 * rng.standard_normal(FRAMES[0].shape).astype(np.float32) for _ in range(17)]
    assert key_frames_for_stills(frames, [FRAMES[0]], [0, 8, 16], 8) == set()


def test_self_references_are_spread_over_distant_frames():
    assert select_self_references(0, 0, 16, 5, 5) == [6, 8, 10, 13, 15]
    assert select_self_references(8, 0, 17, 5, 5) == [0, 1, 2, 15, 16]
    assert select_self_references(8, 4, 9, 2, 4) == [4, 5, 11, 12]
    assert select_self_references(8, 4, 9, 2, 1) == [4]


@pytest.mark.parametrize("slots", [1, 2, 5, 100])
@pytest.mark.parametrize("key", [0, 7, 15])
def test_self_references_are_distant_ordered_and_distinct(key, slots):
    chosen = select_self_references(key, 0, 16, 3, slots)
    candidates = [index for index in range(16) if abs(index - key) > 3]
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(candidates)
    assert len(chosen) == min(slots, len(candidates))
    if slots > 1:
        assert (chosen[0], chosen[-1]) == (candidates[0], candidates[-1])


def test_a_short_clip_or_no_slots_give_no_self_references():
    assert select_self_references(3, 0, 6, 5, 5) == []
    assert select_self_references(0, 0, 6, 5, 5) == []
    assert select_self_references(0, 0, 100, 5, 0) == []
    assert select_self_references(0, 0, 100, 5, -2) == []
