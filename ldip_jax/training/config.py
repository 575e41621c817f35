"""From a config to the typed plans that the parts of training take."""

from typing import Any, NamedTuple

from ldip_jax.data.crops import CropPlan
from ldip_jax.errors import InputError
from ldip_jax.models.decoder import HOOKS
from ldip_jax.models.ref_fusion import ATTENTIONS, GATES

FUSION_STARTS = ("plain", "transfer")
HRIP_STARTS = ("plain", "difference")
DECODER_STARTS = ("plain", "backbone")

Config = Any
"""An `ml_collections.ConfigDict` with the fields of `configs/common.py`."""


class StepPlan(NamedTuple):
    """How a step computes.

    Attributes:
        propagate: False leaves HRIP out: key-frames alone.
        dtype: compute type of features.
        ema: decay of the weights' average; 0: there is none.
        feature_loss: weight of `features_apart`; 0 where no head is trained.
    """

    propagate: bool
    dtype: str
    ema: float
    feature_loss: float = 0.0


def check_config(config: Config) -> None:
    """
    Raises:
        InputError: names the field, what is wrong with it and what it may be.
    """
    choices = {
        "hook": HOOKS,
        "dtype": ("float32", "bfloat16"),
        "fusion_start": FUSION_STARTS,
        "hrip_start": HRIP_STARTS,
        "decoder_start": DECODER_STARTS,
        "lrrf.attention": ATTENTIONS,
        "lrrf.gate": GATES,
    }
    for name, allowed in choices.items():
        if (value := _field(config, name)) not in allowed:
            raise InputError(f"config.{name}={value}: choose from {', '.join(allowed)}")
    least = {
        **dict.fromkeys(("steps", "batch_size", "log_every", "keep_last", "patience"), 1),
        **dict.fromkeys(("validate_every", "checkpoint_every", "warmup_steps"), 0),
        **dict.fromkeys(("validation_samples", "band_pixels", "weight_decay", "clip_norm", "ema"), 0),
        **dict.fromkeys(("learning_rate", "final_learning_rate", "hrip_rate", "lrrf.feature_scale"), 0),
        "feature_loss": 0,
        **dict.fromkeys(("data.clip", "data.window", "data.key_frames", "data.frames"), 1),
        **dict.fromkeys(("data.references", "data.jitter", "data.workers", "data.crop", "data.lr"), 0),
        **dict.fromkeys(("data.self_references", "data.sharp_references", "data.distractors"), 0),
    }
    for name, lowest in least.items():
        # What is not a number compares as False.
        if not (value := _field(config, name)) >= lowest:
            raise InputError(f"config.{name}={value}: {lowest} or more is needed")
    for name, beyond in (("ema", 1.0), ("warmup_steps", config.steps)):
        if not (value := _field(config, name)) < beyond:
            raise InputError(f"config.{name}={value}: less than {beyond:g} is needed")
    if config.feature_loss and "as_head" not in config.trains:
        raise InputError(
            f"config.feature_loss={config.feature_loss}: is for training as_head; set it to 0 without"
        )
    if not config.data.crop and not config.data.lr:
        raise InputError("config.data.crop and config.data.lr are 0: set the side of one of them")
    if config.data.references and not 1 <= config.data.fewest_references <= config.data.references:
        raise InputError(
            f"config.data.fewest_references={config.data.fewest_references}: choose from 1 to"
            f" config.data.references, {config.data.references}"
        )


def _field(config: Config, name: str) -> Any:
    for part in name.split("."):
        config = config[part]
    return config


def step_plan(config: Config) -> StepPlan:
    return StepPlan(config.propagate, config.dtype, config.ema, config.feature_loss)


def crop_plan(config: Config) -> CropPlan:
    """How samples are cut out of records."""
    data = config.data
    return CropPlan(
        frames=data.clip,
        hr=data.crop,
        lr=data.lr,
        window=data.window,
        jitter=data.jitter,
        keys=data.key_frames,
        references=data.references,
        fewest_references=data.fewest_references,
        self_references=data.self_references,
        sharp_references=data.sharp_references,
        distractors=data.distractors,
    )
