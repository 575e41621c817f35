"""The arbitrary-scale head and its decoder on IART: LR 64x64, any scale between 1.5 and 4.5 (paper, 7.4).

    ldip train --config as_iart --workdir runs/as_iart --config.data.data_dir=DIR

Hardware: four RTX 4090 in the paper, 22 h. `ldip_iart_as.py` starts from its export. `:debug`: small enough
for a laptop, offline.

IART's weights come from their authors' file-sharing service: give your file as --config.backbone=FILE.
"""

from configs.common import arbitrary_scale_head, base, finish
from ldip_jax.training.config import TrainingConfig


def get_config(arg: str = "") -> TrainingConfig:
    config = arbitrary_scale_head(base())
    config.backbone = "iart-reds-n16.pth"
    config.batch_size = 4
    return finish(config, arg)
