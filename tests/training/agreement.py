"""What devices and processes must agree on, as programs that print what each of them found.

python -m tests.training.agreement loss|scale
"""

import json
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType

from ldip_jax.data.crop_spec import CropSpec
from ldip_jax.models.arbitrary_scale import ArbitraryScale
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.lrrf import LRRF
from ldip_jax.models.networks.basicvsr import BasicVSR
from ldip_jax.ops.grid import sample_nearest
from ldip_jax.training import features
from ldip_jax.training.config import StepOptions
from ldip_jax.training.features import MeasuredClip
from ldip_jax.training.setup import Run
from ldip_jax.training.sharding import AXES, join_processes, replicated, spread
from ldip_jax.training.state import start_state
from ldip_jax.training.step import train_step
from tests.models.random_models import NARROW
from tests.models.shown import Plain
from tests.networks import random_backbone
from tests.training.batches import noise_batch

WIDTH = NARROW["mid_channels"]


class Gain(ArbitraryScale):
    """The nearest features, amplified: a head that compiles instantly."""

    def setup(self):
        self.gain = self.param("gain", lambda _: jnp.float32(2.0))

    def __call__(self, features, grid):
        return self.gain * jnp.tile(sample_nearest(features, grid), 64 // WIDTH)


def loss() -> dict[int, dict[str, float]]:
    """Loss and gradient norm of a step of the head with different samples, by number of devices."""
    backbone = random_backbone(1)
    net = LDIP(BasicVSR(**backbone.config), as_head=Gain(), as_decoder=Plain())
    spec = CropSpec(target_frames=1, hr_side=16, reference_side=16, max_key_frames=1, max_references=1)
    batch = noise_batch(np.random.default_rng(0), spec, samples=2)
    unlike = np.array([1.0, 3.0], np.float32)[:, None, None, None, None]
    batch = batch._replace(features=np.asarray(batch.features[..., :WIDTH], np.float32) * unlike)
    head = {"as_head": {"gain": jnp.float32(2.0)}}
    optimizer = optax.adam(1e-4)
    found = {}
    for count in (1, 2):
        kinds = (AxisType.Auto,) * len(AXES)
        mesh = jax.make_mesh((count, 1), AXES, axis_types=kinds, devices=jax.devices()[:count])
        step = partial(train_step, net, optimizer, StepOptions(False, "float32", 0.0, 2.0), mesh=mesh)
        everywhere = replicated(mesh)
        state = jax.device_put(start_state(head, optimizer, ema=False), everywhere)
        frozen = jax.device_put({"backbone": backbone.params}, everywhere)
        _, metrics = jax.jit(step, out_shardings=everywhere)(state, frozen, spread(mesh, batch))
        found[count] = {name: float(metrics[name]) for name in ("loss", "grad_norm")}
    return found


def scale() -> dict[str, float]:
    """The feature scale that a process uses, and the one that it measured from its own clips."""
    join_processes()
    backbone = random_backbone(1)
    net = LDIP(BasicVSR(**backbone.config), LRRF())
    run = Run(net, backbone, {"backbone": backbone.params}, {}, {"lrrf": {}})
    maps = np.random.default_rng(0).standard_normal((1, 8, 8, WIDTH)).astype(np.float32)
    frame = np.zeros((1, 8, 8, 3), np.uint8)
    clips = [MeasuredClip(maps * 4.0 ** jax.process_index(), frame, frame)]
    taken = features.with_feature_scale(run, clips)
    features.of_first_process = lambda scale: scale
    measured = features.with_feature_scale(run, clips)
    return {"scale": taken.modules["lrrf"]["feature_scale"], "own": measured.net.lrrf.feature_scale}


if __name__ == "__main__":
    print(json.dumps({"loss": loss, "scale": scale}[sys.argv[1]]()))
