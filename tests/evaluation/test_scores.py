"""Clips scored in lockstep, with stubs instead of readers."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.evaluation.metrics import frame_metrics
from ldip_jax.evaluation.scores import (
    ALWAYS,
    HIGHEST_PSNR,
    ClipScore,
    average,
    score_clips,
    score_frame,
    score_frames,
)
from ldip_jax.media.clip import Clip
from ldip_jax.media.color import SRGB


def stub(name: str, images: list[np.ndarray], counted: bool = True) -> tuple[Clip, list[int]]:
    """A clip with the given frames, and the indices of those read so far."""
    taken = []

    def decode(first: int) -> Iterator[np.ndarray]:
        for index, image in enumerate(images[first:], first):
            taken.append(index)
            yield image

    height, width = images[0].shape[:2] if images else (0, 0)
    return Clip(
        path=Path(name),
        kind="images",
        height=height,
        width=width,
        count=len(images) if counted else None,
        fps=None,
        names=[],
        notes=[],
        color=SRGB,
        decode=decode,
    ), taken


def images(rng, n, h=16, w=24):
    return [rng.random((h, w, 3), np.float32) for _ in range(n)]


def test_every_frame_is_scored_with_its_counterpart_and_read_in_step(rng):
    frames_a, frames_b = images(rng, 3), images(rng, 3)
    (a, taken_a), (b, taken_b) = stub("a", frames_a), stub("b", frames_b)
    scores = score_clips(a, b)
    first = next(scores)
    assert taken_a == taken_b == [0]
    for pair, scored in zip(zip(frames_a, frames_b, strict=True), [first, *scores], strict=True):
        assert scored.named(ALWAYS) == {**frame_metrics(*pair), "lpips_alex": None}


def test_equal_frames_have_a_finite_score_that_json_can_hold(rng):
    frame = images(rng, 1)[0]
    one_value_off = frame.copy()
    one_value_off[0, 0, 0] += np.where(one_value_off[0, 0, 0] > 0.5, -1, 1) / 255
    equal, nearly, far = score_frames([frame, frame, frame], [frame, one_value_off, 1 - frame])
    assert equal.psnr_y == equal.psnr_rgb == HIGHEST_PSNR
    assert equal.ssim_y == 1.0
    assert far.psnr_y < nearly.psnr_y <= HIGHEST_PSNR
    mean = average([equal, far])
    assert mean.psnr_y == pytest.approx((HIGHEST_PSNR + far.psnr_y) / 2)
    json.dumps([equal.named(ALWAYS), mean.named(ALWAYS)], allow_nan=False)


def test_average_is_none_where_nothing_was_computed(rng):
    tiny = score_frame(*images(rng, 2, 8, 8))
    assert tiny.ssim_y is None
    mean = average([tiny, tiny])
    assert mean.ssim_y is None
    assert mean.psnr_y == tiny.psnr_y
    assert average([]) == ClipScore()


def test_sizes_must_be_equal(rng):
    a, taken_a = stub("first", images(rng, 2, 16, 24))
    b, taken_b = stub("second", images(rng, 2, 24, 16))
    with pytest.raises(InputError, match=r"first is 24x16 and second is 16x24; .*one frame size"):
        next(score_clips(a, b))
    assert taken_a == taken_b == []


@pytest.mark.parametrize(("n", "m"), [(2, 3), (3, 2)])
def test_a_different_number_of_frames_is_found_before_any_work(rng, n, m):
    (a, taken_a), (b, taken_b) = stub("first", images(rng, n)), stub("second", images(rng, m))
    with pytest.raises(InputError, match=rf"first has {n} and second {m} frames; .*one length"):
        next(score_clips(a, b))
    assert taken_a == taken_b == []


@pytest.mark.parametrize("counted", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize(("n", "m"), [(1, 3), (3, 1)])
def test_a_different_number_of_frames_is_found_when_one_clip_ends(rng, n, m, counted):
    a, _ = stub("first", images(rng, n), counted[0])
    b, _ = stub("second", images(rng, m), counted[1])
    counts = ["1", "more than 1"] if n == 1 else ["more than 1", "1"]
    with pytest.raises(InputError, match=f"first has {counts[0]} and second {counts[1]} frames"):
        list(score_clips(a, b))


def test_clips_without_frames_are_refused():
    with pytest.raises(InputError, match="no frames"):
        list(score_clips(stub("a", [])[0], stub("b", [])[0]))
