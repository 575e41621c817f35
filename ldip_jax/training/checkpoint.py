"""Checkpoints of a training run: written in the background and atomically, verified when they are read.

`WORKDIR/checkpoints/00001200` holds what training changes: trainable parameters, optimizer state, averaged
weights, step and position in the data. It also holds the config, the sha256 of the frozen weights that belong
to them, and one sha256 of everything. Frozen weights are not stored in checkpoints. Only this file knows how
checkpoints are stored.
"""

import errno
import fcntl
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from ldip_jax.errors import InputError
from ldip_jax.training.config import check_same_run
from ldip_jax.training.state import content_sha256, fill, named_arrays

State = TypeVar("State")

# Processes compare this many of the newest steps, more than are ever kept.
_MAX_COMPARED = 64
_DAMAGED_FOLDER = "damaged"


class _StoredCheckpoint(NamedTuple):
    """One checkpoint as read: arrays by name, and what is stored with them."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run. Every process of the run must call the same methods in the same order."""

    def __init__(
        self,
        workdir: str | Path,
        config: Mapping[str, Any],
        frozen: Mapping[str, str],
        *,
        keep_last: int,
        notify: Callable[[str], None],
    ):
        """See `open_checkpoints`."""
        if keep_last < 1:
            raise InputError(f"{keep_last} checkpoints to keep: at least one is needed to resume from")
        # Through JSON, because stored configs are read from JSON.
        self._config, self._frozen = json.loads(json.dumps(config)), dict(frozen)
        self._keep_last = keep_last
        self._notify = notify if _first_process() else lambda line: None
        self._folder = Path(workdir).absolute() / "checkpoints"
        self._best: tuple[int, float] | None = None
        self._newest: int | None = None
        self._pending: tuple[int, Any] | None = None
        self._lock = _lock_folder(self._folder) if _first_process() else None
        _wait_for_all("checkpoints")

    def save(self, state: Any, data_state: Mapping[str, Any], *, metric: float | None = None) -> bool:
        """Store a state under its step. Returns at once; the files are written while training continues.

        The arrays are copied before this returns, so that `state` may be donated to the next step. The step
        stored last is not stored again: validate before saving, not after. Call `restore_latest` first.

        Args:
            state: has the field `step`; the same on every device.
            data_state: the position in the data, serialisable as JSON.
            metric: of validation, larger is better; the checkpoint with the largest is kept too.

        Returns:
            Whether `metric` is the best so far.

        Raises:
            InputError: this or the previous checkpoint cannot be written: no space, no permission.
        """
        step = int(state.step)
        best = False
        if metric is not None and (self._best is None or metric > self._best[1]):
            best, self._best = True, (step, float(metric))
        if step == self._newest:
            return best
        self.wait()
        metadata = {
            "step": step,
            "data": dict(data_state),
            "config": self._config,
            "frozen": self._frozen,
            "best": self._best,
        }
        text = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
        arrays = named_arrays(state)
        content = {"arrays": arrays, "about": text, "sha256": content_sha256(arrays, text)}
        with self._explained_failures():
            if _first_process():
                self._check_space(sum(array.nbytes for array in arrays.values()) + text.nbytes)
            self._pending = (step, ocp.save_async(str(self._path(step)), content))
        self._newest = step
        return best

    def restore_latest(self, template: State) -> tuple[State, dict[str, Any]] | None:
        """The newest intact state and its position in the data; None if nothing has been stored yet.

        Newer checkpoints are damaged. They are moved to `damaged/`, so that training can store these steps
        again, and this is reported.

        Args:
            template: a state of arrays or `jax.ShapeDtypeStruct`s; each leaf is restored onto its sharding,
                whatever number of devices wrote it.

        Raises:
            InputError: no checkpoint can be read; or they belong to another run (another config, other frozen
                weights or other networks); or the processes see different folders.
        """
        damaged: dict[int, str] = {}
        for step in reversed(self._agreed_steps()):
            stored = self._read(step)
            if isinstance(stored, str):
                damaged[step] = stored
                continue
            check_same_run(
                stored.metadata, {"config": self._config, "frozen": self._frozen}, self._path(step)
            )
            state = fill(template, stored.arrays, self._path(step))
            if stored.metadata["best"] is not None:
                self._best = (int(stored.metadata["best"][0]), float(stored.metadata["best"][1]))
            self._put_aside(damaged, step)
            self._newest = step
            return state, stored.metadata["data"]
        if damaged:
            step, reason = next(iter(damaged.items()))
            raise InputError(
                f"{self._folder}: no checkpoint can be read ({step}: {reason}); restore an intact one, or"
                " give another --workdir to start again"
            )
        return None

    def wait(self) -> None:
        """Wait until the saved checkpoint is on the disk and those that are no longer kept are deleted.

        Raises:
            InputError: the checkpoint cannot be written.
        """
        if self._pending is None:
            return
        (step, response), self._pending = self._pending, None
        with self._explained_failures():
            response.result()
            if _first_process():
                self._prune(step)

    def close(self) -> None:
        """Wait until the saved checkpoint is on the disk, then release the folder for other runs."""
        try:
            self.wait()
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self.close()

    def steps(self) -> list[int]:
        """The stored steps, intact or damaged, in ascending order."""
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdecimal())

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and metric of the best validation so far."""
        return self._best

    def _path(self, step: int) -> Path:
        return self._folder / f"{step:08d}"

    def _check_space(self, size: int) -> None:
        # Checked in advance, because the library that writes is verbose and slow to fail on a full disk.
        if shutil.disk_usage(self._folder).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _prune(self, newest: int) -> None:
        steps = [step for step in self.steps() if step <= newest]
        kept = {*steps[-self._keep_last :], self._best[0] if self._best else newest}
        for step in set(steps) - kept:
            # Renamed first, because a half-deleted checkpoint would look like a damaged one.
            deleted = self._folder / f"{step:08d}.deleted"
            self._path(step).rename(deleted)
            shutil.rmtree(deleted)

    def _agreed_steps(self) -> list[int]:
        """The newest steps in the folder, ascending; every process must see the same ones."""
        newest = self.steps()[-_MAX_COMPARED:]
        padded = np.array([-1] * (_MAX_COMPARED - len(newest)) + newest, np.int32)
        if not np.all(_gather(padded) == padded):
            raise InputError(
                f"{self._folder}: processes see different files; --workdir must be shared by them"
            )
        return newest

    def _read(self, step: int) -> _StoredCheckpoint | str:
        """A checkpoint if every process can read it, else what is wrong with it."""
        stored = _read(self._path(step))
        intact = bool(np.all(_gather(np.array([not isinstance(stored, str)]))))
        return stored if intact or isinstance(stored, str) else "another process cannot read it"

    def _put_aside(self, damaged: dict[int, str], intact_step: int) -> None:
        for step, reason in damaged.items():
            if _first_process():
                with self._explained_failures():
                    aside = self._folder / _DAMAGED_FOLDER / f"{step:08d}"
                    aside.parent.mkdir(exist_ok=True)
                    shutil.rmtree(aside, ignore_errors=True)
                    self._path(step).rename(aside)
            self._notify(
                f"{self._path(step)}: damaged ({reason}), moved to {_DAMAGED_FOLDER}/; resuming from step"
                f" {intact_step}"
            )
        _wait_for_all("aside")

    @contextmanager
    def _explained_failures(self) -> Iterator[None]:
        """Turn a failure to write a checkpoint into a message of one line that says what to do."""
        try:
            yield
        except Exception as error:
            reason = _write_failure(error)
            if reason is None:
                raise
            raise InputError(
                f"{self._folder}: the checkpoint cannot be written ({reason}); solve that and run the same"
                " command again: it resumes from the previous checkpoint"
            ) from error


def open_checkpoints(
    workdir: str | Path,
    config: Mapping[str, Any],
    frozen: Mapping[str, str],
    *,
    keep_last: int = 3,
    notify: Callable[[str], None] = print,
) -> Checkpoints:
    """The checkpoints of the run in `workdir`, which is created if it does not exist.

    Args:
        workdir: a folder for this run only; if there are several processes, all of them must see it.
        config: of the run, serialisable as JSON.
        frozen: sha256 of each set of frozen weights, by name.
        keep_last: how many of the newest checkpoints to keep, besides the best; older ones are deleted.
        notify: receives a line when there is something to report.

    Raises:
        InputError: the folder cannot be created or written, or another run is using it.
    """
    # The library logs a failure as pages of tracebacks; the part that matters is raised as well.
    logging.getLogger("absl").addFilter(_not_from_orbax)
    logging.getLogger("asyncio").addFilter(_not_a_late_read)
    if not _hooks:
        _hooks.append(sys.unraisablehook)
        sys.unraisablehook = _unraisable
    return Checkpoints(workdir, config, frozen, keep_last=keep_last, notify=notify)


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}" not in record.pathname


# The library reads many parts of a checkpoint at once and stops at the first damaged one. Other reads may end
# later, when their event loop is already closed.
_hooks: list[Callable[[Any], object]] = []


def _not_a_late_read(record: logging.LogRecord) -> bool:
    return "exception was never retrieved" not in record.getMessage()


def _unraisable(found: Any) -> None:
    late = isinstance(found.exc_value, RuntimeError) and str(found.exc_value) == "Event loop is closed"
    if not late:
        _hooks[0](found)


def _lock_folder(folder: Path) -> int:
    """Create the folder, lock it for this run and delete what an ended process left; returns the lock."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); choose another --workdir"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise InputError(f"{folder}: another run is using it; end it, or choose another --workdir") from None
    except OSError:
        # Some network file systems do not support locks.
        pass
    for path in folder.iterdir():
        if path.is_dir() and not path.name.isdecimal() and path.name != _DAMAGED_FOLDER:
            shutil.rmtree(path, ignore_errors=True)
    return lock


def _read(path: Path) -> _StoredCheckpoint | str:
    """A checkpoint read from the disk, or what is wrong with it."""
    context = ocp.Context()
    # Each process reads independently: one that fails must not leave the others waiting.
    context.multiprocessing.primary_host = jax.process_index()
    context.multiprocessing.active_processes = {jax.process_index()}
    try:
        with context:
            content: Any = ocp.load(str(path))
        arrays, text = content["arrays"], content["about"]
        if not np.array_equal(content["sha256"], content_sha256(arrays, text)):
            return "its content is not what was written"
        return _StoredCheckpoint(arrays, json.loads(bytes(text)))
    except MemoryError:
        raise
    except Exception as error:
        # Damage can raise any exception, and the library's own message fills pages.
        return f"unreadable, {type(error).__name__}"


def _write_failure(error: BaseException) -> str | None:
    """What went wrong with the disk, in a few words; None for any other error."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    # Array files are written by a library whose errors include the system's error only as text.
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO):
        if os.strerror(number) in str(error):
            return os.strerror(number)
    return None


def _first_process() -> bool:
    return jax.process_index() == 0


def _wait_for_all(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _gather(values: np.ndarray) -> np.ndarray:
    """The values of all processes, stacked."""
    return multihost_utils.process_allgather(values, tiled=False).reshape(-1, *values.shape)
