"""The frozen networks' output: float32 in live training, bfloat16 in files."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from ldip_jax.data.clips import SamplingSpec, draw_sample
from ldip_jax.data.crop_spec import CropSpec
from ldip_jax.data.crops import draw_crop, stack
from ldip_jax.data.damage import InputDamageConfig, ReferenceJitterConfig
from ldip_jax.data.records import load_record, save_record
from ldip_jax.data.synthetic import SyntheticClips
from ldip_jax.models.networks import BACKBONES
from ldip_jax.training.frozen import FrozenNetworks
from tests.data.footage import Coordinates
from tests.data.record import draw_reference
from tests.networks import random_backbone


@pytest.fixture(scope="module")
def work():
    backbone = random_backbone(1)
    return FrozenNetworks(BACKBONES[backbone.network](**backbone.config), backbone.params, None)


@pytest.fixture
def clip(rng):
    return draw_sample(
        SamplingSpec(context_frames=3, target_frames=3, max_key_frames=1, max_references=0),
        Coordinates((32, 40), 3),
        rng,
    )


def test_live_features_equal_those_of_inference_and_only_files_round_them(work, clip, tmp_path):
    record = work(clip)
    frames = jnp.asarray(clip.lr[None], jnp.float32) / 255.0
    assert record.features.dtype == np.float32
    np.testing.assert_array_equal(record.features, work.features(frames)[0][0])
    assert (record.features != record.features.astype(ml_dtypes.bfloat16)).mean() > 0.9
    save_record(tmp_path / "a.safetensors", record, {})
    stored = load_record(tmp_path / "a.safetensors").features
    assert stored.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(stored, record.features.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("stored", [False, True])
def test_batches_keep_the_type_and_one_program_serves_them(work, clip, tmp_path, stored):
    spec = CropSpec(target_frames=2, hr_side=16, max_references=0)
    record = work(clip)
    if stored:
        save_record(tmp_path / "a.safetensors", record, {})
        record = load_record(tmp_path / "a.safetensors")
    traces = []
    program = jax.jit(lambda batch: traces.append(batch.features.dtype) or batch.hr)
    for seed in range(2):
        samples = [
            draw_crop(record, draw_reference(record), np.random.default_rng([seed, i]), spec)
            for i in range(2)
        ]
        program(stack(samples, (0, 0)))
    assert traces == [ml_dtypes.bfloat16 if stored else np.float32]


def test_the_networks_see_damaged_frames_and_jittered_references(work, rng):
    spec = SamplingSpec(
        context_frames=3, target_frames=2, max_key_frames=1, max_references=2, min_references=2
    )
    spec = replace(spec, input=InputDamageConfig(h264=1.0), jitter=ReferenceJitterConfig(share=1.0))
    clip = draw_sample(spec, SyntheticClips((32, 40), 3)[0], rng)
    record = work(clip)
    used = np.unique(clip.candidates[clip.candidates >= 0])
    span = slice(clip.first, clip.first + clip.count)
    frames = jnp.asarray(clip.lr[None, span], jnp.float32) / 255.0
    np.testing.assert_array_equal(record.features, work.features(frames)[0][0])
    np.testing.assert_array_equal(record.hr, clip.hr[span])
    np.testing.assert_array_equal(record.references, clip.references[used])
    np.testing.assert_array_equal(record.lr_references, clip.lr[used])
