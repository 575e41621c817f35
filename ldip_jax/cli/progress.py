"""A progress bar over work of different kinds, with the time left."""

import io
import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

# Shorter work is over before a bar says anything.
SILENT_SECONDS = 2.0
LOG_SECONDS = 10.0


class Progress:
    """Counts finished pieces of work, each kind with its own cost: a bar on a terminal, lines in a log."""

    def __init__(self, title: str, work: dict[str, int] | None, costs: dict[str, float]):
        """
        Args:
            title: shown before the bar.
            work: pieces of each kind; None where it is not known, so that no time left can be told.
            costs: of one piece of each kind, in any unit.
        """
        total = None if work is None else sum(pieces * costs[kind] for kind, pieces in work.items())
        self._costs, self._terminal, self._told = costs, sys.stderr.isatty(), time.monotonic()
        self._bar = tqdm(
            desc=title,
            total=total,
            bar_format="{desc}: {percentage:3.0f}% {bar} {elapsed}<{remaining}"
            if total
            else "{desc}: {elapsed}",
            delay=SILENT_SECONDS,
            mininterval=0.2,
            leave=False,
            file=sys.stderr if self._terminal else io.StringIO(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self, kind: str) -> None:
        """One piece of a kind is done."""
        self._bar.update(self._costs[kind])
        if not self._terminal and time.monotonic() - self._told > LOG_SECONDS:
            self._told = time.monotonic()
            state = self._bar.format_dict
            line = f"{self._bar.desc}: {tqdm.format_interval(state['elapsed'])}"
            if state["total"]:
                part = min(state["n"] / state["total"], 1.0)
                left = tqdm.format_interval(state["elapsed"] * (1.0 - part) / part)
                line = f"{self._bar.desc}: {100 * part:.0f}%, {left} left"
            print(line, file=sys.stderr, flush=True)
