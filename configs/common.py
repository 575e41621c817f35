"""What training configs share. `ldip_jax/training/config.py` defines the fields, with the paper's values."""

from ldip_jax.training.config import MRefSRConfig, TrainingConfig


def base() -> TrainingConfig:
    """The paper's settings for LRRF at x4 (section 8)."""
    return TrainingConfig()


def robust(config: TrainingConfig) -> TrainingConfig:
    """Beyond the paper: carried detail, a gate against useless references, averaged weights."""
    config.lrrf.gate = "max_confidence"
    config.propagation = "carry"
    config.ema = 0.999
    config.data.distractors = 0.25
    config.data.self_references = 0.25
    config.data.sharp_references = 0.5
    return config


def arbitrary_scale_head(config: TrainingConfig) -> TrainingConfig:
    """Stage 1: only the head and the decoder, without references."""
    config.trains = ("as_head", "as_decoder")
    data = config.data
    data.frames, data.references = data.clip, 0
    data.crop, data.lr_crop = 0, 64
    data.scale = (1.5, 4.5)
    return config


def arbitrary_scale(config: TrainingConfig) -> TrainingConfig:
    """Stage 2: LRRF on a frozen head."""
    config.data.scale = (1.5, 4.5)
    return config


def finish(config: TrainingConfig, arg: str) -> TrainingConfig:
    """A config with its arguments applied, which are separated by commas: "debug" and "cross"."""
    for word in filter(None, arg.split(",")):
        if word == "debug":
            debug(config)
        elif word == "cross":
            config.lrrf.attention = "cross"
        else:
            raise ValueError(f"{word}: unknown config argument; use debug or cross")
    return config


def debug(config: TrainingConfig) -> None:
    """Small enough for a laptop, offline: synthetic scenes with exact matches, a small random backbone."""
    config.backbone = "seeded"
    if config.method == "mrefsr":
        config.mrefsr = MRefSRConfig(blocks=1, encoder="vgg16", matches="vgg16", vgg="seeded")
    config.init_from = ""
    config.steps = 20
    config.batch_size = 2
    config.log_every = 5
    config.validate_every = config.checkpoint_every = 10
    config.validation_samples = 2
    data = config.data
    data.dataset = "synthetic"
    data.size = (96, 96)
    data.frames, data.clip = 6, 3
    if data.references:
        data.key_frames, data.references, data.fewest_references = 1, 2, 2
    data.window, data.jitter = 48, 8
    data.workers = 0
    if data.crop:
        data.crop = 32
    else:
        # The smallest size whose GT at x1.5 holds a multiple of 32.
        data.size, data.lr_crop = (160, 160), 32
