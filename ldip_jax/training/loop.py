"""The training loop, from a config to `WORKDIR/export.safetensors`."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ldip_jax.data.crops import Sample
from ldip_jax.errors import InputError
from ldip_jax.training.checkpoint import open_checkpoints
from ldip_jax.training.config import Config, check_config, step_plan
from ldip_jax.training.feature_scale import with_feature_scale
from ldip_jax.training.feed import Feed, examples, validation_samples
from ldip_jax.training.fusion_start import with_transfer_start
from ldip_jax.training.images import KeyPictures, contact_sheet
from ldip_jax.training.log import RunLog
from ldip_jax.training.optimizer import learning_rate, make_optimizer
from ldip_jax.training.preemption import NonFiniteGuard, Preemption
from ldip_jax.training.setup import make_run
from ldip_jax.training.sharding import local_batch_size, make_mesh, replicated, spread
from ldip_jax.training.state import TrainState, start_state, trained_params
from ldip_jax.training.step import train_step, validation_step

EXPORT = "export.safetensors"
# Training clips that measurements look at before the first step.
CLIPS = 4


def train(config: Config, workdir: str | Path, *, export_only: bool = False) -> int:
    """Train, or go on training, until `config.steps`.

    Args:
        config: with the fields of `configs/common.py`.
        workdir: gets checkpoints, logs and `export.safetensors`; a run that is there is gone on with.
        export_only: write the newest checkpoint's export, and nothing else.

    Returns:
        The exit code: 0 when done, else of the signal that ended the run (`Preemption`), to be started again.

    Raises:
        InputError: config, data or weights that cannot be used, or a folder that cannot be written.
    """
    check_config(config)
    folder = Path(workdir)
    mesh = make_mesh()
    local_batch_size(mesh, config.batch_size)
    run = make_run(config, folder)
    if run.net.lrrf is not None and not config.lrrf.feature_scale:
        run = with_feature_scale(run, examples(config, run, CLIPS))
    optimizer, plan = make_optimizer(config), step_plan(config)
    everywhere = replicated(mesh)
    start = lambda run: jax.device_put(  # noqa: E731
        start_state(run.params, optimizer, ema=config.ema > 0), everywhere
    )
    state = start(run)
    frozen = jax.device_put(run.frozen, everywhere)
    update = partial(train_step, run.net, optimizer, plan, mesh=mesh)
    step = jax.jit(update, donate_argnums=0, out_shardings=everywhere)
    validate = jax.jit(partial(validation_step, run.net, plan), out_shardings=everywhere)
    rate: Any = learning_rate(config)
    process = (jax.process_index(), jax.process_count())

    with open_checkpoints(
        folder,
        config.to_dict(),
        run.frozen_sha256(),
        keep_last=config.keep_last,
        tell=print,
    ) as checkpoints:
        next_index = 0
        if (found := checkpoints.restore_latest(state)) is not None:
            state, place = found
            next_index = place["next_index"]
        elif "lrrf" in run.params and config.fusion_start == "transfer" and not export_only:
            state = start(with_transfer_start(run, examples(config, run, CLIPS)))
        number = int(state.step)
        if export_only:
            if found is None:
                raise InputError(f"{folder}: holds no checkpoint to export; train first")
            run.export(folder / EXPORT, trained_params(state), _provenance(config, number))
            print(f"step {number}: {folder / EXPORT}")
            return 0
        with (
            Feed(config, run, process, next_index) as feed,
            RunLog(folder, steps=config.steps, batch_size=config.batch_size, first_step=number) as log,
            Preemption(log.tell) as preemption,
        ):
            log.tell(f"{run.describe()}; step {number} of {config.steps}")
            held = validation_samples(config, run, feed.work)
            guard = NonFiniteGuard(config.patience, log.tell)
            pending: list[dict[str, jax.Array]] = []
            stopped = False
            while number < config.steps and not stopped:
                state, metrics = step(state, frozen, spread(mesh, next(feed)))
                number += 1
                pending.append(metrics)
                due = partial(_due, number, config.steps)
                stopped = preemption.stop(number)
                if due(config.log_every) or stopped:
                    log.progress(
                        number, {**_observed(guard, number, pending), "rate": float(rate(number - 1))}
                    )
                metric = None
                if held and due(config.validate_every):
                    with log.untimed():
                        metric = _validate(log, number, validate, state, frozen, held, config)
                if due(config.checkpoint_every) or stopped or metric is not None:
                    with log.untimed():
                        best = checkpoints.save(state, feed.state, metric=metric)
                    if best and process[0] == 0:
                        run.export(folder / EXPORT, trained_params(state), _provenance(config, number))
            if not stopped and process[0] == 0 and (not held or checkpoints.best is None):
                run.export(folder / EXPORT, trained_params(state), _provenance(config, number))
            log.tell(f"step {number}: " + ("stopped" if stopped else f"done, {folder / EXPORT}"))
            return preemption.exit_code if stopped else 0


def _due(number: int, last: int, every: int) -> bool:
    return number == last or (every > 0 and number % every == 0)


def _observed(guard: NonFiniteGuard, number: int, pending: list[dict[str, jax.Array]]) -> dict[str, float]:
    """Means of the metrics since the last log, over steps that were not skipped."""
    host = jax.device_get(pending)
    pending.clear()
    for offset, metrics in enumerate(host):
        guard.observe(number - len(host) + 1 + offset, bool(metrics["skipped"] > 0))
    good = [metrics for metrics in host if not metrics["skipped"]] or host
    return {name: float(np.mean([metrics[name] for metrics in good])) for name in host[0]}


def _validate(
    log: RunLog,
    number: int,
    validate: Any,
    state: TrainState,
    frozen: Any,
    held: list[Sample],
    config: Config,
) -> float:
    """Log mean PSNR and gain over the held samples, and one of them as an image; returns the PSNR."""
    host = []
    for index, batch in enumerate(held):
        metrics, frames = validate(state, frozen, batch)
        host.append(jax.device_get(metrics))
        if index == 0:
            log.image(number, "validation", _sheet(batch, np.asarray(frames[0])))
    means = {f"validation/{name}": float(np.mean([m[name] for m in host])) for name in host[0]}
    log.metrics(number, means)
    log.tell(f"step {number}: " + "  ".join(f"{name} {value:.3f}" for name, value in means.items()))
    return means["validation/psnr"]


def _sheet(batch: Sample, frames: np.ndarray) -> np.ndarray:
    one: Any = jax.tree.map(lambda leaf: leaf[0], batch)
    keys = [
        KeyPictures(int(one.key_index[k]), one.images[k], one.sizes[k], one.valid[k], one.confidence[k])
        for k in np.flatnonzero(one.key_valid)
    ]
    return contact_sheet(one.lr, frames, one.hr, keys)


def _provenance(config: Config, number: int) -> dict[str, str]:
    data = config.data.records or config.data.dataset
    return {"steps": str(number), "data": str(data), "training": config.to_json_best_effort()}
