"""Crops of records: alignment, masks, distributions, degraded references, distractors."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from ldip_jax.data.crops import (
    CropBox,
    CropSpec,
    RecordCropper,
    cut_sample,
    draw_crop,
    matched_share,
    place_crop,
    stack,
)
from ldip_jax.data.records import save_record
from ldip_jax.errors import InputError
from tests.data.record import draw_reference, random_record

SPEC = CropSpec(
    target_frames=3, hr_side=32, reference_side=40, window_jitter=4, max_key_frames=2, max_references=3
)


@pytest.fixture
def record(rng):
    return random_record(rng)


def draws(record, spec, count, other=None):
    elsewhere = draw_reference(other or record)
    return [draw_crop(record, elsewhere, np.random.default_rng(i), spec) for i in range(count)]


def find(haystack, needle):
    """(frame, y, x) at which `needle` lies in `haystack`, both uint8 `t h w 3`."""
    t, h, w = needle.shape[:3]
    for f in range(haystack.shape[0] - t + 1):
        for y in range(haystack.shape[1] - h + 1):
            for x in range(haystack.shape[2] - w + 1):
                if np.array_equal(haystack[f, y : y + h, x : x + w], needle[0]):
                    return f, y, x
    raise AssertionError("not found")


def test_lr_features_flows_and_gt_are_cropped_at_the_same_place(record):
    for sample in draws(record, SPEC, 6):
        f, y, x = find(record.lr, sample.lr)
        np.testing.assert_array_equal(sample.hr, record.hr[f : f + 3, 4 * y : 4 * y + 32, 4 * x : 4 * x + 32])
        np.testing.assert_array_equal(sample.features, record.features[f : f + 3, y : y + 8, x : x + 8])
        np.testing.assert_array_equal(sample.to_next[:-1], record.to_next[f : f + 2, y : y + 8, x : x + 8])
        assert not sample.to_next[-1].any()
        assert not sample.to_previous[0].any()
        # The first HR pixel of an aligned x4 crop lies 3/8 of an LR pixel before the first LR pixel.
        np.testing.assert_allclose(sample.origin, -0.375)
        np.testing.assert_allclose(sample.step, 0.25)


def test_an_undegraded_reference_equals_the_key_frame_under_its_warp(record, monkeypatch):
    monkeypatch.setattr("ldip_jax.data.crops.degrade", lambda image, warp, down, up: (image, warp))
    seen = 0
    for sample in draws(record, SPEC, 20):
        for k, n in zip(*np.nonzero(sample.valid), strict=True):
            key = sample.hr[sample.key_frames[k]]
            (h, w), warp = sample.sizes[k, n], np.round(sample.warps[k, n]).astype(int)
            inside = (warp >= 0).all(-1) & (warp[..., 0] < w) & (warp[..., 1] < h)
            inside &= sample.confidence[k, n, ..., 0] > 0
            places = warp[inside]
            np.testing.assert_array_equal(sample.images[k, n][places[:, 1], places[:, 0]], key[inside])
            seen += inside.sum()
    assert seen > 10_000


def test_a_degraded_reference_keeps_its_content_in_place(rng):
    """A ramp stays a ramp at any size: its value under the warp is that of the place."""
    record = random_record(rng, size=(24, 24))
    ramp = np.broadcast_to((np.arange(96) * 2 + 20)[None, :, None], (96, 96, 3)).astype(np.uint8)
    record = record._replace(references=np.stack([ramp] * len(record.references)))
    spec = replace(SPEC, reference_side=96)
    sizes = set()
    for sample in draws(record, spec, 12):
        for k, n in zip(*np.nonzero(sample.valid), strict=True):
            h, w = sample.sizes[k, n]
            sizes.add((int(h), int(w)))
            warp, image = sample.warps[k, n], sample.images[k, n, h // 2].astype(float)
            x = warp[..., 0]
            safe = (x > 4) & (x < w - 5)
            original = np.interp(x[safe], np.arange(w), image[:w, 0])
            np.testing.assert_allclose(original, ((x[safe] + 0.5) * 96 / w - 0.5) * 2 + 20, atol=2.5)
            assert not sample.images[k, n, h:].any()
            assert not sample.images[k, n, :, w:].any()
    assert len(sizes) > 10


def test_numbers_of_key_frames_and_references_are_uniform_and_masked(record):
    samples = draws(record, replace(SPEC, target_frames=5), 400)
    keys = np.bincount([int(s.key_valid.sum()) for s in samples])
    references = np.bincount([int(n) for s in samples for n in s.valid.sum(axis=1) if n])
    assert keys[0] == 0
    assert abs(keys[1] - keys[2]) < 80
    assert references[1:].min() > 0.8 * references[1:].mean()
    for sample in samples[:50]:
        assert not sample.valid[sample.key_valid == 0].any()
        assert not sample.images[sample.valid == 0].any()
        assert (np.isin(sample.key_frames[sample.key_valid > 0], (1, 3))).all()


def test_cut_sample_uses_all_key_frames_and_references(record):
    candidates = record.candidates.copy()
    candidates[1, 2] = -1
    record = record._replace(candidates=candidates)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        spec = replace(SPEC, target_frames=5)
        place = place_crop(record, rng, spec, spec.sides(4.0), partial(matched_share, record))
        sample = cut_sample(record, place, draw_reference(record), rng, spec)
        filled = dict(zip(sample.key_frames.tolist(), sample.valid.sum(axis=1).tolist(), strict=True))
        assert filled == {1: 3, 3: 2}


def test_distractors_are_images_of_another_clip(record, tmp_path):
    """Two of three records are of the same clip: the third provides the images."""
    files = [tmp_path / f"{n}.safetensors" for n in range(3)]
    for file, clip, value in zip(files, ("a", "a", "b"), (10, 10, 200), strict=True):
        plain = np.full_like(record.references, value)
        save_record(file, record._replace(references=plain), {"clip": clip})
    make = RecordCropper.from_files(files, replace(SPEC, distractors=1.0, sharp_references=1.0))
    values = set()
    for seed in range(30):
        sample = make(files[0], np.random.default_rng(seed))
        values |= set(np.unique(sample.images[sample.valid > 0][:, 0, 0]).tolist())
    # Black images, the record's own ones moved or blurred, and those of the other clip.
    assert values == {0, 10, 200}
    values = {int(make._unrelated_image(files[2], np.random.default_rng(seed))[0, 0, 0]) for seed in range(9)}
    assert values == {10}


def test_scales_of_references_follow_the_paper(record):
    """s1 ~ U[1, 4], s2 ~ U[1, s1]: the remaining side is s2 / s1 of the window."""
    spec = replace(SPEC, reference_side=32, window_jitter=0)
    sizes = [
        s.sizes[k, n, 0] / 32
        for s in draws(record, spec, 500)
        for k, n in zip(*np.nonzero(s.valid), strict=True)
    ]
    rng = np.random.default_rng(0)
    down = rng.uniform(1, 4, 100_000)
    wanted = rng.uniform(1, down) / down
    assert abs(np.mean(sizes) - wanted.mean()) < 0.02
    np.testing.assert_allclose(
        np.quantile(sizes, (0.1, 0.5, 0.9)), np.quantile(wanted, (0.1, 0.5, 0.9)), atol=0.04
    )


def test_self_references_have_lr_size(record):
    spec = replace(SPEC, reference_side=40, self_references=1.0)
    sizes = {
        tuple(s.sizes[k, n])
        for s in draws(record, spec, 10)
        for k, n in zip(*np.nonzero(s.valid), strict=True)
    }
    assert sizes == {(10, 10)}


def test_sharp_references_keep_their_size(record):
    spec = replace(SPEC, reference_side=40, sharp_references=0.5, self_references=0.2)
    sizes = [
        int(s.sizes[k, n, 0])
        for s in draws(record, spec, 200)
        for k, n in zip(*np.nonzero(s.valid), strict=True)
    ]
    # A window of 40 in full, at a quarter, or in between; a fifth of the samples have only quarters.
    assert abs(np.mean(np.array(sizes) == 40) - 0.8 * 0.5) < 0.06
    assert abs(np.mean(np.array(sizes) == 10) - (0.2 + 0.8 * 0.2)) < 0.06


def test_either_all_key_frames_of_a_sample_have_stills_or_none(record):
    """At inference a clip either has stills or has none, which holds for all its key-frames."""
    spec = replace(
        SPEC, reference_side=40, max_key_frames=2, max_references=3, min_references=3, self_references=0.3
    )
    several = [s for s in draws(record, spec, 200) if s.key_valid.sum() == 2]
    quarters = np.array([(s.sizes[..., 0] == 10).all(axis=1) for s in several])
    # All three of three by chance: less than one in thirty.
    assert abs(np.mean(quarters.all(axis=1)) - 0.3) < 0.1
    assert np.mean(quarters[:, 0] != quarters[:, 1]) < 0.1


def test_distractors_have_low_confidence_unless_they_are_only_blurred(rng, record):
    other = random_record(rng)
    spec = replace(SPEC, distractors=1.0)
    confidences = [
        float(s.confidence[k, n].max())
        for s in draws(record, spec, 60, other)
        for k, n in zip(*np.nonzero(s.valid), strict=True)
    ]
    low = np.mean([c <= 0.05 for c in confidences])
    assert 0.6 < low < 0.9
    assert all(c <= 0.05 or c == 1.0 for c in confidences)


def test_the_same_seed_gives_the_same_sample(record):
    first, again = (draws(record, replace(SPEC, distractors=0.5), 3) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(("confidence", "tries"), [(1.0, 1), (0.0, 4)])
def test_a_place_is_judged_by_the_existing_references(rng, monkeypatch, confidence, tries):
    """One reference in six slots: the first place is taken if it matches, else others are tried."""
    record = random_record(rng, size=(24, 28), keys=(1,), candidates=6)
    candidates = np.array([[-1, -1, -1, 4, -1, -1]], np.int32)
    confidences = np.zeros_like(record.confidence)
    confidences[0, 3] = confidence
    record = record._replace(candidates=candidates, confidence=confidences)
    tried = []
    monkeypatch.setattr("ldip_jax.data.crops.CropBox", lambda *box: tried.append(box) or CropBox(*box))
    for seed in range(5):
        tried.clear()
        draw_crop(record, draw_reference(record), np.random.default_rng(seed), SPEC)
        assert len(tried) == tries


@pytest.mark.parametrize("scale", [1.5, 2.3, 3.7, 4.5])
def test_sides_of_crops_at_any_scale(rng, scale):
    assert CropSpec(hr_side=0, lr_side=64).sides(scale)[0] % 32 == 0
    assert 64 * scale - 32 < CropSpec(hr_side=0, lr_side=64).sides(scale)[0] <= 64 * scale
    hr, lr = CropSpec(hr_side=256).sides(scale)
    assert lr in (64, 96, 128, 192)
    assert hr <= lr * scale <= 1.5 * hr + 1e-6
    record = random_record(rng, size=(24, 24), scale=scale)
    sample = draw_crop(record, draw_reference(record), rng, replace(SPEC, hr_side=0, lr_side=22))
    last = sample.origin + sample.step * (sample.hr.shape[1] - 1)
    assert (sample.origin > -0.5).all()
    assert (last < 21.5).all()


def test_without_references_there_are_no_key_frames(record):
    sample = draws(record, replace(SPEC, max_references=0), 1)[0]
    assert not sample.key_valid.any()
    assert sample.images.shape[1] == 0
    assert stack([sample], (0, 0)).images.shape[:3] == (1, 0, 0)


def test_a_batch_keeps_the_slots_it_needs(record):
    samples = draws(record, SPEC, 3)
    k, n = SPEC.max_key_frames, SPEC.max_references
    batch = stack(samples, (k, n))
    assert batch.valid.shape == (3, k, n)
    assert batch.valid.sum() == sum(s.valid.sum() for s in samples)
    smaller = draws(record, replace(SPEC, hr_side=16), 1)
    with pytest.raises(InputError, match="several scales"):
        stack([samples[0], smaller[0]], (k, n))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(SPEC, target_frames=6), "a.safetensors: a record of 5 frames .* set data.clip lower"),
        (replace(SPEC, hr_side=128), "smaller than a crop of 128 .* set data.crop lower"),
        (replace(SPEC, hr_side=0, lr_side=4), "covers no multiple of 32"),
    ],
)
def test_a_spec_that_does_not_fit_is_named(rng, record, tmp_path, spec, message):
    path = tmp_path / "a.safetensors"
    save_record(path, record, {})
    with pytest.raises(InputError, match=message):
        RecordCropper.from_files([path], spec)(path, rng)


def test_records_of_several_scales_give_batches_of_one_scale(rng, record, tmp_path):
    half = record._replace(lr=record.lr[:, ::2, ::2], features=record.features[:, ::2, ::2])
    files = []
    for i, kind in enumerate((record, record, half)):
        files.append(tmp_path / f"{i}.safetensors")
        save_record(
            files[-1], kind._replace(to_next=kind.features[..., :2], to_previous=kind.features[..., :2]), {}
        )
    crops = RecordCropper.from_files(files, replace(SPEC, hr_side=0, lr_side=8))
    drawn = set()
    for _ in range(20):
        common = crops.draw_batch_settings(1, rng)
        sides = common[0]
        samples = [crops(file, rng, common) for file in files]
        assert {(sample.hr.shape[1], sample.lr.shape[1]) for sample in samples} == {sides}
        drawn.add(sides)
    assert len(drawn) == 2
