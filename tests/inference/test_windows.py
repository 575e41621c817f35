"""Windows over a clip: every frame once, in order, with context at seams, read lazily."""

from itertools import pairwise

import numpy as np
import pytest

from ldip_jax.inference import streaming as module
from ldip_jax.inference.keyframes import select_key_frames
from ldip_jax.inference.streaming import MAX_LENGTH, MAX_OVERLAP, OVERLAP, overlap, window_length, windows

LENGTH, SHARED = 10, 3


def cut(count, length=LENGTH, overlap=SHARED):
    return list(windows(range(count), length, overlap))


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19, 40, 101])
def test_every_frame_is_kept_once_in_order_with_context_on_both_sides(count):
    cuts = cut(count)
    kept = [window.frames[place] for window in cuts for place in window.keep]
    assert kept == list(range(count))
    assert [window.last for window in cuts] == [False] * (len(cuts) - 1) + [True]
    for window in cuts:
        assert len(window.frames) <= LENGTH
        assert window.frames == list(range(window.first, window.first + len(window.frames)))
        assert window.keep.start == (0 if window.first == 0 else SHARED)
        beyond = len(window.frames) - window.keep.stop
        assert beyond == (0 if window.last else SHARED)


def test_a_clip_as_long_as_a_window_is_not_split():
    assert len(cut(LENGTH)) == 1
    assert len(cut(LENGTH + 1)) == 2


def test_no_frames_give_no_windows():
    assert cut(0) == []


def test_frames_are_read_only_when_needed():
    read = []

    def source():
        for index in range(1000):
            read.append(index)
            yield index

    stream = windows(source(), LENGTH, SHARED)
    for number in range(1, 6):
        next(stream)
        # One frame ahead, to know whether the clip continues.
        assert len(read) == LENGTH + 1 + (number - 1) * (LENGTH - 2 * SHARED)


def test_a_window_does_not_change_when_the_next_is_read():
    stream = windows(range(100), LENGTH, SHARED)
    first = next(stream)
    before = list(first.frames)
    next(stream)
    assert first.frames == before


def test_lengths_follow_the_budget_within_bounds(monkeypatch):
    for propagation in (None, "hrip", "carry", "both"):
        assert window_length((16, 16), (64, 64), 131, propagation) == MAX_LENGTH
        for shared in (OVERLAP, MAX_OVERLAP):
            assert window_length((2160, 3840), (8640, 15360), 131, propagation, shared) == 3 * shared
    size, out = (180, 320), (720, 1280)
    lengths = {
        propagation: window_length(size, out, 131, propagation)
        for propagation in (None, "hrip", "carry", "both")
    }
    assert 3 * OVERLAP < lengths["hrip"] == lengths["both"] < lengths["carry"] < lengths[None] <= MAX_LENGTH
    # What is held for a frame: LR features and frame; with LRRF a float16 image, with HRIP a residual too.
    image, residual = np.prod(out) * 3 * 2, np.prod(out) * 64 * 2
    assert lengths["carry"] * (image + np.prod(size) * 64 * 4) <= module.BUDGET
    assert lengths["hrip"] * (image + residual + np.prod(size) * 64 * 4) <= module.BUDGET
    assert window_length(size, out, 600, None) < lengths[None]
    monkeypatch.setattr(module, "BUDGET", module.BUDGET // 2)
    assert window_length(size, out, 131, "carry") == pytest.approx(lengths["carry"] / 2, abs=1)


@pytest.mark.parametrize("stride", [1, 3, 6, 8, 13, 16, 30])
def test_a_frame_beside_a_seam_has_the_same_key_frames_in_both_windows(stride):
    shared = overlap(stride)

    def neighbours(window, frame):
        keys = select_key_frames(window.first, len(window.frames), stride, ends=window.last)
        return max(k for k in keys if k <= frame), min((k for k in keys if k >= frame), default=None)

    cuts = cut(6 * max(shared, 16) + 4, 3 * shared, shared)
    assert len(cuts) > 2
    for one, two in pairwise(cuts):
        seam = one.first + one.keep.stop
        assert seam == two.first + two.keep.start
        for frame in (seam - 1, seam):
            assert neighbours(one, frame) == neighbours(two, frame)


def test_the_overlap_is_bounded():
    assert overlap(1) == OVERLAP
    assert overlap(1000) == MAX_OVERLAP


@pytest.mark.parametrize("shared", [OVERLAP, MAX_OVERLAP])
def test_even_the_shortest_windows_advance(shared):
    shortest = window_length((2160, 3840), (8640, 15360), 131, "hrip", shared)
    assert [window.frames[i] for window in cut(80, shortest, shared) for i in window.keep] == list(range(80))
