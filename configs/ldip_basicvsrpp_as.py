"""LRRF on BasicVSR++ with a trained arbitrary-scale head: GT 256, any scale between 1.5 and 4.5 (paper, 8.1).

    ldip train --config ldip_basicvsrpp_as --workdir runs/basicvsrpp_as \\
        --config.data.data_dir=DIR --config.init_from=runs/as_basicvsrpp/export.safetensors

Hardware: two RTX 4090 in the paper, 44 h. `:debug`: small enough for a laptop, offline, on an untrained head.
"""

from configs.common import arbitrary_scale, base, finish
from ldip_jax.training.config import TrainingConfig


def get_config(arg: str = "") -> TrainingConfig:
    config = arbitrary_scale(base())
    config.backbone = "basicvsrpp-reds4"
    config.init_from = "runs/as_basicvsrpp/export.safetensors"
    return finish(config, arg)
