"""LRRF on BasicVSR at x4.

    python train.py --config configs/ldip_basicvsr_x4.py --workdir runs/basicvsr_x4 --config.data.data_dir=DIR

Hardware: one GPU of 24 GB or more. `:debug` runs on a laptop's CPU in about a minute, offline; `:cross`
trains plain cross attention in place of ICA.
"""

from ml_collections import ConfigDict

from configs.common import base, finish, robust


def get_config(arg: str = "") -> ConfigDict:
    config = robust(base())
    # Standard deviation of basicvsr-reds4's `hr_pre` over training frames.
    config.lrrf.feature_scale = 0.06
    return finish(config, arg)
