"""LRRF on IART at x4, as in the paper: REDS, GT 256, 12 frames out of 24, 150,000 steps of 4.

    python train.py --config configs/ldip_iart_x4.py --workdir runs/iart_x4 --config.data.data_dir=DIR

Hardware: four RTX 4090 in the paper, 87 h. Expected on REDS (paper, Table 5, frames 20-80 with references 0
and 99, BasicVSR++): 32.55 dB, 32.03 dB without references. `:debug`: a laptop's size, offline; `:cross`:
without ICA.

IART's weights come from their authors' file-sharing service: name your file, --config.backbone=FILE.
"""

from ml_collections import ConfigDict

from configs.common import base, finish


def get_config(arg: str = "") -> ConfigDict:
    config = base()
    config.backbone = "iart-reds-n16.pth"
    config.steps = 150_000
    config.batch_size = 4
    return finish(config, arg)
