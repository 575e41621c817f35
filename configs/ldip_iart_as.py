"""LRRF on IART with a trained arbitrary-scale head: GT 256, any scale between 1.5 and 4.5 (paper, 8.1).

    python train.py --config configs/ldip_iart_as.py --workdir runs/iart_as \\
        --config.data.data_dir=DIR --config.init_from=runs/as_iart/export.safetensors

Hardware: four RTX 4090 in the paper, 82 h. `:debug`: a laptop's size, offline, on an untrained head.

IART's weights come from their authors' file-sharing service: name your file, --config.backbone=FILE.
"""

from ml_collections import ConfigDict

from configs.common import arbitrary_scale, base, finish


def get_config(arg: str = "") -> ConfigDict:
    config = arbitrary_scale(base())
    config.backbone = "iart-reds-n16.pth"
    config.init_from = "runs/as_iart/export.safetensors"
    return finish(config, arg)
