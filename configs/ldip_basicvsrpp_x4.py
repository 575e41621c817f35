"""LRRF on BasicVSR++ at x4, as in the paper: REDS, GT 256, 12 frames out of 24, 100,000 steps of 2.

    ldip train --config ldip_basicvsrpp_x4 --workdir runs/pp_x4 --config.data.data_dir=DIR

Hardware: two RTX 4090 in the paper, 42 h. Expected on REDS (paper, Table 5, frames 20-80 with references 0
and 99, BasicVSR++): 32.55 dB, 32.03 dB without references. `:debug`: small enough for a laptop, offline;
`:cross`: plain cross attention instead of ICA.
"""

from configs.common import base, finish
from ldip_jax.training.config import TrainingConfig


def get_config(arg: str = "") -> TrainingConfig:
    config = base()
    config.backbone = "basicvsrpp-reds4"
    config.steps = 100_000
    config.batch_size = 2
    return finish(config, arg)
