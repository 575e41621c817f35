"""Reading and writing beside the computation: one thread reads ahead, one writes behind.

Order is kept, and each holds a bounded number of frames. What a thread raises is raised in the thread that
uses it, as if there were only that one.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from queue import Empty, Queue
from threading import Event, Thread
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")
# Seconds to wait for a thread that reads from a pipe, which may never give anything again.
_PATIENCE = 1.0


def read_ahead(items: Iterator[T], most: int) -> Generator[T, None, None]:
    """The same items, fetched by a thread before they are needed.

    Close it if not all items are taken: the thread then ends.

    Args:
        items: a generator; closed in the thread that takes the items.
        most: how many may wait; 0: nothing is read ahead, and there is no thread.
    """
    if most == 0:
        yield from items
        return
    waiting: Queue[tuple[Any, BaseException | None]] = Queue(most)
    stop = Event()

    def work() -> None:
        error: BaseException = StopIteration()
        try:
            with closing(items):  # type: ignore[type-var]
                for item in items:
                    if stop.is_set():
                        return
                    waiting.put((item, None))
                    del item
        except BaseException as raised:
            error = raised
        if not stop.is_set():
            waiting.put((None, error))

    thread = Thread(target=work, name="reader", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
            del item
    finally:
        stop.set()
        # It may wait for a free place.
        with suppress(Empty):
            while True:
                waiting.get_nowait()
        thread.join(_PATIENCE)


class WriteBehind:
    """Runs calls in a thread, one after the other, while the caller continues.

    A context manager: when its block ends, also by an exception, everything given has been done, unless
    something raised. What raised is raised again by the next `do` or `check`, or when the block ends.
    """

    def __init__(self, most: int):
        """
        Args:
            most: how many calls may wait; `do` blocks while that many do. 0: each call runs at once, without
                a thread.
        """
        self._waiting: Queue[tuple[Callable[..., object], tuple[Any, ...]] | None] = Queue(most)
        self._error: BaseException | None = None
        self._stopped = False
        self._thread = Thread(target=self._work, name="writer", daemon=True) if most else None

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            call, args = item
            # After an error, later calls are dropped, so that nobody waits.
            if self._error is None and not self._stopped:
                try:
                    call(*args)
                except BaseException as error:
                    self._error = error
            # Frames are large.
            del item, call, args

    def do(self, call: Callable[..., object], *args: Any) -> None:
        """Run `call(*args)` after all earlier calls.

        Raises:
            BaseException: what an earlier call raised.
        """
        self.check()
        if self._thread is None:
            call(*args)
        else:
            self._waiting.put((call, args))

    def check(self) -> None:
        """Raise what a call raised, if any did."""
        if self._error is not None:
            raise self._error

    def __enter__(self) -> "WriteBehind":
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        try:
            self._waiting.put(None)
            self._thread.join()
        except BaseException:
            # Interrupted again: only what is being done is finished, since its files are about to be closed.
            self._stopped = True
            self._waiting.put(None)
            self._thread.join()
            raise
        if error is None:
            self.check()
