"""Ending early without losing a step: signals, and losses that are no numbers."""

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import jax
from jax.experimental import multihost_utils

from ldip_jax.errors import InputError


class Preemption:
    """Turns SIGTERM and SIGUSR1, by which clusters take a machine back, and Ctrl-C into the end of a step.

    Within the block, the first signal is remembered: training asks `stop` after each step, saves, and exits
    with `exit_code`. A second Ctrl-C ends the program at once. With several processes, one that is told tells
    the others, and all stop after the same step.
    """

    def __init__(self, tell: Callable[[str], None] = print):
        self._tell = tell
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Preemption":
        # With several processes SIGTERM is JAX's: its handler is how they agree on a step.
        alone = (signal.SIGTERM,) if jax.process_count() == 1 else ()
        for number in (signal.SIGINT, signal.SIGUSR1, *alone):
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop(self, step: int) -> bool:
        """Whether training ends after this step; every process asks after every step."""
        if jax.process_count() > 1:
            stop = multihost_utils.reached_preemption_sync_point(step)
        else:
            stop = self._received is not None
        if stop:
            self._received = self._received or signal.SIGTERM
            self._tell(f"{signal.Signals(self._received).name}: stopping after step {step}")
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
    """Counts steps skipped because their loss or gradient was not finite; many in a row end training."""

    def __init__(self, patience: int, tell: Callable[[str], None] = print):
        """
        Args:
            patience: skipped steps in a row that are still borne.
            tell: gets a line at each skipped step.
        """
        self._patience, self._tell = patience, tell
        self._in_a_row = 0

    def observe(self, step: int, skipped: bool) -> None:
        """Take note of a step.

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
        self._tell(f"step {step}: loss or gradient not finite, step skipped")
