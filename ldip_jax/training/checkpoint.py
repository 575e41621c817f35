"""Checkpoints of a training run: written in the background, whole or not at all, checked when they are read.

`WORKDIR/checkpoints/00001200` holds what training changes: trainable parameters, optimizer state, averaged
weights, step and the place in the data, with the configuration and the sha256 of the frozen weights that
belong to them, under one sha256 over all of it. Frozen weights are in no checkpoint. The only file that knows
how checkpoints are stored.
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
from ldip_jax.training.leaves import content_sha256, fill, named_arrays
from ldip_jax.training.resume import check_same_run

State = TypeVar("State")

# Processes compare that many of the newest steps: fewer are ever kept.
_MOST = 64
_ASIDE = "damaged"


class _Stored(NamedTuple):
    """One checkpoint as read: arrays by name, and what belongs to them."""

    arrays: dict[str, np.ndarray]
    about: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run; every process of the run calls the same methods in the same order."""

    def __init__(
        self,
        workdir: str | Path,
        config: Mapping[str, Any],
        frozen: Mapping[str, str],
        *,
        keep_last: int,
        tell: Callable[[str], None],
    ):
        """See `open_checkpoints`."""
        if keep_last < 1:
            raise InputError(f"{keep_last} checkpoints to keep: one at least is needed to resume from")
        # Through JSON, since that is how the stored ones come back.
        self._config, self._frozen = json.loads(json.dumps(config)), dict(frozen)
        self._keep_last = keep_last
        self._tell = tell if _first_process() else lambda line: None
        self._folder = Path(workdir).absolute() / "checkpoints"
        self._best: tuple[int, float] | None = None
        self._newest: int | None = None
        self._pending: tuple[int, Any] | None = None
        self._lock = _make(self._folder) if _first_process() else None
        _wait_for_all("checkpoints")

    def save(self, state: Any, data_state: Mapping[str, Any], *, metric: float | None = None) -> bool:
        """Store a state under its step; returns at once, and the files are written while training goes on.

        The arrays are copied before this returns, so that `state` may be donated to the next step. The step
        that was stored last stays as it is: validate before saving, not after. `restore_latest` comes first.

        Args:
            state: has the field `step`; the same on every device.
            data_state: the place in the data, as JSON takes it.
            metric: of validation, larger is better; the checkpoint with the largest is kept too.

        Returns:
            Whether `metric` is the best so far.

        Raises:
            InputError: this or the checkpoint before cannot be written: no space, no permission.
        """
        step = int(state.step)
        best = False
        if metric is not None and (self._best is None or metric > self._best[1]):
            best, self._best = True, (step, float(metric))
        if step == self._newest:
            return best
        self.wait()
        about = {
            "step": step,
            "data": dict(data_state),
            "config": self._config,
            "frozen": self._frozen,
            "best": self._best,
        }
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        arrays = named_arrays(state)
        content = {"arrays": arrays, "about": text, "sha256": content_sha256(arrays, text)}
        with self._failures_named():
            if _first_process():
                self._check_space(sum(array.nbytes for array in arrays.values()) + text.nbytes)
            self._pending = (step, ocp.save_async(str(self._path(step)), content))
        self._newest = step
        return best

    def restore_latest(self, template: State) -> tuple[State, dict[str, Any]] | None:
        """The newest state that is whole, and its place in the data; None where nothing was stored yet.

        Checkpoints newer than it are damaged: they are put aside, so that training can store these steps
        again, and that is told.

        Args:
            template: a state of arrays or `jax.ShapeDtypeStruct`s; each leaf is restored onto its sharding,
                whatever number of devices wrote it.

        Raises:
            InputError: no checkpoint can be read; or they are of another run: another configuration, other
                frozen weights, other networks; or the processes see different folders.
        """
        damaged: dict[int, str] = {}
        for step in reversed(self._agreed_steps()):
            stored = self._read(step)
            if isinstance(stored, str):
                damaged[step] = stored
                continue
            check_same_run(stored.about, {"config": self._config, "frozen": self._frozen}, self._path(step))
            state = fill(template, stored.arrays, self._path(step))
            if stored.about["best"] is not None:
                self._best = (int(stored.about["best"][0]), float(stored.about["best"][1]))
            self._put_aside(damaged, step)
            self._newest = step
            return state, stored.about["data"]
        if damaged:
            step, reason = next(iter(damaged.items()))
            raise InputError(
                f"{self._folder}: no checkpoint can be read ({step}: {reason}); bring an intact one back, or"
                " give another --workdir to begin anew"
            )
        return None

    def wait(self) -> None:
        """Return when what was saved is on the disk, and checkpoints that are no longer kept are gone.

        Raises:
            InputError: it cannot be written.
        """
        if self._pending is None:
            return
        (step, response), self._pending = self._pending, None
        with self._failures_named():
            response.result()
            if _first_process():
                self._prune(step)

    def close(self) -> None:
        """Wait for what was saved, and let another run have the folder."""
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
        """Steps that are stored, whole or damaged, ascending."""
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdecimal())

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and metric of the best validation so far."""
        return self._best

    def _path(self, step: int) -> Path:
        return self._folder / f"{step:08d}"

    def _check_space(self, size: int) -> None:
        # Before the work, since the library that writes is wordy and slow to fail on a full disk.
        if shutil.disk_usage(self._folder).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _prune(self, newest: int) -> None:
        steps = [step for step in self.steps() if step <= newest]
        kept = {*steps[-self._keep_last :], self._best[0] if self._best else newest}
        for step in set(steps) - kept:
            # Under a name of no step first: half-deleted it would look like a damaged checkpoint.
            gone = self._folder / f"{step:08d}.deleted"
            self._path(step).rename(gone)
            shutil.rmtree(gone)

    def _agreed_steps(self) -> list[int]:
        """What every process sees; these must be the same files."""
        newest = self.steps()[-_MOST:]
        padded = np.array([-1] * (_MOST - len(newest)) + newest, np.int32)
        if not np.all(_of_all_processes(padded) == padded):
            raise InputError(
                f"{self._folder}: processes see different files; --workdir must be shared by them"
            )
        return newest

    def _read(self, step: int) -> _Stored | str:
        """A checkpoint, or what is wrong with it; the same on every process."""
        stored = _read(self._path(step))
        intact = bool(np.all(_of_all_processes(np.array([not isinstance(stored, str)]))))
        return stored if intact or isinstance(stored, str) else "another process cannot read it"

    def _put_aside(self, damaged: dict[int, str], good: int) -> None:
        for step, reason in damaged.items():
            if _first_process():
                with self._failures_named():
                    aside = self._folder / _ASIDE / f"{step:08d}"
                    aside.parent.mkdir(exist_ok=True)
                    shutil.rmtree(aside, ignore_errors=True)
                    self._path(step).rename(aside)
            self._tell(
                f"{self._path(step)}: damaged ({reason}), put aside in {_ASIDE}/; going on from step {good}"
            )
        _wait_for_all("aside")

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        """What keeps a checkpoint from being written is one line, with the way out."""
        try:
            yield
        except Exception as error:
            reason = _reason_not_written(error)
            if reason is None:
                raise
            raise InputError(
                f"{self._folder}: the checkpoint cannot be written ({reason}); put that right and start the"
                " same command again: it goes on from the checkpoint before"
            ) from error


def open_checkpoints(
    workdir: str | Path,
    config: Mapping[str, Any],
    frozen: Mapping[str, str],
    *,
    keep_last: int = 3,
    tell: Callable[[str], None] = print,
) -> Checkpoints:
    """The checkpoints of the run in `workdir`, which is made if it is not there.

    Args:
        workdir: of this run alone; with several processes, a folder that all of them see.
        config: of the run, as JSON takes it.
        frozen: sha256 of the file of each set of frozen weights, by its name.
        keep_last: newest checkpoints to keep, besides the best; older ones are deleted.
        tell: gets a line where something is worth saying.

    Raises:
        InputError: the folder cannot be made or written, or another run is using it.
    """
    # The library's own account of a failure is pages of tracebacks; what matters of it is raised, too.
    logging.getLogger("absl").addFilter(_not_from_orbax)
    logging.getLogger("asyncio").addFilter(_not_a_late_read)
    if not _hooks:
        _hooks.append(sys.unraisablehook)
        sys.unraisablehook = _unraisable
    return Checkpoints(workdir, config, frozen, keep_last=keep_last, tell=tell)


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}" not in record.pathname


# Of a damaged checkpoint the library reads many parts at once and gives up at the first that fails; others
# may come back later, to an event loop that is closed by then.
_hooks: list[Callable[[Any], object]] = []


def _not_a_late_read(record: logging.LogRecord) -> bool:
    return "exception was never retrieved" not in record.getMessage()


def _unraisable(found: Any) -> None:
    late = isinstance(found.exc_value, RuntimeError) and str(found.exc_value) == "Event loop is closed"
    if not late:
        _hooks[0](found)


def _make(folder: Path) -> int:
    """The folder, this run's alone, without what an ended process left; returns its lock."""
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
        # Some network file systems have no locks.
        pass
    for path in folder.iterdir():
        if path.is_dir() and not path.name.isdecimal() and path.name != _ASIDE:
            shutil.rmtree(path, ignore_errors=True)
    return lock


def _read(path: Path) -> _Stored | str:
    """A checkpoint from the disk, or what is wrong with it."""
    context = ocp.Context()
    # Each process reads for itself: one that fails must not leave the others waiting.
    context.multiprocessing.primary_host = jax.process_index()
    context.multiprocessing.active_processes = {jax.process_index()}
    try:
        with context:
            content: Any = ocp.load(str(path))
        arrays, text = content["arrays"], content["about"]
        if not np.array_equal(content["sha256"], content_sha256(arrays, text)):
            return "its content is not what was written"
        return _Stored(arrays, json.loads(bytes(text)))
    except MemoryError:
        raise
    except Exception as error:
        # Damage shows as any exception; the library's own words on it fill pages.
        return f"unreadable, {type(error).__name__}"


def _reason_not_written(error: BaseException) -> str | None:
    """Words for a failure of the disk; None for any other fault."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    # Array files are written by a library whose errors carry the system's only as text.
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO):
        if os.strerror(number) in str(error):
            return os.strerror(number)
    return None


def _first_process() -> bool:
    return jax.process_index() == 0


def _wait_for_all(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _of_all_processes(values: np.ndarray) -> np.ndarray:
    """The values of every process, stacked."""
    return multihost_utils.process_allgather(values, tiled=False).reshape(-1, *values.shape)
