"""What training carries from step to step: trainable parameters, their optimiser and their average."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int


@flax.struct.dataclass
class TrainState:
    """Frozen parameters are not part of it: they are a tree of their own, never differentiated, never saved.

    Attributes:
        step: updates made so far, skipped ones included; an int32 scalar.
        params: trainable parameters by box: "lrrf", or "as_head" and "as_decoder"; float32.
        opt_state: the optimiser's.
        ema: running average of `params`, or None.
    """

    # No annotation of JAX's: a state of shapes alone is a state too.
    step: Any
    params: Mapping[str, Any]
    opt_state: optax.OptState
    ema: Mapping[str, Any] | None


def start_state(
    params: Mapping[str, Any], optimizer: optax.GradientTransformation, *, ema: bool
) -> TrainState:
    """The state before the first step."""
    average = jax.tree.map(jnp.array, params) if ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), average)


def update_average(ema: Any, params: Any, step: Int[Array, ""], decay: float) -> Any:
    """The running average after a step; young averages forget faster, so that they do not hold the start."""
    done = step.astype(jnp.float32)
    rate = 1.0 - jnp.minimum(decay, (1.0 + done) / (10.0 + done))
    return jax.tree.map(lambda a, p: a + rate * (p - a), ema, params)


def trained_params(state: TrainState) -> Mapping[str, Any]:
    """What is validated and exported: the average where there is one."""
    return state.params if state.ema is None else state.ema
