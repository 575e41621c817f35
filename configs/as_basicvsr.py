"""The arbitrary-scale head and its decoder on BasicVSR: LR 64x64, any scale between 1.5 and 4.5.

    python train.py --config configs/as_basicvsr.py --workdir runs/as_basicvsr --config.data.data_dir=DIR

Hardware: one GPU of 16 GB or more. `ldip_basicvsr_as.py` goes on from its export. `:debug`: a laptop's size,
offline.
"""

from ml_collections import ConfigDict

from configs.common import arbitrary_scale_head, base, finish


def get_config(arg: str = "") -> ConfigDict:
    config = arbitrary_scale_head(base())
    config.ema = 0.999
    config.decoder_start = "backbone"
    config.feature_loss = 0.05
    return finish(config, arg)
