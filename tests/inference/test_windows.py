"""Windows over a clip: every frame once, in order, with context at cuts, read lazily."""

import numpy as np
import pytest

from ldip_jax.inference import windows as module
from ldip_jax.inference.windows import LONGEST, OVERLAP, SHORTEST, window_length, windows

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


def test_a_clip_as_long_as_a_window_is_not_cut():
    assert len(cut(LENGTH)) == 1
    assert len(cut(LENGTH + 1)) == 2


def test_no_frames_make_no_window():
    assert cut(0) == []


def test_frames_are_read_when_they_are_needed():
    read = []

    def source():
        for index in range(1000):
            read.append(index)
            yield index

    stream = windows(source(), LENGTH, SHARED)
    for number in range(1, 6):
        next(stream)
        # One frame ahead: without it nobody knows whether the clip goes on.
        assert len(read) == LENGTH + 1 + (number - 1) * (LENGTH - 2 * SHARED)


def test_a_window_does_not_change_when_the_next_is_read():
    stream = windows(range(100), LENGTH, SHARED)
    first = next(stream)
    before = list(first.frames)
    next(stream)
    assert first.frames == before


def test_lengths_follow_the_budget_between_their_bounds(monkeypatch):
    small, large = (
        window_length((16, 16), (64, 64), 131, refined=True),
        window_length((2160, 3840), (8640, 15360), 131, refined=True),
    )
    assert (small, large) == (LONGEST, SHORTEST)
    size, out = (180, 320), (720, 1280)
    refined, alone = (window_length(size, out, 131, refined=refined) for refined in (True, False))
    assert SHORTEST <= refined < alone <= LONGEST
    # What is held for a frame: LR features and frame; with LRRF a bfloat16 residual and a float16 image too.
    held = np.prod(out) * (64 * 2 + 3 * 2) + np.prod(size) * 64 * 4
    assert refined * held <= module.BUDGET
    monkeypatch.setattr(module, "BUDGET", module.BUDGET // 2)
    assert window_length(size, out, 131, refined=True) == max(refined // 2, SHORTEST)
    assert window_length(size, out, 600, refined=False) < alone


def test_even_the_shortest_window_moves_on():
    assert SHORTEST > 2 * OVERLAP
    assert [place for w in cut(50, SHORTEST, OVERLAP) for place in (w.frames[i] for i in w.keep)] == list(
        range(50)
    )
