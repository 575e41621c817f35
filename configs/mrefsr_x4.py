"""MRefSR, the method that the paper compares with, by its authors' recipe on LDIP's training clips.

    ldip train --config mrefsr_x4 --workdir runs/mrefsr --config.data.data_dir=DIR \\
        --config.mrefsr.extractor=feature_extraction_network.pth

Hardware: its authors used four GPUs. The extractor is a file of C2-Matching (docs/mrefsr.md). `:vgg16` does
without: VGG-16, which can be fetched, takes the place of the extractor and of VGG-19. `:debug` runs on a
laptop's CPU, offline.
"""

from configs.common import base, finish
from ldip_jax.training.config import TrainingConfig


def get_config(arg: str = "") -> TrainingConfig:
    config = base()
    config.method = "mrefsr"
    config.steps = 255_000
    config.batch_size = 48
    # Constant.
    config.learning_rate = config.final_learning_rate = 1e-4
    config.weight_decay = 0.0
    data = config.data
    data.clip, data.key_frames = 1, 1
    data.crop, data.jitter = 160, 32
    data.references = data.fewest_references = 5
    words = [word for word in arg.split(",") if word]
    if "vgg16" in words:
        words.remove("vgg16")
        config.mrefsr.encoder = config.mrefsr.matches = "vgg16"
    return finish(config, ",".join(words))
