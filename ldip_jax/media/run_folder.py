"""The folder `.OUT.ldip` beside an output: its finished parts, from which a later run resumes.

lock            held while a run works in the folder
run.json        what the output is made from; a run with anything else cannot resume here
steps.jsonl     a line for each finished step, written once its frames are safely on disk
frames/         finished PNG files; or
*.packets       encoded segments of a video, and
*.pictures      frames that wait for the rest of their segment
whole.*         the video being put together
placing         the output is complete here, and moves to its place
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ldip_jax.atomic import atomic_open
from ldip_jax.errors import InputError
from ldip_jax.untrusted import printable

FORMAT = 1
_LOCK, _COMPLETE, _IDENTITY, _STEPS = "lock", "placing", "run.json", "steps.jsonl"


class BusyError(InputError):
    """Another process is making this output."""


@dataclass(frozen=True)
class Step:
    """Frames that were finished together.

    Attributes:
        first: place of the first one in the output.
        numbers: their numbers in the clip, ascending.
        data: what the sink needs to find them again.
        extra: what the caller keeps with them.
    """

    first: int
    numbers: list[int]
    data: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def stop(self) -> int:
        return self.first + len(self.numbers)


def run_folder_path(out: Path) -> Path:
    """Where the folder of an output is: beside it, or inside a folder whose parent cannot hold it."""
    target = Path(os.path.realpath(out))
    parent = target.parent
    if target.is_dir():
        mounted = parent.stat().st_dev != target.stat().st_dev
        if mounted or not os.access(parent, os.W_OK | os.X_OK):
            return target / ".ldip"
    return parent / f".{target.name}.ldip"


def is_left_unfinished(out: Path) -> bool:
    """Whether an earlier run has left more than its lock beside an output."""
    folder = run_folder_path(out)
    return folder.is_dir() and any(entry.name != _LOCK for entry in folder.iterdir())


def is_left_complete(out: Path) -> bool:
    """Whether an earlier run has moved an output to its place, but not cleaned up."""
    folder = run_folder_path(out)
    left_to_move = [*folder.glob("whole.*"), *folder.glob("frames/*")]
    return (folder / _COMPLETE).exists() and not left_to_move


class RunFolder:
    """The folder of one output, locked while it is open.

    Attributes:
        path: the folder.
        steps: what is finished.
        discarded_frames: how many frames of an earlier run were thrown away.
    """

    def __init__(self, out: Path):
        self.path = run_folder_path(out)
        self.steps: list[Step] = []
        self.discarded_frames = 0
        self._out = out
        self._lock: FileLock | None = None

    @property
    def finished_frames(self) -> int:
        """How many frames are finished."""
        return self.steps[-1].stop if self.steps else 0

    @property
    def is_complete(self) -> bool:
        """Whether the output is complete, apart from being moved to its place."""
        return (self.path / _COMPLETE).exists()

    def open(
        self, identity: Mapping[str, Any], *, resume: bool, count_intact: Callable[[Sequence[Step]], int]
    ) -> None:
        """Lock the folder and read its content, or empty it if the run cannot or must not be resumed.

        Args:
            identity: what the output is made from, by names that the user knows.
            resume: continue an earlier run if there is one.
            count_intact: how many of the steps have their files as they were written.

        Raises:
            InputError: another process works in it, or it belongs to a run that made something else.
            OSError: it cannot be written.
        """
        self._acquire()
        try:
            wanted = {"format of the folder": FORMAT, **json.loads(json.dumps(identity))}
            found = self._read_identity()
            self.steps = self._read_steps()
            if resume and self.is_complete and not (found and self.steps):
                # Only removing the folder was interrupted.
                return
            if resume and found is not None and self.steps:
                self._compare(found, wanted)
                # What has moved to its place already is missing here.
                intact = len(self.steps) if self.is_complete else count_intact(self.steps)
                if intact < len(self.steps):
                    self.steps = self.steps[:intact]
                    self._write_steps()
                return
            self.discarded_frames, self.steps = self.finished_frames, []
            self._empty()
            with atomic_open(self.path / _IDENTITY) as file:
                file.write(json.dumps(wanted, indent=1).encode())
            self._write_steps()
        except BaseException:
            if self.steps:
                self.close()
            else:
                self.remove()
            raise

    def _acquire(self) -> None:
        while True:
            self.path.mkdir(exist_ok=True)
            lock = FileLock(self.path / _LOCK, timeout=0)
            try:
                lock.acquire()
            except Timeout:
                raise BusyError(f"{self._out}: another process is making it; wait for that one") from None
            # The process that held it may have removed the folder meanwhile.
            if (self.path / _LOCK).exists():
                self._lock = lock
                return
            lock.release(force=True)

    def _read_identity(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.path / _IDENTITY).read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _compare(self, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        for name in [*wanted, *found]:
            if found.get(name) != wanted.get(name):
                before, after = str(found.get(name)), str(wanted.get(name))
                # Hash values would not help.
                now = f" ({printable(before)}, now {after})" if max(len(before), len(after)) < 40 else ""
                raise InputError(
                    f"{self.path}: was made with another {name}{now}; give the same again,"
                    " or leave --resume out to begin again"
                )

    def _read_steps(self) -> list[Step]:
        steps: list[Step] = []
        try:
            lines = (self.path / _STEPS).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            return steps
        for line in lines:
            try:
                step = Step(**json.loads(line))
            except (ValueError, TypeError):
                # The last line may be cut short.
                break
            if step.first != (steps[-1].stop if steps else 0) or not step.numbers:
                break
            steps.append(step)
        return steps

    def _write_steps(self) -> None:
        with atomic_open(self.path / _STEPS) as file:
            for step in self.steps:
                file.write(json.dumps(asdict(step)).encode() + b"\n")

    def commit(self, step: Step) -> None:
        """Record a finished step, whose files are on disk."""
        sync(self.path)
        with open(self.path / _STEPS, "ab") as file:
            file.write(json.dumps(asdict(step)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.steps.append(step)

    def mark_complete(self) -> None:
        """Record that the output is complete."""
        sync(self.path)
        with atomic_open(self.path / _COMPLETE):
            pass
        sync(self.path)

    def _empty(self, keep: Sequence[str] = (_LOCK,)) -> None:
        for entry in self.path.iterdir():
            if entry.name in keep:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def remove(self) -> None:
        """Remove the folder with its content."""
        # If this is interrupted, a run that resumes must not take what is left for unfinished work.
        with suppress(OSError):
            self._empty(keep=(_LOCK, _COMPLETE, _IDENTITY, _STEPS))
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Release the lock; another run may resume."""
        if self._lock is not None:
            self._lock.release(force=True)
            self._lock = None


def sync(folder: Path) -> None:
    """Write the names in a folder to disk."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
