"""Drawing training samples: how often each choice occurs, and that the parts of a sample agree."""

from collections import Counter

import numpy as np
import pytest

from ldip_jax.data.clips import SamplingSpec, choose_frames, draw_sample
from ldip_jax.data.oriented_crop import OrientedCrop
from ldip_jax.data.synthetic import SyntheticClips
from ldip_jax.errors import InputError
from ldip_jax.ops.imresize import imresize
from tests.data.footage import Coordinates, psnr, sample_bilinear

SMALL = (8, 12)


def samples(count, spec, clip=None):
    clip = clip or Coordinates(SMALL)
    return [draw_sample(spec, clip, np.random.default_rng(seed)) for seed in range(count)]


def share(values):
    """The share of each value."""
    total = Counter(values)
    return {value: times / sum(total.values()) for value, times in sorted(total.items())}


def choices(times, spec, count):
    return [choose_frames(spec, np.random.default_rng(seed), count) for seed in range(times)]


def test_numbers_of_key_frames_and_references_are_uniform_and_independent():
    drawn = choices(2000, SamplingSpec(), 100)
    keys = share(len(choice.key_frames) for choice in drawn)
    counts = share(int(n) for choice in drawn for n in (choice.references >= 0).sum(axis=1))
    several = [(c.references[:2] >= 0).sum(axis=1) for c in drawn if len(c.key_frames) > 1]
    assert list(keys) == [1, 2, 3]
    assert list(counts) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(list(keys.values()), 1 / 3, atol=0.04)
    np.testing.assert_allclose(list(counts.values()), 1 / 5, atol=0.04)
    assert abs(np.corrcoef(np.transpose(several))[0, 1]) < 0.1


def test_references_are_uniform_over_the_clip_and_the_key_frame_may_be_one():
    drawn = choices(1000, SamplingSpec(), 24)
    places = [int(place) for choice in drawn for place in choice.references[choice.references >= 0]]
    np.testing.assert_allclose(list(share(places).values()), 1 / 24, atol=0.01)
    own = np.mean([c.first + c.key_frames[0] in c.references[0] for c in drawn])
    # Three references on average.
    np.testing.assert_allclose(own, 3 / 24, atol=0.04)


def test_the_fewest_references_can_be_set():
    counts = {
        int(n)
        for choice in choices(100, SamplingSpec(max_references=4, min_references=2), 24)
        for n in (choice.references >= 0).sum(axis=1)
    }
    assert counts == {2, 3, 4}


def test_key_frames_are_uniform_over_the_sub_clip():
    places = [int(key) for choice in choices(1000, SamplingSpec(), 24) for key in choice.key_frames]
    np.testing.assert_allclose(list(share(places).values()), 1 / 12, atol=0.02)


def test_sub_clips_begin_anywhere_and_time_runs_both_ways():
    drawn = choices(1000, SamplingSpec(context_frames=6, target_frames=4), 8)
    shown = [c.numbers[c.first : c.first + 4] for c in drawn]
    np.testing.assert_allclose(share(int(n[1] > n[0]) for n in shown)[1], 0.5, atol=0.05)
    # C_ref has three possible starts, and C_gt has three within it.
    starts = share(int(n.min()) for n in shown)
    np.testing.assert_allclose(list(starts.values()), np.array([1, 2, 3, 2, 1]) / 9, atol=0.05)


def test_empty_slots_come_last_and_key_frames_ascend():
    for sample in samples(50, SamplingSpec()):
        assert (np.diff(sample.key_frames) > 0).all()
        filled = sample.candidates >= 0
        assert (filled[:, 0]).all()
        assert (filled[:, :-1] >= filled[:, 1:]).all()
        assert sample.key_frames.min() >= 0
        assert sample.key_frames.max() < 12
        assert sample.candidates.max() < len(sample.hr)


def test_sub_clip_is_consecutive_and_only_frames_in_use_are_decoded():
    for seed in range(30):
        clip = Coordinates(SMALL, count=100)
        sample = draw_sample(SamplingSpec(), clip, np.random.default_rng(seed))
        numbers = sample.hr[:, 0, 0, 2].astype(int)
        steps = np.diff(numbers[sample.first : sample.first + 12])
        assert np.array_equal(steps, np.full(11, steps[0]))
        assert abs(steps[0]) == 1
        assert abs(numbers[-1] - numbers[0]) < 24
        assert sorted(clip.decoded) == sorted(numbers)
        needed = {*range(sample.first, sample.first + 12), *sample.candidates[sample.candidates >= 0]}
        assert needed == set(range(len(sample.hr)))


def test_every_orientation_occurs_and_all_frames_share_it():
    seen = Counter()
    for sample in samples(160, SamplingSpec(context_frames=4, target_frames=1, max_key_frames=1)):
        red, green, _ = np.moveaxis(sample.hr, -1, 0).astype(int)
        assert (red == red[:1]).all()
        assert (green == green[:1]).all()
        right, down = red[0, 0, 1] - red[0, 0, 0], green[0, 1, 0] - green[0, 0, 0]
        across, along = red[0, 1, 0] - red[0, 0, 0], green[0, 0, 1] - green[0, 0, 0]
        seen[right, down, across, along] += 1
    assert len(seen) == 8
    assert min(seen.values()) > 5


def test_frames_keep_their_orientation_without_augmentation():
    for sample in samples(10, SamplingSpec(augment=False)):
        assert sample.hr[0, 0, 0, :2].tolist() == [0, 0]
        assert sample.hr[0, -1, -1, :2].tolist() == [11, 7]


@pytest.mark.parametrize("scale", [(4.0, 4.0), (2.5, 2.5), (1.5, 4.5)])
def test_lr_is_the_reduction_of_the_frames_and_sizes_agree(scale):
    scales = []
    for sample in samples(
        40,
        SamplingSpec(context_frames=3, target_frames=2, max_key_frames=1, max_references=1, scale=scale),
        Coordinates(),
    ):
        (H, W), (h, w) = sample.hr.shape[1:3], sample.lr.shape[1:3]
        assert sample.scale == (H / h, W / w)
        np.testing.assert_array_equal(sample.lr[0], imresize(sample.hr[0], size=(h, w)))
        scales.append(H / h)
        assert {H, W} <= {24, 36} | set(range(20, 37))
        if scale == (4.0, 4.0):
            assert sample.scale == (4.0, 4.0)
            assert {H, W} == {24, 36}
    if scale == (1.5, 4.5):
        assert min(scales) < 2.2
        assert max(scales) > 3.8


def test_lr_of_a_crop_is_the_crop_of_the_lr():
    sample = draw_sample(
        SamplingSpec(augment=False), SyntheticClips((96, 128), 12)[0], np.random.default_rng(1)
    )
    # The mirrored borders have no effect four LR pixels from the crop's edge.
    crop = imresize(sample.hr[0, 16:80, 32:112], 0.25)
    np.testing.assert_array_equal(crop[4:-4, 4:-4], sample.lr[0, 4:20, 8:28][4:-4, 4:-4])


def test_frames_that_the_scale_does_not_divide_are_cropped_at_random():
    corners = {
        tuple(s.hr[0, :, :, :2].reshape(-1, 2).min(axis=0))
        for s in samples(
            60, SamplingSpec(context_frames=2, target_frames=1, max_key_frames=1), Coordinates((10, 14))
        )
    }
    assert corners == {(x, y) for x in range(3) for y in range(3)}


@pytest.mark.parametrize("turn", range(8))
def test_oriented_crops_turn_pixels_and_places_alike(turn, rng):
    view = OrientedCrop(3, 5, 16, 20, bool(turn & 4), bool(turn & 2), bool(turn & 1))
    frame = Coordinates((24, 36)).frame(0).astype(np.float64)
    seen = view.pixels(frame)
    assert seen.shape[:2] == view.size
    places = rng.uniform(0, 15, (50, 2))
    in_frame = view.to_frame(places)
    np.testing.assert_allclose(sample_bilinear(seen, places)[..., :2], in_frame, atol=1e-9)
    np.testing.assert_allclose(view.from_frame(in_frame), places, atol=1e-12)


def test_exact_warps_flows_and_confidence_follow_the_augmentation():
    clip = SyntheticClips((64, 96), 10, seed=3)[1]
    spec = SamplingSpec(context_frames=10, target_frames=4, max_key_frames=2, max_references=2)
    gains, flow_gains = [], []
    for seed in range(8):
        sample = draw_sample(spec, clip, np.random.default_rng(seed))
        assert sample.warps is not None
        assert sample.confidence is not None
        assert sample.flows is not None
        for key, slot in zip(*np.nonzero(sample.candidates >= 0), strict=True):
            frame = sample.hr[sample.first + sample.key_frames[key]]
            reference = sample.hr[sample.candidates[key, slot]]
            shown = sample.confidence[key, slot, ..., 0] == 1
            assert shown.mean() > 0.5
            warped = sample_bilinear(reference, sample.warps[key, slot])
            gains.append(psnr(warped[shown], frame[shown]) - psnr(reference[shown], frame[shown]))
        grid = np.moveaxis(np.mgrid[: sample.lr.shape[2], : sample.lr.shape[1]], 0, -1).swapaxes(0, 1)
        for i in range(3):
            here, there = sample.lr[sample.first + i : sample.first + i + 2]
            for a, b, flow in ((here, there, sample.flows[0, i]), (there, here, sample.flows[1, i + 1])):
                flow_gains.append(psnr(sample_bilinear(b, grid + flow), a) - psnr(b, a))
        assert not sample.flows[0, -1].any()
        assert not sample.flows[1, 0].any()
    # A key-frame that is its own reference gains nothing.
    assert np.median(gains) > 8
    assert min(gains) >= 0
    assert np.median(flow_gains) > 1.5


def test_a_key_frame_matches_itself_everywhere():
    clip = SyntheticClips((32, 48), 1)[0]
    sample = draw_sample(
        SamplingSpec(context_frames=1, target_frames=1, max_key_frames=1), clip, np.random.default_rng(0)
    )
    assert sample.warps is not None
    assert sample.confidence is not None
    x, y = np.meshgrid(np.arange(sample.hr.shape[2]), np.arange(sample.hr.shape[1]))
    filled = sample.candidates[0] >= 0
    np.testing.assert_allclose(
        sample.warps[0, filled],
        np.broadcast_to(np.stack([x, y], -1), sample.warps[0, filled].shape),
        atol=1e-4,
    )
    assert (sample.confidence[0, filled] == 1).all()
    assert not sample.confidence[0, ~filled].any()


def test_short_clips_are_used_whole_or_refused_by_name():
    sample = draw_sample(SamplingSpec(), Coordinates(SMALL, count=12), np.random.default_rng(0))
    assert sample.first == 0
    with pytest.raises(InputError, match=r"brief: has 11 frames, fewer than the 12"):
        draw_sample(SamplingSpec(), Coordinates(SMALL, count=11, name="brief"), np.random.default_rng(0))
    with pytest.raises(InputError, match="tiny: is too small"):
        draw_sample(SamplingSpec(), Coordinates((3, 12), name="tiny"), np.random.default_rng(0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_frames": 25},
        {"target_frames": 0},
        {"max_key_frames": 0},
        {"max_key_frames": 13},
        {"max_references": -1},
        {"min_references": 6},
        {"scale": (0.5, 4.0)},
        {"scale": (4.5, 1.5)},
        {"scale": (4.0, 9.0)},
    ],
)
def test_invalid_sampling_specs_are_refused(wrong):
    with pytest.raises(InputError, match="choose"):
        SamplingSpec(**wrong)


def test_same_seed_same_sample():
    clip = SyntheticClips((32, 48), 8)[2]
    spec = SamplingSpec(context_frames=8, target_frames=4, scale=(1.5, 4.5))
    first, second = (draw_sample(spec, clip, np.random.default_rng(5)) for _ in range(2))
    other = draw_sample(spec, clip, np.random.default_rng(6))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert other.hr.shape != first.hr.shape or (other.hr != first.hr).any()
