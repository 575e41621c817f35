"""Identifies the network that a checkpoint belongs to, by the names in it."""

import re
from collections.abc import Iterable

from ldip_jax.errors import InputError
from ldip_jax.untrusted import printable
from ldip_jax.weights.basicvsr import BASICVSR
from ldip_jax.weights.basicvsr_pp import BASICVSR_PP
from ldip_jax.weights.gmflow import GMFLOW
from ldip_jax.weights.iart import IART_NETWORK
from ldip_jax.weights.lpips import LPIPS_WEIGHTS
from ldip_jax.weights.mrefsr import EXTRACTOR, MREFSR, VGG16, VGG19
from ldip_jax.weights.network import Network
from ldip_jax.weights.raft import RAFT_NETWORK
from ldip_jax.weights.spynet import SPYNET

NETWORKS = {
    network.name: network
    for network in (
        *(BASICVSR, BASICVSR_PP, IART_NETWORK, SPYNET, GMFLOW, RAFT_NETWORK, LPIPS_WEIGHTS),
        *(MREFSR, EXTRACTOR, VGG19, VGG16),
    )
}

# Other networks that people try: a title, and a pattern that must occur in a name. The first match counts.
UNSUPPORTED = (
    ("LRRF", r"^(lrrf|as_head|as_decoder)/"),
    ("LPIPS without its features", r"^lin\d\."),
    ("RealBasicVSR", r"^image_cleaning\."),
    ("IconVSR", r"^edvr\.|^(backward|forward)_fusion\."),
    ("C2-Matching's restoration", r"^dyn_agg_restore\.head_small\.0\."),
    ("EDVR", r"pcd_align"),
    ("a window-attention transformer", r"^(?!swin_backbone\.).*relative_position_bias_table"),
    ("ESRGAN", r"\.rdb\d\."),
)
# Some classifiers' first layers are known networks.
CLASSIFIER = ("an image classifier", r"(^|\.)(fc|classifier(\.\d+)?|head)\.weight$")


def identify(names: Iterable[str], what: str) -> Network:
    """The network whose checkpoint has these names.

    Raises:
        InputError: the checkpoint belongs to another network (named if known) or to none.
    """
    names = list(names)
    known = ", ".join(network.title for network in NETWORKS.values())

    def refuse(title: str, pattern: str) -> None:
        if any(re.search(pattern, name) for name in names):
            raise InputError(f"{what}: holds weights of {title}; only {known} can be read here")

    for stranger in UNSUPPORTED:
        refuse(*stranger)
    for network in NETWORKS.values():
        if any(re.fullmatch(network.signature, name) for name in names):
            return network
    refuse(*CLASSIFIER)
    shown = printable(", ".join(names[:3]))
    raise InputError(
        f"{what}: holds weights of an unknown network ({shown} ...); weights of {known} can be read"
    )
