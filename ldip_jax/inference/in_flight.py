"""How far the device may work behind Python, which calls programs before their arguments are there."""

from collections import deque
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Float

T = TypeVar("T")


def most_in_flight() -> int:
    """How many results may be unfinished when the next one is asked for.

    None on a CPU: programs would run side by side, and each takes its memory. A GPU runs one after the other,
    and with one result in flight it has work while Python prepares more.
    """
    return 0 if jax.local_devices()[0].platform == "cpu" else 1


class InFlight:
    """Results that the device may still be working on; waits for the oldest when there are too many."""

    def __init__(self):
        self._most = most_in_flight()
        self._results: deque[Any] = deque()

    def add(self, result: T) -> T:
        """The same result; once too many are in flight, the oldest is finished first."""
        self._results.append(result)
        while len(self._results) > self._most:
            jax.block_until_ready(self._results.popleft())
        return result


def to_host(images: Iterator[Float[Array, "1 h w c"]]) -> Iterator[Float[np.ndarray, "h w c"]]:
    """The images in host memory; each is copied while the device makes the next one."""
    waiting: deque[Float[Array, "1 h w c"]] = deque()
    most = most_in_flight()
    for image in images:
        image.copy_to_host_async()
        waiting.append(image)
        if len(waiting) > most:
            yield np.asarray(waiting.popleft())[0]
    while waiting:
        yield np.asarray(waiting.popleft())[0]
