"""A progress bar with the time left, for work of several kinds."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

# No bar is shown for shorter work.
SILENT_SECONDS = 2.0
LOG_SECONDS = 10.0


class Progress:
    """Counts finished pieces of work; each kind has its own cost. A bar on a terminal, lines in a log."""

    def __init__(
        self, title: str, work: dict[str, int] | None, costs: dict[str, float], *, quiet: bool = False
    ):
        """
        Args:
            title: shown before the bar.
            work: pieces of each kind; None if unknown, in which case the time left is not shown. With more
                pieces than this, the bar stays at its end.
            costs: cost of one piece of each kind, in any unit.
            quiet: show nothing.
        """
        self._title, self._costs = title, costs
        self._total = None if work is None else sum(pieces * costs[kind] for kind, pieces in work.items())
        self._done = 0.0
        self._began = self._last_line = time.monotonic()
        self._quiet = quiet
        self._bar = self._open_bar() if sys.stderr.isatty() and not quiet else None

    def _open_bar(self) -> tqdm:
        return tqdm(
            desc=self._title,
            total=self._total,
            bar_format="{desc}: {percentage:3.0f}% {bar} {elapsed}<{remaining}"
            if self._total
            else "{desc}: {elapsed}",
            delay=SILENT_SECONDS,
            mininterval=0.2,
            leave=False,
            file=sys.stderr,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def share(self) -> float | None:
        """How much of the work is done, 0 to 1; None if that is not known."""
        return self._done / self._total if self._total else None

    def advance(self, kind: str) -> None:
        """One piece of a kind is done."""
        self._done += self._costs[kind]
        if self._total is not None:
            # By rounding, the sum may exceed the total.
            self._done = min(self._done, self._total)
        if self._bar is not None:
            self._bar.n = self._done
            self._bar.update(0)
        elif not self._quiet and time.monotonic() - self._last_line > LOG_SECONDS:
            self._print_line()

    def _print_line(self) -> None:
        self._last_line = time.monotonic()
        elapsed = self._last_line - self._began
        line = f"{tqdm.format_interval(elapsed)} so far"
        if self._total:
            part = self._done / self._total
            line = f"{100 * part:.0f}%, {tqdm.format_interval(elapsed * (1.0 - part) / part)} left"
        print(f"{self._title}: {line}", file=sys.stderr, flush=True)
