"""The training loop, from a config to `WORKDIR/export.safetensors`, and what ends it early."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import jax
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from ldip_jax.data.crops import Sample
from ldip_jax.errors import InputError
from ldip_jax.training import mrefsr
from ldip_jax.training.checkpoint import open_checkpoints
from ldip_jax.training.config import Config, check_config, step_options
from ldip_jax.training.features import with_feature_scale
from ldip_jax.training.feed import Feed, measured_clips, validation_samples
from ldip_jax.training.fusion_start import with_transfer_start
from ldip_jax.training.log import KeyFrameImages, RunLog, contact_sheet
from ldip_jax.training.optimizer import learning_rate, make_optimizer
from ldip_jax.training.setup import make_run
from ldip_jax.training.sharding import local_batch_size, make_mesh, replicated, spread
from ldip_jax.training.state import TrainState, start_state, trained_params
from ldip_jax.training.step import train_step, validation_step


class Preemption:
    """Lets SIGTERM, SIGUSR1 and Ctrl-C end training after the current step.

    Clusters send SIGTERM or SIGUSR1 before they take a machine back. Within the block, the first signal is
    remembered. Training asks `stop` after each step, then saves and exits with `exit_code`. A second Ctrl-C
    ends the program at once. If there are several processes, one that receives a signal notifies the others,
    and all stop after the same step.
    """

    def __init__(self, notify: Callable[[str], None] = print):
        self._notify = notify
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Preemption":
        # With several processes, JAX handles SIGTERM: that is how they agree on a step.
        if_single_process = (signal.SIGTERM,) if jax.process_count() == 1 else ()
        for number in (signal.SIGINT, signal.SIGUSR1, *if_single_process):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop(self, step: int) -> bool:
        """Whether training ends after this step; every process must ask after every step."""
        if jax.process_count() > 1:
            stop = multihost_utils.reached_preemption_sync_point(step)
        else:
            stop = self._received is not None
        if stop:
            self._received = self._received or signal.SIGTERM
            self._notify(f"{signal.Signals(self._received).name}: stopping after step {step}")
        return stop

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, 138 after SIGUSR1: as if the signal had ended the process."""
        return 128 + (self._received or signal.SIGTERM)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received == signal.SIGINT == number:
            raise KeyboardInterrupt
        self._received = self._received or number
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)


class NonFiniteGuard:
    """Counts steps skipped because of a non-finite loss or gradient; too many in a row end training."""

    def __init__(self, patience: int, notify: Callable[[str], None] = print):
        """
        Args:
            patience: the number of skipped steps in a row that is tolerated.
            notify: receives a line for each skipped step.
        """
        self._patience, self._notify = patience, notify
        self._in_a_row = 0

    def observe(self, step: int, skipped: bool) -> None:
        """Count a step.

        Raises:
            InputError: more than `patience` in a row were skipped.
        """
        if not skipped:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if self._in_a_row > self._patience:
            raise InputError(
                f"step {step}: {self._in_a_row} steps in a row had a loss or gradient that is not finite;"
                " train with a lower config.learning_rate or config.clip_norm=1.0, in float32"
            )
        self._notify(f"step {step}: loss or gradient not finite, step skipped")


EXPORT = "export.safetensors"
# The number of training clips that are measured before the first step.
MEASURED_CLIPS = 4


@dataclass(frozen=True)
class TrainingTask:
    """What is trained, and how.

    Attributes:
        run: its parameters, and how they are described and exported: `Run` or `MRefSRRun`.
        optimizer: of its trainable parameters.
        step: (state, frozen parameters, batch) to the next state and metrics.
        validate: the same arguments to metrics, "psnr" among them, and frames.
        open_feed: opens the batches of a process, (number, count), from a sample on.
        validation_samples: the validation samples, given the feed.
        contact_sheet: a validation sample and its frames as a picture.
    """

    run: Any
    optimizer: optax.GradientTransformation
    step: Callable[..., Any]
    validate: Callable[..., Any]
    open_feed: Callable[[tuple[int, int], int], Any]
    validation_samples: Callable[[Any], list[Any]]
    contact_sheet: Callable[[Any, np.ndarray], np.ndarray]


def _ldip_task(config: Config, folder: Path, mesh: Mesh) -> TrainingTask:
    """Components of LDIP."""
    run = make_run(config, folder)
    if run.net.lrrf is not None and not config.lrrf.feature_scale:
        run = with_feature_scale(run, measured_clips(config, run, MEASURED_CLIPS))
    optimizer, options = make_optimizer(config), step_options(config)
    return TrainingTask(
        run,
        optimizer,
        step=partial(train_step, run.net, optimizer, options, mesh=mesh),
        validate=partial(validation_step, run.net, options),
        open_feed=lambda process, next_index: Feed(config, run, process, next_index),
        validation_samples=lambda feed: validation_samples(config, run, feed.sampler),
        contact_sheet=_contact_sheet,
    )


def _mrefsr_task(config: Config, folder: Path, mesh: Mesh) -> TrainingTask:
    """MRefSR's restoration network."""
    run, optimizer = mrefsr.make_run(config, folder), mrefsr.optimizer(config)
    return TrainingTask(
        run,
        optimizer,
        step=partial(mrefsr.train_step, run.net, optimizer, config.ema, mesh=mesh),
        validate=partial(mrefsr.validation_step, run.net),
        open_feed=partial(mrefsr.MRefSRFeed, config),
        validation_samples=lambda _: mrefsr.validation_samples(config),
        contact_sheet=mrefsr.reference_contact_sheet,
    )


def train(config: Config, workdir: str | Path, *, export_only: bool = False) -> int:
    """Train, or resume training, until `config.steps`.

    Args:
        config: with the fields of `configs/common.py`.
        workdir: the folder for checkpoints, logs and `export.safetensors`; an existing run is resumed.
        export_only: only write the export of the newest checkpoint.

    Returns:
        The exit code: 0 when training is done, else that of the signal that ended the run (see `Preemption`);
        the same call then resumes it.

    Raises:
        InputError: config, data or weights cannot be used, or the folder cannot be written.
    """
    check_config(config)
    folder = Path(workdir)
    mesh = make_mesh()
    local_batch_size(mesh, config.batch_size)
    task = (_mrefsr_task if config.method == "mrefsr" else _ldip_task)(config, folder, mesh)
    run, optimizer = task.run, task.optimizer
    everywhere = replicated(mesh)
    start = lambda run: jax.device_put(  # noqa: E731
        start_state(run.params, optimizer, ema=config.ema > 0), everywhere
    )
    state = start(run)
    frozen = jax.device_put(run.frozen, everywhere)
    step = jax.jit(task.step, donate_argnums=0, out_shardings=everywhere)
    validate = jax.jit(task.validate, out_shardings=everywhere)
    rate: Any = learning_rate(config)
    process = (jax.process_index(), jax.process_count())

    with open_checkpoints(
        folder,
        config.to_dict(),
        run.frozen_sha256(),
        keep_last=config.keep_last,
        notify=print,
    ) as checkpoints:
        next_index = 0
        if (found := checkpoints.restore_latest(state)) is not None:
            state, place = found
            next_index = place["next_index"]
        elif "lrrf" in run.params and config.fusion_start == "transfer" and not export_only:
            state = start(with_transfer_start(run, measured_clips(config, run, MEASURED_CLIPS)))
        number = int(state.step)
        if export_only:
            if found is None:
                raise InputError(f"{folder}: holds no checkpoint to export; train first")
            run.export(folder / EXPORT, trained_params(state), _provenance(config, number))
            print(f"step {number}: {folder / EXPORT}")
            return 0
        with (
            task.open_feed(process, next_index) as feed,
            RunLog(folder, steps=config.steps, batch_size=config.batch_size, first_step=number) as log,
            Preemption(log.notify) as preemption,
        ):
            log.notify(f"{run.describe()}; step {number} of {config.steps}")
            validation = task.validation_samples(feed)
            guard = NonFiniteGuard(config.patience, log.notify)
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
                        number, {**_mean_metrics(guard, number, pending), "rate": float(rate(number - 1))}
                    )
                metric = None
                if validation and due(config.validate_every):
                    with log.untimed():
                        metric = _validate(
                            log, number, validate, state, frozen, validation, task.contact_sheet
                        )
                if due(config.checkpoint_every) or stopped or metric is not None:
                    with log.untimed():
                        best = checkpoints.save(state, feed.state, metric=metric)
                    if best and process[0] == 0:
                        run.export(folder / EXPORT, trained_params(state), _provenance(config, number))
            if not stopped and process[0] == 0 and (not validation or checkpoints.best is None):
                run.export(folder / EXPORT, trained_params(state), _provenance(config, number))
            log.notify(f"step {number}: " + ("stopped" if stopped else f"done, {folder / EXPORT}"))
            return preemption.exit_code if stopped else 0


def _due(number: int, last: int, every: int) -> bool:
    return number == last or (every > 0 and number % every == 0)


def _mean_metrics(
    guard: NonFiniteGuard, number: int, pending: list[dict[str, jax.Array]]
) -> dict[str, float]:
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
    samples: list[Any],
    contact_sheet: Callable[[Any, np.ndarray], np.ndarray],
) -> float:
    """Log mean PSNR and gain over the validation samples, and one of them as an image; returns the PSNR."""
    host = []
    for index, batch in enumerate(samples):
        metrics, frames = validate(state, frozen, batch)
        host.append(jax.device_get(metrics))
        if index == 0:
            log.image(number, "validation", contact_sheet(batch, np.asarray(frames[0])))
    means = {f"validation/{name}": float(np.mean([m[name] for m in host])) for name in host[0]}
    log.metrics(number, means)
    log.notify(f"step {number}: " + "  ".join(f"{name} {value:.3f}" for name, value in means.items()))
    return means["validation/psnr"]


def _contact_sheet(batch: Sample, frames: np.ndarray) -> np.ndarray:
    one: Any = jax.tree.map(lambda leaf: leaf[0], batch)
    key_frames = [
        KeyFrameImages(int(one.key_frames[k]), one.images[k], one.sizes[k], one.valid[k], one.confidence[k])
        for k in np.flatnonzero(one.key_valid)
    ]
    return contact_sheet(one.lr, frames, one.hr, key_frames)


def _provenance(config: Config, number: int) -> dict[str, str]:
    data = config.data.records or config.data.dataset
    return {"steps": str(number), "data": str(data), "training": config.to_json()}
