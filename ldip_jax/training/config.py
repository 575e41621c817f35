"""From a config to the typed plans that the parts of training take."""

from typing import Any, NamedTuple

from ldip_jax.data.crops import CropPlan

Config = Any
"""An `ml_collections.ConfigDict` with the fields of `configs/common.py`."""


class StepPlan(NamedTuple):
    """How a step computes.

    Attributes:
        propagate: False leaves HRIP out: key-frames alone.
        dtype: compute type of features.
        ema: decay of the weights' average; 0: there is none.
    """

    propagate: bool
    dtype: str
    ema: float


def step_plan(config: Config) -> StepPlan:
    return StepPlan(config.propagate, config.dtype, config.ema)


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
        distractors=data.distractors,
    )
