"""LRRF on BasicVSR with a trained arbitrary-scale head: GT 256, any scale between 1.5 and 4.5.

    ldip train --config ldip_basicvsr_as --workdir runs/basicvsr_as \\
        --config.data.data_dir=DIR --config.init_from=runs/as_basicvsr/export.safetensors

Hardware: one GPU with at least 24 GB. `:debug`: small enough for a laptop, offline, on an untrained head.
"""

from configs.common import arbitrary_scale, base, finish, robust
from ldip_jax.training.config import TrainingConfig


def get_config(arg: str = "") -> TrainingConfig:
    config = robust(arbitrary_scale(base()))
    config.init_from = "runs/as_basicvsr/export.safetensors"
    return finish(config, arg)
