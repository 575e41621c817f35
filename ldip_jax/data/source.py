"""Training samples without end: shuffled, random by (seed, number), shared out to processes, and resumable.

Sample number n is the same whatever the number of processes and workers, and wherever a run was taken up
again. A global batch is the next samples in order; each process takes its share of them.
"""

from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import grain
import numpy as np
from absl import flags

from ldip_jax.errors import InputError

Item = TypeVar("Item")
Opened = TypeVar("Opened", covariant=True)
Sample = TypeVar("Sample")

# As good as no end; beyond, lengths overflow.
_ENDLESS = 2**40


@runtime_checkable
class Items(Protocol[Opened]):
    """What samples are made of, each opened when its turn comes; a list will do."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Opened: ...


class Stream(Generic[Sample]):
    """An endless iterator over the batches of one process, each a list of samples.

    Of clips: `Stream(clips, partial(draw, plan), ...)`; of records likewise, with what crops them.

    Its state is the number of the next sample of the global order, whatever the workers have ahead. A context
    manager: workers end with it.
    """

    def __init__(
        self,
        items: Items[Item],
        transform: Callable[..., Sample],
        *,
        seed: int,
        batch_size: int,
        process: tuple[int, int] = (0, 1),
        workers: int = 0,
        next_index: int = 0,
        common: Callable[[np.random.Generator], Any] | None = None,
    ):
        """
        Args:
            items: each comes up once in an epoch; picklable where there are workers.
            transform: makes a sample of an item and a generator, from which all comes that is random in it.
            seed: of the order and of all samples.
            batch_size: samples of a global batch.
            process: number of this process, and how many there are.
            workers: processes that make samples; 0: a thread of this one.
            next_index: take up a run at this sample (`state`).
            common: draws what all samples of a global batch have in common, handed to `transform` as a third
                argument; batches that are not alike do not stack.

        Raises:
            InputError: no items, or a batch size that the processes cannot share.
        """
        if not len(items):
            raise InputError("there is nothing to train on; check data.dataset and data.data_dir")
        if batch_size < 1 or batch_size % process[1]:
            raise InputError(
                f"batch_size {batch_size}: {process[1]} processes cannot share it; choose a multiple"
            )
        self._samples = (
            grain.MapDataset.range(len(items))
            .seed(seed)
            .shuffle()
            .repeat(-(-_ENDLESS // len(items)))
            .map_with_index(_numbered)
            .random_map(_Guarded(items, transform, common, seed, batch_size))
        )
        self._batch_size, self._process, self._workers = batch_size, process, workers
        self._iterator: grain.DatasetIterator | None = None
        self.seek(next_index)

    def __iter__(self) -> Iterator[list[Sample]]:
        return self

    def __next__(self) -> list[Sample]:
        if self._iterator is None:
            self._iterator = self._open()
        batch = next(self._iterator)
        fault = next((sample for sample in batch if isinstance(sample, _Fault)), None)
        if fault is not None:
            raise InputError(fault.message)
        self._next_index += self._batch_size
        return batch

    @property
    def state(self) -> dict[str, int]:
        """What to store to go on from here."""
        return {"next_index": self._next_index}

    def seek(self, next_index: int) -> None:
        """Go on at a sample of the global order."""
        self.close()
        self._next_index = next_index

    def close(self) -> None:
        """End the workers; the stream may be used again."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def __enter__(self) -> "Stream[Sample]":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _open(self) -> grain.DatasetIterator:
        index, count = self._process
        mine = self._samples[self._next_index + index :: count]
        ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1 if self._workers else 2)
        batches = mine.batch(self._batch_size // count, batch_fn=list).to_iter_dataset(ahead)
        if self._workers:
            # Without absl's app.run nobody has read the flags that the workers ask for.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=1)
            batches = batches.mp_prefetch(options)
        return iter(batches)


def _numbered(number: int, index: int) -> tuple[int, int]:
    return number, index


class _Fault:
    """A fault of the user's on its way out of a worker, whose own exceptions come with its traceback."""

    def __init__(self, message: str):
        self.message = message


class _Guarded(Generic[Item, Sample]):
    """Opens an item and transforms it; faults of the user's are handed on."""

    def __init__(
        self,
        items: Items[Item],
        transform: Callable[..., Sample],
        common: Callable[[np.random.Generator], Any] | None,
        seed: int,
        batch_size: int,
    ):
        self._items, self._transform = items, transform
        self._common, self._seed, self._batch_size = common, seed, batch_size

    def __call__(self, numbered: tuple[int, int], rng: np.random.Generator) -> Sample | _Fault:
        number, index = numbered
        shared = ()
        if self._common is not None:
            shared = (self._common(np.random.default_rng([self._seed, number // self._batch_size])),)
        try:
            return self._transform(self._items[index], rng, *shared)
        except InputError as error:
            return _Fault(str(error))
