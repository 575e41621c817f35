"""Endless training samples: shuffled, random by (seed, number), shared among processes, and resumable.

Sample number n is the same for any number of processes and workers, and after every interruption. A global
batch is the next samples in order, of which each process takes its share.
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

# Practically endless; lengths beyond this overflow.
_ENDLESS = 2**40


@runtime_checkable
class Items(Protocol[Opened]):
    """What samples are made from; an item is opened only when it is needed. A list will do."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Opened: ...


class SampleStream(Generic[Sample]):
    """An endless iterator over the batches of one process, each a list of samples.

    For clips: `SampleStream(clips, partial(draw, spec), ...)`. For records: the same, with a function that
        crops
    them.

    Its state is the number of the next sample in the global order, whatever the workers have prepared in
    advance. It is a context manager, which ends the workers on exit.
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
        draw_batch_settings: Callable[[int, np.random.Generator], Any] | None = None,
    ):
        """
        Args:
            items: each is used once in an epoch; they must be picklable if there are workers.
            transform: makes a sample from an item and a generator, from which all randomness must come.
            seed: seed of the order and of all samples.
            batch_size: number of samples of a global batch.
            process: the number of this process, and the number of processes.
            workers: number of processes that make samples; 0: a thread of this process.
            next_index: resume a run at this sample (`state`).
            draw_batch_settings: draws what all samples of a global batch have in common, such as their size,
                so that they can be stacked, from the batch's number and a generator; passed to `transform`
                as a third argument.

        Raises:
            InputError: there are no items, or the processes cannot share the batch size equally.
        """
        self._batch_settings = _BatchSettings(draw_batch_settings, seed, batch_size)
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
            .random_map(_Transform(items, transform, self._batch_settings))
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
        error = next((sample for sample in batch if isinstance(sample, _WorkerError)), None)
        if error is not None:
            raise InputError(error.message)
        self._next_index += self._batch_size
        return batch

    @property
    def state(self) -> dict[str, int]:
        """What to store in order to resume from here."""
        return {"next_index": self._next_index}

    @property
    def batch_settings(self) -> Any:
        """What the samples of the next batch have in common."""
        return self._batch_settings(self._next_index)

    def seek(self, next_index: int) -> None:
        """Continue at a sample of the global order."""
        self.close()
        self._next_index = next_index

    def close(self) -> None:
        """End the workers; the stream may be used again."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def __enter__(self) -> "SampleStream[Sample]":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _open(self) -> grain.DatasetIterator:
        index, count = self._process
        own_samples = self._samples[self._next_index + index :: count]
        ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1 if self._workers else 2)
        batches = own_samples.batch(self._batch_size // count, batch_fn=list).to_iter_dataset(ahead)
        if self._workers:
            # The workers need absl's flags, which are not parsed without absl's app.run.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            options = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=1)
            batches = batches.mp_prefetch(options)
        return iter(batches)


def _numbered(number: int, index: int) -> tuple[int, int]:
    return number, index


class _WorkerError:
    """An input error that is passed out of a worker; an exception would come with the worker's traceback."""

    def __init__(self, message: str):
        self.message = message


class _BatchSettings:
    """What the samples of a batch have in common, from the number of one of them."""

    def __init__(self, draw: Callable[[int, np.random.Generator], Any] | None, seed: int, batch_size: int):
        self._draw, self._seed, self._batch_size = draw, seed, batch_size

    def __call__(self, number: int) -> Any:
        if self._draw is None:
            return None
        batch = number // self._batch_size
        return self._draw(batch, np.random.default_rng([self._seed, batch]))


class _Transform(Generic[Item, Sample]):
    """Opens an item and transforms it; input errors are returned as a `_WorkerError`."""

    def __init__(self, items: Items[Item], transform: Callable[..., Sample], batch_settings: _BatchSettings):
        self._items, self._transform, self._batch_settings = items, transform, batch_settings

    def __call__(self, numbered: tuple[int, int], rng: np.random.Generator) -> Sample | _WorkerError:
        number, index = numbered
        settings = self._batch_settings(number)
        try:
            return self._transform(self._items[index], rng, *(() if settings is None else (settings,)))
        except InputError as error:
            return _WorkerError(str(error))
