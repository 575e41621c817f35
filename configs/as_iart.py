"""The arbitrary-scale head and its decoder on IART: LR 64x64, any scale between 1.5 and 4.5 (paper, 7.4).

    python train.py --config configs/as_iart.py --workdir runs/as_iart --config.data.data_dir=DIR

Hardware: four RTX 4090 in the paper, 22 h. `ldip_iart_as.py` goes on from its export. `:debug`: a laptop's
size, offline.

IART's weights come from their authors' file-sharing service: name your file, --config.backbone=FILE.
"""

from ml_collections import ConfigDict

from configs.common import arbitrary_scale_head, base, finish


def get_config(arg: str = "") -> ConfigDict:
    config = arbitrary_scale_head(base())
    config.backbone = "iart-reds-n16.pth"
    config.batch_size = 4
    return finish(config, arg)
