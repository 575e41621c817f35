"""What must be known about a network in order to convert its checkpoints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from ldip_jax.models.networks.backbone import Backbone
from ldip_jax.weights.rules import Rule


@dataclass(frozen=True)
class Network:
    """A network whose checkpoints can be converted.

    Attributes:
        name: what the rest of the package calls it, such as "basicvsr".
        title: its name in messages.
        signature: regular expression; a checkpoint with a name that matches is taken for this network.
        config: a checkpoint's arrays -> the module's hyper-parameters; no arrays -> the published ones.
        skeleton: hyper-parameters -> nested dict of the parameters' shapes.
        rules: checkpoint names -> Flax names.
    """

    name: str
    title: str
    signature: str
    config: Callable[[Mapping[str, np.ndarray]], dict[str, Any]]
    skeleton: Callable[[dict[str, Any]], Mapping[str, Any]]
    rules: tuple[Rule, ...]


def parameter_shapes(
    module: nn.Module, *inputs: tuple[int, ...], method: Callable | None = None
) -> Mapping[str, Any]:
    """Shapes of the parameters that `module` has for float32 inputs of these shapes; computes nothing.

    Args:
        method: a function of the module and the inputs that uses all parts and is traced faster than a call.
    """
    # Flax modules do hash, by their fields.
    return _shapes(module, inputs, method)  # type: ignore[arg-type]


def backbone_shapes(backbone: Backbone) -> Mapping[str, Any]:
    """The same for a backbone, from one frame without a scan, which takes a third of the time."""
    return _shapes(backbone, ((1, 32, 32, 3),), _one_frame)  # type: ignore[arg-type]


# Cached, because tracing a large network takes seconds.
@lru_cache(maxsize=32)
def _shapes(
    module: nn.Module, inputs: tuple[tuple[int, ...], ...], method: Callable | None
) -> Mapping[str, Any]:
    arrays = [jax.ShapeDtypeStruct(shape, np.float32) for shape in inputs]
    return jax.eval_shape(lambda *x: module.init(jax.random.key(0), *x, method=method), *arrays)["params"]


def _one_frame(net: Backbone, frame: jax.Array) -> jax.Array:
    """Run all parts of a backbone once."""
    flow, inputs = net.flow(frame, frame), (net.encode(frame),)
    for branch in net.branches:
        _, out = net.step(branch, net.carry(frame), inputs, flow)
        inputs = net.keep(inputs, out)
    return net.decode(net.upscale(net.reconstruct(inputs)), frame)
