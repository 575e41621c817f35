"""LRRF on BasicVSR at x4.

    ldip train --config ldip_basicvsr_x4 --workdir runs/basicvsr_x4 --config.data.data_dir=DIR

Hardware: one GPU with at least 24 GB. `:debug` runs on a laptop's CPU in about a minute, offline; `:cross`
trains plain cross attention instead of ICA.
"""

from configs.common import base, finish, robust
from ldip_jax.training.config import TrainingConfig


def get_config(arg: str = "") -> TrainingConfig:
    config = robust(base())
    # Standard deviation of basicvsr-reds4's `hr_pre` over training frames.
    config.lrrf.feature_scale = 0.06
    return finish(config, arg)
