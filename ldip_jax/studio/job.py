"""One run of `ldip upscale` in a child process: its progress, its end, and how it is stopped."""

import json
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ldip_jax.errors import InputError

State = Literal["waiting", "running", "done", "failed", "stopped"]
# Seconds in which a job that is to stop puts its finished frames in order, before it is killed.
GRACE = 10.0
# Seconds of progress after which the time left is estimated.
_SETTLED = 8.0
# How `ldip` ends on Ctrl-C and SIGTERM, and how a process does that cannot answer these yet.
_INTERRUPTED = (130, 143, -2, -15)
_INTERNAL = "internal error; the terminal in which ldip studio runs says more"
_KILLED = "the run was ended by the system, which may have had too little memory; set a lower memory limit"


class Job:
    """One run; a single one works at a time, and others wait.

    Attributes:
        kind: what it makes: "matches", "preview" or "run".
        number: different for each job of a page.
        words: the arguments of `ldip`.
        state: how far it is.
        error: one line, if it failed.
        events: those of `--log-json` so far, without progress.
        share: how much of the work is done, 0 to 1; None: not known.
        left: how many seconds the rest may take; None: not known.
        kept: frames that it had from the run that it continues.
    """

    def __init__(
        self,
        kind: str,
        number: int,
        words: Sequence[str],
        log: Path,
        turn: threading.Lock,
        finish: Callable[[], object],
    ):
        """
        Args:
            log: the file to which the run appends its events.
            turn: held by the job that works.
            finish: called when the run has succeeded; may raise InputError.
        """
        self.kind, self.number, self.words = kind, number, list(words)
        self.state: State = "waiting"
        self.error = ""
        self.events: list[dict[str, Any]] = []
        self.share: float | None = None
        self.left: float | None = None
        self.kept = 0
        self._log, self._turn, self._finish = log, turn, finish
        self._read = 0
        # When progress was first reported, and what had been done by then.
        self._first: tuple[datetime, float] | None = None
        self._stop = threading.Event()
        self._began: float | None = None
        self._ended: float | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def active(self) -> bool:
        """Whether it works, or waits to."""
        return self.state in ("waiting", "running")

    @property
    def seconds(self) -> float:
        """For how long it has worked."""
        return 0.0 if self._began is None else (self._ended or time.monotonic()) - self._began

    def start(self) -> None:
        """Begin, or wait until no other job works."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to stop; what is finished is kept, so that the same run with `--resume` continues."""
        self._stop.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended."""
        self._thread.join(timeout)

    def update(self) -> None:
        """Read the events that have come since the last call."""
        with suppress(OSError), open(self._log, "rb") as file:
            file.seek(self._read)
            for line in file.read().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                event = json.loads(line)
                if event["event"] == "progress":
                    self._advance(event)
                else:
                    self.events.append(event)

    def _advance(self, event: dict[str, Any]) -> None:
        self.share, now = event["share"], datetime.fromisoformat(event["time"])
        if self._first is None:
            self._first = now, self.share or 0.0
            self.kept = event["frames"] if "--resume" in self.words else 0
        began, before = self._first
        seconds = (now - began).total_seconds()
        # What came before the first progress, such as loading and compiling, says nothing about the rest.
        if self.share is not None and self.share > before and seconds >= _SETTLED:
            self.left = round(seconds * (1.0 - self.share) / (self.share - before), 1)

    def _run(self) -> None:
        while not self._turn.acquire(timeout=0.1):
            if self._stop.is_set():
                self.state = "stopped"
                return
        try:
            self._began = time.monotonic()
            self.state = "running"
            self.state = self._work()
        except (InputError, OSError) as error:
            self._fail(str(error))
        except Exception:
            traceback.print_exc()
            self._fail(_INTERNAL)
        finally:
            self._ended = time.monotonic()
            self._turn.release()

    def _fail(self, error: str) -> None:
        self.error, self.state = error, "failed"

    def _work(self) -> State:
        if self._stop.is_set():
            return "stopped"
        errors: deque[str] = deque(maxlen=60)
        with subprocess.Popen(
            [sys.executable, "-m", "ldip_jax.studio.child", *self.words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
        ) as process:
            assert process.stderr is not None
            reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
            reader.start()
            try:
                self._wait(process)
            finally:
                # Nothing outlives the studio.
                if process.poll() is None:
                    process.kill()
            reader.join()
        # Somebody else may have interrupted it; then, too, it can be continued.
        if process.returncode in _INTERRUPTED or (self._stop.is_set() and process.returncode != 0):
            return "stopped"
        if process.returncode == 0:
            self._finish()
            return "done"
        self.error = _failure(list(errors), process.returncode)
        return "failed"

    def _wait(self, process: subprocess.Popen) -> None:
        killed_at = None
        while process.poll() is None:
            if self._stop.is_set() and killed_at is None:
                assert process.stdin is not None
                process.stdin.close()
                killed_at = time.monotonic() + GRACE
            if killed_at is not None and time.monotonic() > killed_at:
                process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)


def _failure(errors: list[str], code: int) -> str:
    """What the user can do about a run that failed, in one line."""
    lines = [line.rstrip("\n") for line in errors]
    if code < 0 or code == 137:
        return _KILLED
    for line in reversed(lines):
        for start in ("ldip: ", "ldip upscale: error: "):
            if code == 2 and line.startswith(start):
                return line.removeprefix(start)
    print("".join(errors), file=sys.stderr, flush=True)
    return _INTERNAL
