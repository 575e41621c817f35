"""Training of MRefSR: samples, rates, a step at full size, and a short run that ends in a file."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.mrefsr_x4 import get_config
from ldip_jax.data.clips import SamplingSpec, draw_sample
from ldip_jax.data.datasets import sampling_spec
from ldip_jax.data.reference_crops import ReferenceSample, crop_references, draw_reference_sample
from ldip_jax.data.synthetic import SyntheticClips
from ldip_jax.errors import InputError
from ldip_jax.inference.mrefsr_model import load_mrefsr
from ldip_jax.models.networks.mrefsr import MRefSR, init_restoration, restoration_shapes
from ldip_jax.models.networks.vgg import VGG
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.imresize import imresize
from ldip_jax.training import mrefsr
from ldip_jax.training.config import check_config
from ldip_jax.training.loop import train
from ldip_jax.training.state import start_state
from ldip_jax.training.step import images
from ldip_jax.weights.network import parameter_shapes
from tests.networks import random_like

SIDE, COUNT = 32, 3


@pytest.fixture(scope="module")
def clips():
    return SyntheticClips((96, 96), 6, seed=0)


def test_a_sample_is_a_frame_and_other_frames_of_its_clip(clips):
    spec = SamplingSpec(
        context_frames=6, target_frames=3, max_key_frames=1, max_references=COUNT, min_references=COUNT
    )
    one = draw_reference_sample(spec, SIDE, 8, clips[0], np.random.default_rng(0))
    assert one.lr.shape == (SIDE // 4, SIDE // 4, 3)
    assert one.hr.shape == (SIDE, SIDE, 3)
    assert one.references.shape == (COUNT, SIDE, SIDE, 3)
    # Edges apart, LR is the reduction of HR.
    reduced = imresize(one.hr, size=(SIDE // 4, SIDE // 4))
    assert np.abs(reduced[2:-2, 2:-2].astype(int) - one.lr[2:-2, 2:-2]).max() <= 1
    again = draw_reference_sample(spec, SIDE, 8, clips[0], np.random.default_rng(0))
    jax.tree.map(np.testing.assert_array_equal, one, again)


def test_a_frame_is_never_its_own_reference(clips):
    spec = SamplingSpec(
        context_frames=6, target_frames=3, max_key_frames=1, max_references=2, min_references=2
    )
    sample = draw_sample(spec, clips[1], np.random.default_rng(1))
    key = sample.first + int(sample.key_frames[0])
    for candidates in ([key, key], [key, -1]):
        chosen = sample._replace(candidates=np.array([candidates], np.int32))
        crops = crop_references(chosen, 4, SIDE, 0, np.random.default_rng(2))
        assert all(np.any(reference != crops.hr) for reference in crops.references)


def test_frames_smaller_than_the_crop_are_named(clips):
    spec = SamplingSpec(context_frames=6, target_frames=3, max_key_frames=1)
    with pytest.raises(InputError, match=r"96x96 are smaller than data\.crop, 128"):
        draw_reference_sample(spec, 128, 0, clips[0], np.random.default_rng(0))


def test_offsets_of_the_lower_levels_learn_slowly():
    rates = mrefsr.offset_rates({"mrefsr": restoration_shapes(MRefSR(blocks=1))})["mrefsr"]
    small, large = rates["dyn_agg_restore_small"], rates["dyn_agg_restore_large"]
    assert small["offset_conv1"]["kernel"] == small["dyn_agg"]["conv_offset_mask"]["bias"] == 0.01
    assert rates["dyn_agg_restore_medium"]["offset_conv2"]["bias"] == 0.1
    assert small["dyn_agg"]["kernel"] == large["offset_conv1"]["kernel"] == 1.0


def test_parameters_start_as_in_the_official_code():
    drawn = init_restoration(MRefSR(blocks=1), 0)
    level = drawn["dyn_agg_restore_large"]
    assert not np.any(level["dyn_agg"]["conv_offset_mask"]["kernel"])
    assert np.abs(level["dyn_agg"]["kernel"]).max() <= 1 / 24
    np.testing.assert_allclose(np.std(level["offset_conv1"]["kernel"]), 0.02, rtol=0.05)
    assert level["head"]["conv_emb1_1"] == 0.25


def test_a_step_at_full_size_keeps_the_state():
    config = get_config()
    check_config(config)
    assert (config.mrefsr.encoder, config.mrefsr.matches) == ("vgg19", "c2-matching")
    assert get_config("vgg16").mrefsr.encoder == "vgg16"
    net, optimizer = MRefSR(band_pixels=None), mrefsr.optimizer(config)
    params = {"mrefsr": restoration_shapes(net)}
    state = jax.eval_shape(lambda p: start_state(p, optimizer, ema=False), params)
    vgg = parameter_shapes(VGG(), (1, 16, 16, 3))
    stems = {f"feature_extraction_image{i}": vgg for i in (1, 2)}
    side, count = config.data.crop, sampling_spec(config.data).max_references
    shapes = ((side // 4,), (side,), (count, side))
    batch = ReferenceSample(
        *(jax.ShapeDtypeStruct((config.batch_size, *shape, shape[-1], 3), np.uint8) for shape in shapes)
    )
    new, metrics = jax.eval_shape(
        partial(mrefsr.train_step, net, optimizer, 0.0), state, {"extractor": stems, "features": vgg}, batch
    )
    assert jax.tree.map(lambda x: (x.shape, x.dtype), new) == jax.tree.map(
        lambda x: (x.shape, x.dtype), state
    )
    assert set(metrics) == {"loss", "grad_norm", "skipped"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("crop", 30, r"config\.data\.crop=30: MRefSR needs a multiple of 4"),
        ("scale", (1.5, 4.5), r"config\.data\.scale"),
        ("references", 0, r"config\.data\.references=0"),
        ("records", "x", r"config\.data\.records: MRefSR is trained on clips"),
    ],
)
def test_settings_that_mrefsr_does_not_support_are_named(field, value, message):
    config = get_config("debug")
    check_config(config)
    setattr(config.data, field, value)
    with pytest.raises(InputError, match=message):
        check_config(config)


def test_a_step_changes_every_part_and_the_loss_falls(clips):
    spec = SamplingSpec(
        context_frames=6, target_frames=3, max_key_frames=1, max_references=2, min_references=2
    )
    batch = mrefsr.stack([draw_reference_sample(spec, 16, 4, clips[0], np.random.default_rng(0))])
    config = get_config("debug")
    net, optimizer = MRefSR(blocks=1), mrefsr.optimizer(config)
    vgg = random_like(parameter_shapes(VGG(), (1, 16, 16, 3)), np.random.default_rng(0))
    frozen = {"features": vgg, "extractor": {f"feature_extraction_image{i}": vgg for i in (1, 2)}}
    state = start_state({"mrefsr": init_restoration(net, 0)}, optimizer, ema=False)
    step = quick_jit(partial(mrefsr.train_step, net, optimizer, 0.0))
    losses = []
    for _ in range(3):
        after, metrics = step(state, frozen, batch)
        losses.append(float(metrics["loss"]))
        before, state = state, after
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before.params, after.params)
    assert min(jax.tree.leaves(moved)) > 0
    assert losses[-1] < losses[0]


def test_a_run_exports_a_file_that_can_be_loaded(tmp_path, monkeypatch):
    def cheap(net, params, batch):
        """In place of the networks: enlarged input, plus a number that depends on all parameters."""
        large = np.float32(1) * jnp.repeat(jnp.repeat(images(batch.lr), 4, axis=1), 4, axis=2)
        return large + 0.01 * sum(jnp.mean(leaf) for leaf in jax.tree.leaves(params["mrefsr"]))

    monkeypatch.setattr(mrefsr, "restored_images", cheap)
    config = get_config("debug")
    config.steps, config.validate_every, config.checkpoint_every = 1, 0, 0
    # With one learning rate schedule, one program serves both runs.
    schedule, scheduled = replace(config, steps=2), mrefsr.make_optimizer
    monkeypatch.setattr(mrefsr, "make_optimizer", lambda config: scheduled(schedule))
    assert train(config, tmp_path) == 0
    # Resumed: the optimizer's state and the place in the data are read back.
    config.steps = 2
    assert train(config, tmp_path) == 0
    vgg = tmp_path / "vgg.safetensors"
    model = load_mrefsr(tmp_path / "export.safetensors", extractor=vgg, vgg=vgg)
    assert model.title == "MRefSR restoration, our matches, VGG-16 features"
    start = init_restoration(MRefSR(blocks=1), config.seed)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), model.params["restoration"], start)
    assert max(jax.tree.leaves(moved)) > 1e-5
