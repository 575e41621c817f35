"""LPIPS's weights: a classifier's convolutions and the weights of its features, already in Flax's layout."""

from ldip_jax.models.networks.lpips import LPIPS, MIN_SIDE
from ldip_jax.weights.network import Network, parameter_shapes
from ldip_jax.weights.rules import Rule

_NETS = {"alex": "AlexNet", "vgg": "VGG16"}


def _config(arrays) -> dict[str, str]:
    return {"net": next((net for net, name in _NETS.items() if f"{name}_0/Conv_0/kernel" in arrays), "alex")}


def _skeleton(config):
    shape = (1, MIN_SIDE[config["net"]], MIN_SIDE[config["net"]], 3)
    return parameter_shapes(LPIPS(**config), shape, shape)


LPIPS_WEIGHTS = Network(
    name="lpips",
    title="LPIPS",
    signature=r"NetLinLayer_0/Conv_0/kernel",
    config=_config,
    skeleton=_skeleton,
    rules=(
        Rule(rf"(?:{'|'.join(_NETS.values())})_0/Conv_(\d+)/(kernel|bias)", r"net.layer.\1.conv.\2"),
        Rule(r"NetLinLayer_(\d)/Conv_0/kernel", r"lin.\1"),
    ),
)
