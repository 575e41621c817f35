"""A training run of a few seconds, like a real one except for the network; as a program or a function.

python -m tests.training.tiny_run WORKDIR STEPS [SECONDS per step]
"""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ldip_jax.training.checkpoint import open_checkpoints
from ldip_jax.training.log import RunLog
from ldip_jax.training.loop import Preemption
from ldip_jax.training.sharding import (
    by_sample,
    join_processes,
    local_batch_size,
    make_mesh,
    replicated,
    spread,
)

BATCH = 8
OPTIMIZER = optax.adamw(optax.cosine_decay_schedule(1e-2, 100))


@flax.struct.dataclass
class Tiny:
    """The state of the run."""

    step: jax.Array
    params: dict[str, Any]
    opt_state: Any
    ema: dict[str, Any]


def sample(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Input and target of one sample."""
    rng = np.random.default_rng(index)
    x = rng.standard_normal((6, 6, 3), np.float32)
    return x, np.roll(x, 1, axis=0)


def start() -> Tiny:
    """The state before the first step."""
    keys = jax.random.split(jax.random.key(0))
    params = {
        "lrrf": {
            "first": jax.random.normal(keys[0], (3, 3, 3, 8)) / 5.0,
            "last": jax.random.normal(keys[1], (3, 3, 8, 3)) / 8.0,
        }
    }
    return Tiny(jnp.int32(0), params, OPTIMIZER.init(params), params)


def step_fn(state: Tiny, batch: tuple[jax.Array, jax.Array]) -> tuple[Tiny, dict[str, jax.Array]]:
    """One update."""

    def loss(params):
        convolve = partial(
            jax.lax.conv_general_dilated,
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        hidden = jax.nn.leaky_relu(convolve(batch[0], params["lrrf"]["first"]))
        return jnp.mean(jnp.abs(convolve(hidden, params["lrrf"]["last"]) - batch[1]))

    value, gradients = jax.value_and_grad(loss)(state.params)
    updates, opt_state = OPTIMIZER.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = jax.tree.map(lambda a, p: 0.9 * a + 0.1 * p, state.ema, params)
    return Tiny(state.step + 1, params, opt_state, ema), {"loss": value}


def run(workdir: Path, steps: int, pause: float = 0.0) -> int:
    """Train up to `steps`, from the newest checkpoint; returns the exit code."""
    mesh = make_mesh()
    everywhere, samples = replicated(mesh), by_sample(mesh)
    count, index = jax.process_count(), jax.process_index()
    size = local_batch_size(mesh, BATCH)
    step_jit = jax.jit(
        step_fn, donate_argnums=0, in_shardings=(everywhere, samples), out_shardings=(everywhere, everywhere)
    )
    with (
        open_checkpoints(workdir, {"steps": steps}, {}, keep_last=2) as checkpoints,
        Preemption() as preemption,
    ):
        state = jax.jit(start, out_shardings=everywhere)()
        restored = checkpoints.restore_latest(state)
        data = {"next_index": 0}
        if restored is not None:
            state, data = restored
        first = int(state.step)
        with RunLog(workdir, steps=steps, batch_size=BATCH, first_step=first) as log:
            log.notify(f"from step {first}")
            for step in range(first + 1, steps + 1):
                # As a loader distributes samples: every count-th one.
                taken = [data["next_index"] + count * n + index for n in range(size)]
                batch = spread(mesh, tuple(map(np.stack, zip(*map(sample, taken), strict=True))))
                data = {"next_index": data["next_index"] + BATCH}
                state, metrics = step_jit(state, batch)
                log.progress(step, {name: float(value) for name, value in metrics.items()})
                stop = preemption.stop(step)
                if stop or step % 2 == 0 or step == steps:
                    checkpoints.save(state, data, metric=-float(metrics["loss"]))
                if stop:
                    return preemption.exit_code
                time.sleep(pause)
    return 0


def main() -> int:
    """As a program."""
    join_processes()
    return run(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)


if __name__ == "__main__":
    sys.exit(main())
