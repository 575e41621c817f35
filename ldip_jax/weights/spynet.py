"""SPyNet's checkpoints, separate or inside a backbone, with the names of BasicSR and of mmagic."""

import numpy as np

from ldip_jax.models.networks.spynet import IMAGENET_MEAN, IMAGENET_STD, SPyNet
from ldip_jax.weights.network import Network, parameter_shapes
from ldip_jax.weights.rules import Rule, conv


def spynet_rules(pattern: str = "", target: str = "") -> tuple[Rule, ...]:
    """The rules, for names that start with `pattern` in the file and `target` in Flax."""
    buffers = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    rules = [
        Rule(pattern + name, None, value=np.array(value, np.float32).reshape(1, 3, 1, 1))
        for name, value in buffers.items()
    ]
    for index in range(5):
        # BasicSR counts the activations between the convolutions, mmagic does not.
        source = rf"{pattern}basic_module\.(\d)\.basic_module\.(?:{2 * index}|{index}\.conv)"
        rules += conv(source, rf"{target}basic_module.\1.basic_module.{2 * index}")
    return tuple(rules)


SPYNET = Network(
    name="spynet",
    title="SPyNet",
    signature=r"basic_module\.0\.basic_module\.0\.(conv\.)?weight",
    config=lambda arrays: {},
    skeleton=lambda config: parameter_shapes(SPyNet(**config), (1, 32, 32, 3), (1, 32, 32, 3)),
    rules=spynet_rules(),
)
