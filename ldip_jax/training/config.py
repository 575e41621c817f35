"""The training config: its fields, its checks, and whether a run may be resumed with it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ldip_jax.command import METHODS
from ldip_jax.data.config import DataConfig
from ldip_jax.data.crop_spec import CropSpec
from ldip_jax.errors import InputError, first_few
from ldip_jax.models.carry import PROPAGATIONS
from ldip_jax.models.decoder import HOOKS
from ldip_jax.models.ref_fusion import ATTENTIONS, GATES
from ldip_jax.settings import check_settings, former_names, setting, settings, settings_table
from ldip_jax.weights.mrefsr import ENCODERS, MATCHES, MOST_BLOCKS, PUBLISHED
from ldip_jax.weights.rules import flatten


@dataclass(slots=True)
class LRRFConfig:
    """`config.lrrf`: options of LRRF."""

    feature_scale: float = setting(
        0.0, "standard deviation of the backbone's HR features; 0: measured on training clips", minimum=0
    )
    attention: str = setting(
        "ica", "attention of Ref-Fusion: ICA, or plain cross attention", choices=ATTENTIONS
    )
    gate: str = setting("none", "what limits the influence of references without a match", choices=GATES)


@dataclass(slots=True)
class HeadConfig:
    """`config.as_head`: options of the arbitrary-scale head."""

    pixel_size: bool = setting(True, "whether the head is given the size of a pixel; ours")


@dataclass(slots=True)
class MRefSRConfig:
    """`config.mrefsr`: the method that the paper compares with; see docs/mrefsr.md."""

    blocks: int = setting(PUBLISHED["blocks"], "residual blocks of each of the four stacks", minimum=1)
    encoder: str = setting(ENCODERS[0], "what references' features come from", choices=ENCODERS)
    matches: str = setting(
        MATCHES[0], "what matches come from: C2-Matching's extractor, or VGG-16 in its place", choices=MATCHES
    )
    extractor: str = setting("", "C2-Matching's file; not needed for VGG-16")
    vgg: str = setting("", "file of the encoder, `seeded` for random weights; fetched if empty")


@dataclass(slots=True)
class TrainingConfig:
    """Everything that decides what a run trains and how; by default, the paper's settings for LRRF at x4.

    Config files change what they need, and `--config.NAME=VALUE` any field. If a run was started before a
    field existed, it is resumed with the field's default: a new field's default must change nothing.
    """

    seed: int = setting(0, "seed of initial parameters and of samples")
    method: str = setting("ldip", "LDIP, or MRefSR, the method that it is compared with", choices=METHODS)
    mrefsr: MRefSRConfig = field(default_factory=MRefSRConfig)
    backbone: str = setting("basicvsr-reds4", "the frozen network: a name of `ldip weights list`, or a file")
    matcher: str = setting("gmflow", "the matcher: `gmflow`, `flow`, or a folder of dense matches")
    flow: str = setting(
        "spynet",
        "optical flow for HRIP and carry, also at inference: `spynet` (the backbone's own), `raft-large`,"
        " `raft-small`, `gmflow`, or a file",
    )
    trains: tuple[str, ...] = setting(
        ("lrrf",), 'what is trained: `("lrrf",)` or `("as_head", "as_decoder")`'
    )
    init_from: str = setting(
        "", "the export to start from, or several of different components, separated by commas"
    )
    hook: str = setting("hr_pre", "the layer of the backbone's decoder that LRRF changes", choices=HOOKS)
    lrrf: LRRFConfig = field(default_factory=LRRFConfig)
    as_head: HeadConfig = field(default_factory=HeadConfig)
    fusion_start: str = setting(
        "plain", "initial parameters of Ref-Align and Ref-Fusion", choices=("plain", "transfer")
    )
    hrip_start: str = setting("plain", "initial parameters of HRIP", choices=("plain", "difference"))
    decoder_start: str = setting(
        "plain", "initial parameters of the arbitrary-scale decoder", choices=("plain", "backbone")
    )
    feature_loss: float = setting(
        0.0, "for the head: weight of the L1 between its features at x4 and the backbone's own", minimum=0
    )
    propagation: str = setting(
        "hrip",
        "how detail gets from key-frames to the other frames, also at inference: by HRIP, carried along"
        " flow, or both",
        choices=PROPAGATIONS,
    )
    propagate: bool = setting(True, "False: train only key-frames, at a fifth of the cost")
    steps: int = setting(100_000, "steps of the whole run", minimum=1, resume=True)
    batch_size: int = setting(2, "samples of a step, over all devices and processes", minimum=1)
    learning_rate: float = setting(2e-4, "learning rate at the start of the cosine", minimum=0)
    final_learning_rate: float = setting(1e-6, "learning rate at its end", minimum=0)
    hrip_rate: float = setting(1.0, "learning rate of HRIP divided by that of the rest", minimum=0)
    warmup_steps: int = setting(0, "steps of linear warm-up; fewer than `steps`", minimum=0)
    weight_decay: float = setting(0.01, "weight decay of kernels", minimum=0)
    clip_norm: float = setting(0.0, "the largest norm of the gradient; 0: any", minimum=0)
    ema: float = setting(
        0.0, "decay of the running average of the weights; 0: no average", minimum=0, below=1
    )
    dtype: str = setting("float32", "type in which features are computed", choices=("float32", "bfloat16"))
    band_pixels: int = setting(
        0,
        "pixels of a band of rows, recomputed in the backward pass to save memory; 0: whole frames",
        minimum=0,
    )
    remat_frames: bool = setting(
        False, "recompute frames of HRIP in the backward pass: half the memory, a quarter more time"
    )
    deterministic: bool = setting(
        False, "the same result bit for bit on GPUs too; slower, and without Triton kernels"
    )
    data: DataConfig = field(default_factory=DataConfig)
    log_every: int = setting(50, "steps between log entries", minimum=1, resume=True)
    validate_every: int = setting(
        1000,
        "steps between validations (PSNR of the same samples); 0: only at the end",
        minimum=0,
        resume=True,
    )
    validation_samples: int = setting(16, "samples of a validation", minimum=0, resume=True)
    checkpoint_every: int = setting(
        1000, "steps between checkpoints; 0: only at the end", minimum=0, resume=True
    )
    keep_last: int = setting(3, "newest checkpoints that are kept, besides the best", minimum=1, resume=True)
    patience: int = setting(
        10,
        "steps in a row that may be skipped because a loss or gradient is not finite",
        minimum=1,
        resume=True,
    )

    def to_dict(self) -> dict[str, Any]:
        """All values, those of groups as dictionaries; as checkpoints store them."""
        return asdict(self)

    def to_json(self) -> str:
        """The same as text; as exports store it."""
        return json.dumps(self.to_dict())


Config = TrainingConfig


class StepOptions(NamedTuple):
    """How a training step computes.

    Attributes:
        propagate: False trains only key-frames.
        dtype: compute type of features.
        ema: decay of the running average of the weights; 0 for no average.
        feature_loss: weight of `features_apart`; 0 if no head is trained.
    """

    propagate: bool
    dtype: str
    ema: float
    feature_loss: float = 0.0


def check_config(config: TrainingConfig) -> None:
    """Check each value of a config, and those that depend on each other.

    Raises:
        InputError: a value cannot be used; names the field, what is wrong with it and what it may be.
    """
    check_settings(config)
    data = config.data
    if config.warmup_steps >= config.steps:
        raise InputError(f"config.warmup_steps={config.warmup_steps}: less than {config.steps} is needed")
    if config.feature_loss and "as_head" not in config.trains:
        raise InputError(
            f"config.feature_loss={config.feature_loss}: is only for training as_head; set it to 0 otherwise"
        )
    if config.method == "mrefsr":
        _check_mrefsr(config)
    if not data.crop and not data.lr_crop:
        raise InputError("config.data.crop and config.data.lr_crop are 0: set the side of one of them")
    if data.references and not 1 <= data.fewest_references <= data.references:
        raise InputError(
            f"config.data.fewest_references={data.fewest_references}: choose from 1 to"
            f" config.data.references, {data.references}"
        )


def _check_mrefsr(config: TrainingConfig) -> None:
    data = config.data
    if config.mrefsr.blocks > MOST_BLOCKS:
        raise InputError(f"config.mrefsr.blocks={config.mrefsr.blocks}: choose from 1 to {MOST_BLOCKS}")
    if data.crop % 4 or data.crop < 12:
        raise InputError(f"config.data.crop={data.crop}: MRefSR needs a multiple of 4 of at least 12")
    if tuple(data.scale) != (4.0, 4.0):
        raise InputError(f"config.data.scale={tuple(data.scale)}: MRefSR is for (4.0, 4.0)")
    if not data.references:
        raise InputError("config.data.references=0: MRefSR needs references; set 1 or more")
    if data.records or data.validation_records:
        raise InputError("config.data.records: MRefSR is trained on clips, not on records; leave it empty")


def step_options(config: Config) -> StepOptions:
    return StepOptions(config.propagate, config.dtype, config.ema, config.feature_loss)


def needs_routes(config: Config) -> bool:
    """Whether samples need the routes along which detail is carried."""
    return "lrrf" in config.trains and config.propagate and config.propagation != "hrip"


def crop_spec(config: Config) -> CropSpec:
    """How samples are cropped from records."""
    data = config.data
    return CropSpec(
        target_frames=data.clip,
        hr_side=data.crop,
        lr_side=data.lr_crop,
        reference_side=data.window,
        window_jitter=data.jitter,
        max_key_frames=data.key_frames,
        max_references=data.references,
        min_references=data.fewest_references,
        self_references=data.self_references,
        sharp_references=data.sharp_references,
        distractors=data.distractors,
        routes=needs_routes(config),
    )


_ABSENT = object()


def check_same_run(stored: Mapping[str, Any], current: Mapping[str, Any], path: Path) -> None:
    """Compare the config and the frozen weights of a checkpoint with those of this run.

    Args:
        stored: "config" (as read from JSON) and "frozen" (sha256 by name) of the checkpoint.
        current: the same for this run.
        path: of the checkpoint, for messages.

    Raises:
        InputError: they differ in something that a resumed run may not change; names it.
    """
    known, renamed = list(settings(TrainingConfig())), former_names(TrainingConfig())
    may_change = {name for name, _, _, rule in known if rule.resume}
    # A field that was added after the run had been started had its default then.
    defaults = json.loads(json.dumps({name: value for name, _, value, _ in known}))
    before, after = (
        {**defaults, **{renamed.get(name, name): value for name, value in _flat(config).items()}}
        for config in (stored["config"], current["config"])
    )
    changed = [
        f"{name} ({_stored_value(before, name)} there, {_stored_value(after, name)} now)"
        for name in sorted(before.keys() | after.keys())
        if before.get(name, _ABSENT) != after.get(name, _ABSENT) and name not in may_change
    ]
    if changed:
        raise InputError(
            f"{path}: of a run with another config: {first_few(changed)}; undo that, or give"
            " another --workdir"
        )
    weights = [
        name
        for name in sorted(stored["frozen"].keys() | current["frozen"].keys())
        if stored["frozen"].get(name) != current["frozen"].get(name)
    ]
    if weights:
        raise InputError(
            f"{path}: trained with other frozen weights: {first_few(weights)}; restore those, or give another"
            " --workdir"
        )


def _stored_value(config: Mapping[str, Any], name: str) -> str:
    return str(config.get(name, "absent"))


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields by their names on the command line."""
    return {name.replace("/", "."): value for name, value in flatten(config).items()}


if __name__ == "__main__":
    # The table in docs/training.md.
    print(settings_table(TrainingConfig()), end="")
