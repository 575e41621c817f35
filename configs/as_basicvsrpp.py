"""The arbitrary-scale head and its decoder on BasicVSR++: LR 64x64, any scale between 1.5 and 4.5 (paper,
7.4).

    ldip train --config as_basicvsrpp --workdir runs/as_basicvsrpp --config.data.data_dir=DIR

Hardware: two RTX 4090 in the paper, 14 h. `ldip_basicvsrpp_as.py` starts from its export. `:debug`: small
enough for a laptop, offline.
"""

from configs.common import arbitrary_scale_head, base, finish
from ldip_jax.training.config import TrainingConfig


def get_config(arg: str = "") -> TrainingConfig:
    config = arbitrary_scale_head(base())
    config.backbone = "basicvsrpp-reds4"
    config.batch_size = 2
    return finish(config, arg)
