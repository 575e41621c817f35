"""LRRF on IART with a trained arbitrary-scale head: GT 256, any scale between 1.5 and 4.5 (paper, 8.1).

    ldip train --config ldip_iart_as --workdir runs/iart_as \\
        --config.data.data_dir=DIR --config.init_from=runs/as_iart/export.safetensors

Hardware: four RTX 4090 in the paper, 82 h. `:debug`: small enough for a laptop, offline, on an untrained
head.

IART's weights come from their authors' file-sharing service: give your file as --config.backbone=FILE.
"""

from configs.common import arbitrary_scale, base, finish
from ldip_jax.training.config import TrainingConfig


def get_config(arg: str = "") -> TrainingConfig:
    config = arbitrary_scale(base())
    config.backbone = "iart-reds-n16.pth"
    config.init_from = "runs/as_iart/export.safetensors"
    return finish(config, arg)
