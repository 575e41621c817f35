"""LRRF on BasicVSR with a trained arbitrary-scale head: GT 256, any scale between 1.5 and 4.5.

    python train.py --config configs/ldip_basicvsr_as.py --workdir runs/basicvsr_as \\
        --config.data.data_dir=DIR --config.init_from=runs/as_basicvsr/export.safetensors

Hardware: one GPU of 24 GB or more. `:debug`: a laptop's size, offline, on an untrained head.
"""

from ml_collections import ConfigDict

from configs.common import arbitrary_scale, base, finish, robust


def get_config(arg: str = "") -> ConfigDict:
    config = robust(arbitrary_scale(base()))
    config.init_from = "runs/as_basicvsr/export.safetensors"
    return finish(config, arg)
