"""The arbitrary-scale head and its decoder on BasicVSR++: LR 64x64, any scale between 1.5 and 4.5 (paper,
7.4).

    python train.py --config configs/as_basicvsrpp.py --workdir runs/as_basicvsrpp --config.data.data_dir=DIR

Hardware: two RTX 4090 in the paper, 14 h. `ldip_basicvsrpp_as.py` goes on from its export. `:debug`: a
laptop's size, offline.
"""

from ml_collections import ConfigDict

from configs.common import arbitrary_scale_head, base, finish


def get_config(arg: str = "") -> ConfigDict:
    config = arbitrary_scale_head(base())
    config.backbone = "basicvsrpp-reds4"
    config.batch_size = 2
    return finish(config, arg)
