"""Seconds per part of a run: `with Profile() as profile`, and `part` around each piece of work.

JAX runs programs asynchronously: a call returns before its result is there. While a profile is measured, each
piece of work therefore waits for its results (`timed`), so that their time counts where they are made, not
where they happen to be needed. Time that JAX spends on tracing, compiling and loading programs counts as the
part "compile", wherever it occurs. Without a profile, all this costs nothing and nothing waits.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

COMPILE = "compile"
# JAX reports the durations of tracing, lowering, and compiling or loading under these names.
_COMPILING = "/jax/core/compile/"
T = TypeVar("T")
_active: ContextVar["Profile | None"] = ContextVar("profile", default=None)


class Profile:
    """Measures what runs in this thread until its block ends.

    Attributes:
        seconds: of each part and step, without what other parts within it took.
        calls: how often each of them ran.
        wall, cpu: seconds from beginning to end: elapsed, and of this process on all cores.
    """

    def __init__(self):
        self.seconds: dict[tuple[str, str], float] = defaultdict(float)
        self.calls: dict[tuple[str, str], int] = defaultdict(int)
        self.wall = self.cpu = 0.0
        self._within = 0.0
        self._compiled = 0.0
        # Stretches of compiling so far; one program may be traced while another is.
        self._stretches: list[tuple[float, float]] = []

    def __enter__(self) -> "Profile":
        import jax.monitoring

        self._began = time.perf_counter(), time.process_time()
        self._token = _active.set(self)
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *error: object) -> None:
        import jax.monitoring

        jax.monitoring.unregister_event_duration_listener(self._listen)
        _active.reset(self._token)
        self.wall, self.cpu = (
            now - began
            for now, began in zip((time.perf_counter(), time.process_time()), self._began, strict=True)
        )

    def _listen(self, event: str, duration_secs: float, **_: object) -> None:
        if not event.startswith(_COMPILING):
            return
        now = time.perf_counter()
        start = now - duration_secs
        while self._stretches and self._stretches[-1][0] >= start:
            first, last = self._stretches.pop()
            self._compiled -= last - first
        self._stretches.append((start, now))
        self._compiled += duration_secs
        self.calls[COMPILE, event.removeprefix(_COMPILING).removesuffix("_duration")] += 1

    @contextmanager
    def part(self, name: str, step: str = "") -> Iterator[None]:
        """What runs in this block belongs to a step of a part; parts within it are not counted twice."""
        outside, compiled = self._within, self._compiled
        self._within, began = 0.0, time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - began
            self.seconds[name, step] += max(0.0, elapsed - self._within - (self._compiled - compiled))
            self.calls[name, step] += 1
            self._within = outside + elapsed - (self._compiled - compiled)

    def report(self) -> dict[str, Any]:
        """As JSON: `seconds`, `cpu_seconds`, and the seconds and calls of all `parts` and their steps.

        The parts' seconds add up to `seconds`; "other" is what belongs to none of them.
        """
        parts: dict[str, dict[str, Any]] = {}
        for (name, step), seconds in self.seconds.items():
            part = parts.setdefault(name, {"seconds": 0.0, "steps": {}})
            part["seconds"] += seconds
            part["steps"][step or name] = {"seconds": round(seconds, 4), "calls": self.calls[name, step]}
        steps = {step: {"calls": calls} for (name, step), calls in self.calls.items() if name == COMPILE}
        parts[COMPILE] = {"seconds": self._compiled, "steps": steps}
        rest = self.wall - sum(part["seconds"] for part in parts.values())
        parts["other"] = {"seconds": max(0.0, rest), "steps": {}}
        for part in parts.values():
            part["seconds"] = round(part["seconds"], 4)
        return {"seconds": round(self.wall, 4), "cpu_seconds": round(self.cpu, 4), "parts": parts}


@contextmanager
def part(name: str, step: str = "") -> Iterator[None]:
    """See `Profile.part`; does nothing without a profile."""
    profile = _active.get()
    if profile is None:
        yield
    else:
        with profile.part(name, step):
            yield


def timed(name: str, step: str, function: Callable[..., T]) -> Callable[..., T]:
    """`function`, whose results are waited for, as a step of a part, while a profile is measured."""

    def run(*args: Any) -> T:
        profile = _active.get()
        if profile is None:
            return function(*args)
        import jax

        with profile.part(name, step):
            return jax.block_until_ready(function(*args))

    return run


def timed_items(name: str, step: str, items: Iterable[T]) -> Iterator[T]:
    """The same items; the time that each takes to come is a step of a part."""
    rest = iter(items)
    while True:
        with part(name, step):
            try:
                item = next(rest)
            except StopIteration:
                return
        yield item
