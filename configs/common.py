"""What all training plans share (paper, section 8). A plan changes what it needs; see each plan's file."""

from ml_collections import ConfigDict


def base() -> ConfigDict:
    """The paper's settings for LRRF at x4."""
    config = ConfigDict()
    config.seed = 0

    # The frozen networks, names of `ldip weights list` or files.
    config.backbone = "basicvsr-reds4"
    config.matcher = "gmflow"
    # The optical flow that HRIP follows, at inference too: "spynet", the backbone's own; or "raft-large",
    # "raft-small", "gmflow", or a file of such weights. Made-up clips bring exact flows to training.
    config.flow = "spynet"

    # What is trained: "lrrf", or "as_head" and "as_decoder"; and an export to start from, or several with
    # commas between, of different boxes ("": from scratch).
    config.trains = ("lrrf",)
    config.init_from = ""
    config.hook = "hr_pre"
    # feature_scale: standard deviation of the backbone's HR features; 0: measured over training clips.
    config.lrrf = ConfigDict({"feature_scale": 0.0, "attention": "ica", "gate": "none"})
    config.as_head = ConfigDict({"pixel_size": True})
    # First parameters: "plain", random and silent; or, of Ref-Align and Ref-Fusion, "transfer"
    # (training/fusion_start.py), and of HRIP, "difference" (training/hrip_start.py).
    config.fusion_start = "plain"
    config.hrip_start = "plain"
    # Of the arbitrary-scale decoder: "plain", or "backbone", with the layers of the backbone's own.
    config.decoder_start = "plain"
    # Of the arbitrary-scale head: weight of the L1 between its features at x4 and the backbone's own.
    config.feature_loss = 0.0
    # False: key-frames alone, without HRIP; a first phase that costs a fifth.
    config.propagate = True

    config.steps = 100_000
    config.batch_size = 2
    config.learning_rate = 2e-4
    config.final_learning_rate = 1e-6
    # HRIP's learning rate over that of the rest.
    config.hrip_rate = 1.0
    config.warmup_steps = 0
    config.weight_decay = 0.01
    config.clip_norm = 0.0
    config.ema = 0.0
    config.dtype = "float32"
    # Pixels per band of rows, 0: whole frames. Bands are recomputed in the backward pass: less memory.
    config.band_pixels = 0
    # Recompute whole frames of HRIP in the backward pass: half the memory of long clips, a quarter more time.
    config.remat_frames = False
    # Bit-reproducible on GPUs too, where sums of gathers' gradients are not otherwise; slower.
    config.deterministic = False

    data = config.data = ConfigDict()
    # A prepared data set (`python -m ldip_jax.data.prepare`), or a folder of records made from one.
    data.dataset = "reds"
    data.data_dir = ""
    data.records = ""
    data.validation_records = ""
    data.validation_split = ""
    data.heldout = "configs/heldout.json"
    data.workers = 4
    # C_ref and C_gt, frames. Sides of crops (lr = 0: what covers `crop`; crop = 0: what `lr` covers).
    data.frames = 24
    data.clip = 12
    data.crop = 256
    data.lr = 0
    data.scale = (4.0, 4.0)
    data.augment = True
    # (height, width) of made-up frames: data sets "synthetic" and "stills".
    data.size = (256, 256)
    # At most so many key-frames and references; 1 to that many are drawn.
    data.key_frames = 3
    data.references = 5
    data.fewest_references = 1
    data.window = 256
    data.jitter = 64
    # Beyond the paper: shares of references at LR size, of sharp ones, and of useless ones.
    data.self_references = 0.0
    data.sharp_references = 0.0
    data.distractors = 0.0

    config.log_every = 50
    # PSNR over the same few samples, and one of them as an image.
    config.validate_every = 1000
    config.validation_samples = 16
    config.checkpoint_every = 1000
    config.keep_last = 3
    # Steps in a row that may be skipped because something was not finite.
    config.patience = 10
    return config


def robust(config: ConfigDict) -> ConfigDict:
    """Beyond the paper: useless references in training, the gate that silences them, averaged weights."""
    config.lrrf.gate = "max_confidence"
    config.ema = 0.999
    config.data.distractors = 0.25
    config.data.self_references = 0.25
    config.data.sharp_references = 0.5
    return config


def arbitrary_scale_head(config: ConfigDict) -> ConfigDict:
    """Stage 1: head and decoder alone, no references."""
    config.trains = ("as_head", "as_decoder")
    data = config.data
    data.frames, data.references = data.clip, 0
    data.crop, data.lr = 0, 64
    data.scale = (1.5, 4.5)
    return config


def arbitrary_scale(config: ConfigDict) -> ConfigDict:
    """Stage 2: LRRF on a frozen head."""
    config.data.scale = (1.5, 4.5)
    return config


def finish(config: ConfigDict, arg: str) -> ConfigDict:
    """A plan with its argument, several joined by commas: "debug" and "cross"."""
    for word in filter(None, arg.split(",")):
        if word == "debug":
            debug(config)
        elif word == "cross":
            config.lrrf.attention = "cross"
        else:
            raise ValueError(f"{word}: no such argument of a config; there are debug and cross")
    return config


def debug(config: ConfigDict) -> None:
    """A laptop's size, offline: made-up scenes with exact matches, a small backbone with random weights."""
    config.backbone = "seeded"
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
        # The smallest whose GT at x1.5 holds a multiple of 32.
        data.size, data.lr = (160, 160), 32
