"""Hard cuts are found at the exact frame, look-alikes are not, and windows make no difference."""

import argparse
import subprocess
import sys

import numpy as np
import pytest

from ldip_jax.command import parse_cuts
from ldip_jax.data.synthetic import picture
from ldip_jax.inference.cuts import AFTER, BEFORE, CutDetector, find_cuts

SIZE = (72, 128)


def scene(seed, size=SIZE, wide=1):
    """A synthetic picture, `wide` frames wide and a few pixels to spare."""
    height, width = size
    image = picture(np.random.default_rng(seed), (height + 32, wide * width + 32))
    return image.astype(np.float32) / 255


def shot(seed, count, size=SIZE, step=1):
    """A camera that moves `step` pixels a frame."""
    image, (height, width) = scene(seed, size), size
    return [image[i // 2 : i // 2 + height, step * i : step * i + width] for i in range(count)]


def pan(seed, share, *, blur, count=12):
    """A camera at rest that starts to pan to and fro, finally by a share of the width per frame."""
    image, (height, width) = scene(seed, wide=4), SIZE
    speed, x, way, frames = round(share * width), 0, 1, []
    for i in range(count):
        step = speed * min(max(i - count // 2, 0), 2) // 2
        way = way if 0 <= x + way * step <= image.shape[1] - 2 * width else -way
        x += way * step
        exposed = [image[:height, x + d : x + d + width] for d in range(max(step // 2, 1) if blur else 1)]
        frames.append(np.mean(exposed, axis=0, dtype=np.float32))
    return frames


def mixed(one, other, share):
    return ((1 - share) * one + share * other).astype(np.float32)


@pytest.mark.parametrize("size", [(270, 480), SIZE, (36, 64), (16, 16), (16, 300), (128, 45)])
def test_hard_cuts_are_found_at_the_exact_frame(size):
    frames = shot(0, 7, size) + shot(1, 9, size) + shot(2, 6, size)
    assert find_cuts(iter(frames)) == [7, 16]


@pytest.mark.parametrize("seed", range(6))
def test_a_cut_between_shots_of_the_same_colours(seed):
    frames = shot(seed, 6)
    turned = [np.ascontiguousarray(frame[::-1, ::-1]) for frame in shot(seed, 6)]
    assert find_cuts(frames + turned) == [6]


@pytest.mark.parametrize("gain", [0.1, 0.5])
def test_a_cut_between_dark_and_noisy_shots(gain, rng):
    frames = [gain * frame + rng.normal(0, 0.005, frame.shape) for frame in shot(0, 6) + shot(1, 6)]
    assert find_cuts([np.clip(frame, 0, 1).astype(np.float32) for frame in frames]) == [6]


@pytest.mark.parametrize("seed", range(4))
def test_a_cut_between_grey_shots(seed):
    frames = shot(seed, 6) + shot(seed + 1, 6)
    assert find_cuts([np.repeat(frame[..., 1:2], 3, axis=-1) for frame in frames]) == [6]


def test_cuts_into_a_fast_pan_and_out_of_it():
    turning = pan(1, 0.25, blur=True)[7:]
    assert find_cuts(shot(0, 6) + turning + shot(2, 6)) == [6, 6 + len(turning)]


def test_a_cut_between_repeated_frames():
    for times in (2, 3):
        frames = [frame for frame in shot(0, 6, step=3) + shot(1, 6, step=3) for _ in range(times)]
        assert find_cuts(frames) == [6 * times]


@pytest.mark.parametrize("bars", [(slice(0, 10), slice(None)), (slice(None), slice(0, 20))])
def test_a_cut_between_black_bars(bars):
    frames = [frame.copy() for frame in shot(0, 6) + shot(1, 6)]
    for frame in frames:
        frame[bars] = frame[::-1, ::-1][bars] = 0
    detector = CutDetector()
    assert [cut for frame in frames for cut in detector.push(frame)] == [6]
    assert detector._links[6] < 0.4


def test_cuts_to_black_and_back():
    black = [np.zeros((*SIZE, 3), np.float32)] * 6
    assert find_cuts(shot(0, 6) + black + shot(1, 6)) == [6, 12]


def test_a_shot_of_one_frame_at_either_end():
    assert find_cuts(shot(0, 1) + shot(1, 8)) == [1]
    assert find_cuts(shot(1, 8) + shot(0, 1)) == [8]


def test_clips_of_zero_one_and_two_frames():
    assert find_cuts([]) == []
    assert find_cuts(shot(0, 1)) == []
    assert find_cuts(shot(0, 2)) == []
    assert find_cuts(shot(0, 1) + shot(1, 1)) == [1]


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("lift", [0.5, 1.0])
def test_a_flash_is_not_a_cut(length, lift):
    frames = shot(0, 16)
    for i in range(6, 6 + length):
        frames[i] = mixed(frames[i], np.ones_like(frames[i]), lift)
    assert find_cuts(frames) == []


@pytest.mark.parametrize("gain", [0.3, 0.6, 1.6])
def test_a_jump_in_exposure_is_not_a_cut(gain):
    frames = shot(0, 12)
    assert find_cuts(frames[:6] + [np.clip(gain * frame, 0, 1) for frame in frames[6:]]) == []


@pytest.mark.parametrize("length", [5, 8, 14])
def test_a_dissolve_is_not_a_cut(length):
    one, other = shot(0, length + 6), shot(1, length + 6)
    shares = np.clip(np.arange(-5, length + 1) / length, 0, 1)
    assert find_cuts([mixed(*frames) for frames in zip(one, other, shares, strict=True)]) == []


@pytest.mark.parametrize("length", [5, 8, 14])
def test_a_fade_through_black_is_not_a_cut(length):
    gains = np.concatenate([np.ones(4), np.linspace(1, 0, length), np.linspace(0, 1, length), np.ones(4)])
    frames = shot(0, 4 + length) + shot(1, 4 + length)
    assert (
        find_cuts([gain * frame for gain, frame in zip(gains.astype(np.float32), frames, strict=True)]) == []
    )


@pytest.mark.parametrize("blur", [False, True])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.3, 0.4])
def test_a_whip_pan_is_not_a_cut(share, blur):
    assert find_cuts(pan(0, share, blur=blur)) == []


def test_a_large_object_crossing_the_frame_is_not_a_cut():
    background, foreground = scene(0), scene(1)[:, :64]
    frames = []
    for x in range(-64, 128, 12):
        frame = background[: SIZE[0], : SIZE[1]].copy()
        left, right = max(x, 0), min(x + 64, SIZE[1])
        frame[:, left:right] = foreground[: SIZE[0], left - x : right - x]
        frames.append(frame)
    assert find_cuts(frames) == []


@pytest.mark.parametrize("sigma", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("gain", [0.0, 0.05, 1.0])
def test_noise_on_a_static_picture_is_not_a_cut(sigma, gain, rng):
    still = gain * shot(0, 1)[0]
    noisy = [np.clip(still + rng.normal(0, sigma, still.shape), 0, 1).astype(np.float32) for _ in range(12)]
    assert find_cuts(noisy) == []


def test_coarse_blocks_cause_no_cuts():
    coarse = [frame[::8, ::8].repeat(8, 0).repeat(8, 1) for frame in shot(0, 12)]
    assert find_cuts(coarse) == []


def test_cuts_do_not_depend_on_where_a_window_begins_and_ends():
    size = (36, 64)
    frames = shot(0, 9, size) + shot(1, 5, size) + shot(2, 4, size) + shot(3, 9, size)
    frames[22] = np.ones_like(frames[22])
    cuts = [9, 14, 18]
    assert find_cuts(frames) == cuts
    length = 16
    for first in range(len(frames) - length + 1):
        found = {first + cut for cut in find_cuts(frames[first : first + length])}
        certain = set(range(first + BEFORE, first + length - AFTER + 1))
        assert found & certain == set(cuts) & certain


def test_a_cut_is_reported_as_soon_as_it_is_certain():
    detector = CutDetector()
    reported = [detector.push(frame) for frame in shot(0, 6) + shot(1, 10)]
    assert reported == [[6] if index == 6 + AFTER - 1 else [] for index in range(16)]
    assert detector.finish() == []


def test_memory_does_not_grow():
    detector = CutDetector()
    for frame in shot(0, 30, (16, 16)):
        detector.push(frame)
    assert len(detector._thumbnails) == len(detector._links) == BEFORE + AFTER


@pytest.mark.parametrize(
    ("text", "value"),
    [("auto", "auto"), ("none", "none"), ("48", (48,)), ("120,48", (48, 120)), (" 48, 120 ", (48, 120))],
)
def test_the_argument_is_a_keyword_or_frames(text, value):
    assert parse_cuts(text) == value


@pytest.mark.parametrize(
    "text", ["", "Auto", "all", ",", "48,", "-3", "4.5", "48 120", "0", "0,48", "48,48", "٣", "²", "auto,48"]
)
def test_malformed_arguments_are_refused_in_one_line(text):
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        parse_cuts(text)
    assert repr(text) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_command_line_can_read_the_argument_without_jax():
    code = "import sys\nimport ldip_jax.inference.cuts\nassert not {'jax', 'flax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
