"""AdamW with cosine decay (paper, section 8)."""

from typing import Any

import jax
import optax

from ldip_jax.training.config import Config


def learning_rate(config: Config) -> optax.Schedule:
    """Linear warm-up, if any, then a cosine from `learning_rate` to `final_learning_rate`."""
    return optax.schedules.warmup_cosine_decay_schedule(
        init_value=config.learning_rate if not config.warmup_steps else 0.0,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=config.steps,
        end_value=config.final_learning_rate,
    )


def decay_mask(params: Any) -> Any:
    """True for kernels: only they decay towards zero."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def scale_hrip_updates(factor: float) -> optax.GradientTransformation:
    """Multiplies the updates of HRIP's parameters by `factor`."""

    def scale(updates: Any, params: Any) -> Any:
        del params
        return jax.tree_util.tree_map_with_path(
            lambda path, update: factor * update if any(step.key == "hrip" for step in path) else update,
            updates,
        )

    return optax.stateless(scale)


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """AdamW (0.9, 0.999).

    `config.clip_norm` above 0 bounds the gradient's norm over all trainable parameters. `config.hrip_rate` is
    HRIP's learning rate divided by that of the rest.
    """
    adamw = optax.adamw(
        learning_rate(config),
        b1=0.9,
        b2=0.999,
        eps=1e-8,
        weight_decay=config.weight_decay,
        mask=decay_mask,
    )
    clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    faster = [scale_hrip_updates(config.hrip_rate)] if config.hrip_rate != 1.0 else []
    return optax.chain(*clip, adamw, *faster)
