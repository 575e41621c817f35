"""LRRF on IART at x4, as in the paper: REDS, GT 256, 12 frames out of 24, 150,000 steps of 4.

    ldip train --config ldip_iart_x4 --workdir runs/iart_x4 --config.data.data_dir=DIR

Hardware: four RTX 4090 in the paper, 87 h. `:debug`: small enough for a laptop, offline; `:cross`: plain
cross attention instead of ICA.

IART's weights come from their authors' file-sharing service: give your file as --config.backbone=FILE.
"""

from configs.common import base, finish
from ldip_jax.training.config import TrainingConfig


def get_config(arg: str = "") -> TrainingConfig:
    config = base()
    config.backbone = "iart-reds-n16.pth"
    config.steps = 150_000
    config.batch_size = 4
    return finish(config, arg)
