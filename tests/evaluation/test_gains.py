"""Gains over the backbone: known gains give known reach, pulsing and worst frames."""

import numpy as np
import pytest

from ldip_jax.evaluation.clip_result import ClipResult, FrameScore
from ldip_jax.evaluation.gains import Gains, distances, frame_gains, gain_table, reach_table
from ldip_jax.evaluation.scores import ClipScore

STRIDE = 8


def results(gains, first=0, keys=None, clip="one"):
    """Results of a variant and of the backbone, whose frames differ by these gains in PSNR on Y."""
    backbone = np.random.default_rng(5).uniform(20, 40, len(gains))
    frames = range(first, first + len(gains))
    if keys is None:
        keys = [frame for place, frame in enumerate(frames) if place % STRIDE == 0 or frame == frames[-1]]

    def result(values, keys):
        rows = [FrameScore(f, ClipScore(psnr_y=v, psnr_rgb=0.0)) for f, v in zip(frames, values, strict=True)]
        return ClipResult(clip=clip, variant="full", frames=rows, inputs=list(frames), key_frames=keys)

    return result((backbone + gains).tolist(), keys), result(backbone.tolist(), [])


def gains_of(*pairs):
    return Gains([frame for pair in pairs for frame in frame_gains(*pair, "psnr_y", STRIDE)])


def test_reach_is_the_mean_gain_by_distance_from_the_nearest_key_frame():
    # The published weights on 12 frames: key-frames are the first, the ninth and the last.
    gains = [1.75, 1.29, 0.45, 0.08, -0.03, -0.05, 0.23, 1.08, 2.1, 1.07, 1.21, 1.92]
    found = gains_of(results(gains, first=19))
    assert [frame.distance for frame in found.frames] == [0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 1, 0]
    expected = {0: (5.77 / 3, 3), 1: (4.65 / 4, 4), 2: (0.34, 2), 3: (0.015, 2), 4: (-0.03, 1)}
    assert list(found.reach) == [0, 1, 2, 3, 4]
    for distance, (gain, count) in expected.items():
        assert found.reach[distance] == (pytest.approx(gain), count)
    assert found.mean == pytest.approx(11.1 / 12)
    assert found.kept_far == pytest.approx(0.0 / (5.77 / 3), abs=1e-9)


def test_frames_of_several_clips_count_once_each():
    a = results([1.0] * 9, clip="a")
    b = results([0.4] * 17, clip="b", first=100)
    found = gains_of(a, b)
    assert found.mean == pytest.approx((9 + 17 * 0.4) / 26)
    assert found.reach[4] == (pytest.approx((1.0 + 0.4 + 0.4) / 3), 3)
    assert sum(count for _, count in found.reach.values()) == 26


def test_pulsing_is_the_deviation_over_phases_of_the_key_stride():
    wave = np.array([2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    # A constant gain is not pulsing, and the first frame number does not matter.
    clips = [results(np.tile(wave, 3) + offset, clip=str(offset), first=offset) for offset in (3, 10)]
    found = gains_of(*clips)
    assert found.pulsing == pytest.approx(np.std(wave))
    assert found.relative_pulsing == pytest.approx(np.std(wave) / (0.5 + 6.5))
    steady = gains_of(results([0.7] * 24))
    assert steady.pulsing == pytest.approx(0.0, abs=1e-12)
    # Another period averages out over its phases.
    drift = gains_of(results(np.repeat([0.0, 1.0, 0.0, 1.0], 8)))
    assert drift.pulsing == pytest.approx(0.0, abs=1e-12)


def test_the_worst_frame_and_the_number_of_worse_frames():
    found = gains_of(
        results([1.0, -0.04, -0.06, -0.3, 0.0], first=7, clip="a"), results([0.5, -0.2], clip="b")
    )
    assert (found.worst.clip, found.worst.frame) == ("a", 10)
    assert found.worst.gain == pytest.approx(-0.3)
    assert found.worse_frames == 3


def test_undefined_measures_are_none():
    loss = gains_of(results([-0.5, -0.1, -0.1, -0.2, -0.3]))
    assert loss.pulsing > 0
    assert loss.relative_pulsing is None
    assert loss.kept_far is None
    bicubic = gains_of(results([-3.0, -2.0], keys=[]))
    assert bicubic.reach == {}
    assert bicubic.pulsing is bicubic.kept_far is bicubic.relative_pulsing is None
    assert bicubic.worst.gain == pytest.approx(-3.0)
    assert gains_of(results([1.0])).pulsing is None


def test_tables_show_signs_counts_and_gaps():
    columns = {
        "bicubic": gains_of(results([-3.0, -2.0, -2.0], keys=[])),
        "full": gains_of(results([1.5, 0.5, 0.25], keys=[0])),
        "other": gains_of(results([-1.0, 0.0, 0.5], keys=[0, 2])),
    }
    assert distances(columns) == [0, 1, 2]
    head, rows = reach_table(columns)
    assert head == ["frames from a key-frame", "frames", "full", "other"]
    assert rows == [
        ["0", "1 / 2", "+1.500", "-0.250"],
        ["1", "1", "+0.500", "+0.000"],
        ["2", "1", "+0.250", "-"],
    ]
    head, rows = gain_table({name: ("hrip", gains) for name, gains in columns.items()})
    assert all(len(row) == len(head) for row in rows)
    assert rows[0][:6] == ["bicubic", "hrip", "-2.333", "-", "-", "-"]
    assert rows[1][2:4] == ["+0.750", "-"]
    assert rows[1][4] == f"{np.std([1.5, 0.5, 0.25]):.3f}"
    assert rows[2][5:] == ["-", "-1.000", "one, frame 0", "1 of 3"]
