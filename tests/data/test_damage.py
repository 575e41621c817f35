"""Damaged LR clips and jittered references: what changes, what stays, and that it is repeatable."""

from dataclasses import replace

import numpy as np
import pytest

from configs.common import base
from ldip_jax.data.clips import SamplingSpec, draw_sample
from ldip_jax.data.crop_spec import CropSpec
from ldip_jax.data.crops import draw_crop
from ldip_jax.data.damage import InputDamageConfig, ReferenceJitterConfig
from ldip_jax.data.datasets import sampling_spec
from ldip_jax.data.synthetic import SyntheticClips
from ldip_jax.errors import InputError
from tests.data.footage import Coordinates, psnr
from tests.data.record import draw_reference, random_record

SPEC = SamplingSpec(context_frames=8, target_frames=3, max_key_frames=2, max_references=2)
ALL = InputDamageConfig(noise=1.0, jpeg=1.0, h264=1.0)
EACH = [replace(InputDamageConfig(), **{kind: 1.0}) for kind in ("noise", "jpeg", "h264")]


def sample(spec, seed=0, size=(72, 100)):
    clips = SyntheticClips(size, 12)
    return draw_sample(spec, clips[seed], np.random.default_rng(seed))


def assert_same_but(a, b, *fields):
    for name, x, y in zip(a._fields, a, b, strict=True):
        if name not in fields:
            np.testing.assert_array_equal(x, y, err_msg=name)


def test_nothing_is_damaged_by_default():
    spec = sampling_spec(base().data)
    assert (spec.input, spec.jitter) == (InputDamageConfig(), ReferenceJitterConfig())
    assert not InputDamageConfig().active
    rng = np.random.default_rng(3)
    draw_sample(SPEC, SyntheticClips((72, 100), 12)[0], rng)
    # As many random numbers are drawn as without damage, so those that follow are the same.
    assert rng.integers(2**31) == 1_028_754_829
    assert (sample(SPEC).damage, sample(SPEC).references) == ("", None)


@pytest.mark.parametrize("damage", [*EACH, ALL])
def test_only_lr_frames_are_damaged_and_the_same_each_time(damage):
    for seed in range(3):
        clean, damaged = sample(SPEC, seed), sample(replace(SPEC, input=damage), seed)
        assert_same_but(clean, damaged, "lr", "damage")
        assert clean.lr.shape == damaged.lr.shape
        assert 14 < psnr(clean.lr, damaged.lr) < 50
        again = sample(replace(SPEC, input=damage), seed)
        np.testing.assert_array_equal(damaged.lr, again.lr)
        assert damaged.damage == again.damage != ""


def test_quality_falls_with_the_rate_factor():
    quality = []
    for crf in (15.0, 25.0, 35.0):
        spec = replace(SPEC, input=InputDamageConfig(h264=1.0, crf=(crf, crf)))
        quality.append(np.mean([psnr(sample(SPEC, seed).lr, sample(spec, seed).lr) for seed in range(3)]))
    assert quality[0] > quality[1] + 1 > quality[2] + 2


def test_the_whole_clip_is_encoded_whatever_part_is_used():
    clip = Coordinates((24, 36), count=8)
    spec = SamplingSpec(context_frames=8, target_frames=2, max_key_frames=1, max_references=0, augment=False)
    draw_sample(spec, clip, np.random.default_rng(0))
    assert len(clip.decoded) == 2
    clip.decoded.clear()
    draw_sample(replace(spec, input=InputDamageConfig(h264=1.0)), clip, np.random.default_rng(0))
    assert sorted(clip.decoded) == list(range(8))


def test_shares_and_ranges_are_those_of_the_config():
    damage = InputDamageConfig(noise=0.2, jpeg=0.5, h264=0.8)
    drawn = [damage.draw_damage(np.random.default_rng(seed)) for seed in range(500)]
    for name, wanted in (("sigma", 0.2), ("quality", 0.5), ("crf", 0.8)):
        np.testing.assert_allclose(np.mean([getattr(d, name) is not None for d in drawn]), wanted, atol=0.06)
    crf = np.array([d.crf for d in drawn if d.crf is not None])
    assert 15 <= crf.min() < 17
    assert 33 < crf.max() <= 35
    np.testing.assert_allclose(crf.mean(), 25, atol=1)
    assert len({d.gop for d in drawn}) == 4
    assert len({d.preset for d in drawn}) == 5


def test_only_references_are_jittered():
    spec = replace(SPEC, jitter=ReferenceJitterConfig(share=1.0))
    changed = 0
    for seed in range(4):
        clean, jittered = sample(SPEC, seed), sample(spec, seed)
        assert_same_but(clean, jittered, "references")
        assert jittered.references is not None
        np.testing.assert_array_equal(jittered.references, sample(spec, seed).references)
        used = set(jittered.candidates[jittered.candidates >= 0].tolist())
        for place, (frame, reference) in enumerate(zip(clean.hr, jittered.references, strict=True)):
            if place not in used:
                np.testing.assert_array_equal(frame, reference)
            changed += place in used and bool((frame != reference).any())
    assert changed >= 4
    both = sample(replace(spec, input=ALL))
    np.testing.assert_array_equal(both.references, sample(spec).references)


def test_the_share_of_jittered_references():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    jitter = ReferenceJitterConfig(share=0.4)
    changed = [(jitter(image, np.random.default_rng(seed)) != image).any() for seed in range(400)]
    # One of 16 that are drawn has none of the four.
    np.testing.assert_allclose(np.mean(changed), 0.4 * 15 / 16, atol=0.08)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: InputDamageConfig(h264=1.5), "input.h264=1.5"),
        (lambda: InputDamageConfig(noise=-0.1), "input.noise=-0.1"),
        (lambda: InputDamageConfig(crf=(35.0, 15.0)), "input.crf=(35.0, 15.0)"),
        (lambda: InputDamageConfig(quality=(0.0, 90.0)), "input.quality"),
        (lambda: ReferenceJitterConfig(share=2.0), "reference_jitter.share=2.0"),
        (lambda: ReferenceJitterConfig(blur=-1.0), "reference_jitter.blur=-1.0"),
    ],
)
def test_invalid_settings_are_refused(make, field):
    with pytest.raises(InputError) as error:
        make()
    assert field in str(error.value)
    assert "choose" in str(error.value) or "needed" in str(error.value)


def test_self_references_are_the_lr_frames_of_a_damaged_clip(rng):
    """Under its warp, a reference at LR size shows the damaged frame at the same place."""
    record = random_record(rng, size=(24, 28))
    y, x = np.mgrid[:24, :28]
    low = np.stack([x * 8, y * 8, x * 0 + 77], axis=-1).astype(np.uint8)
    record = record._replace(lr_references=np.stack([low] * len(record.references)))
    spec = CropSpec(
        target_frames=3,
        hr_side=32,
        reference_side=48,
        window_jitter=4,
        max_key_frames=2,
        max_references=3,
        self_references=1.0,
    )
    seen = 0
    for seed in range(6):
        drawn = draw_crop(record, draw_reference(record), np.random.default_rng(seed), spec)
        plain = draw_crop(
            record._replace(lr_references=None), draw_reference(record), np.random.default_rng(seed), spec
        )
        for k, n in zip(*np.nonzero(drawn.valid), strict=True):
            h, w = drawn.sizes[k, n]
            assert (drawn.images[k, n, :h, :w, 2] == 77).all()
            # Both show the same part of the clip, so places in it advance alike.
            np.testing.assert_allclose(np.diff(drawn.warps[k, n], axis=0), np.diff(plain.warps[k, n], axis=0))
            corner = drawn.images[k, n, 0, 0, :2] / 8
            places = drawn.warps[k, n] + corner
            moves = (places + 0.5) * 4 - 0.5
            assert np.ptp(moves[..., 0] - np.arange(32), axis=1).max() < 1e-3
            key = record.warps[:, :, ::4, ::4]
            found = np.abs(key[..., None, None, :] - moves[0, 0]).max(axis=-1).min()
            assert found < 4
            seen += 1
    assert seen > 10
