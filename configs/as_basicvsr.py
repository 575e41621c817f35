"""The arbitrary-scale head and its decoder on BasicVSR: LR 64x64, any scale between 1.5 and 4.5.

    ldip train --config as_basicvsr --workdir runs/as_basicvsr --config.data.data_dir=DIR

Hardware: one GPU with at least 16 GB. `ldip_basicvsr_as.py` starts from its export. `:debug`: small enough
for a laptop, offline.
"""

from configs.common import arbitrary_scale_head, base, finish
from ldip_jax.training.config import TrainingConfig


def get_config(arg: str = "") -> TrainingConfig:
    config = arbitrary_scale_head(base())
    config.ema = 0.999
    config.decoder_start = "backbone"
    config.feature_loss = 0.05
    return finish(config, arg)
