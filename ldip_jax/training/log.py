"""What a run tells: metrics for TensorBoard and as JSON lines, and a line on the console with the time left.

Written by the first process alone. A resumed run goes on in the same files: whatever had been logged of steps
that are now done again is taken back first.
"""

import io
import json
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

from ldip_jax.atomic import atomic_open
from ldip_jax.errors import InputError

METRICS = "metrics.jsonl"


class RunLog:
    """The log of one run, in its folder."""

    def __init__(self, workdir: str | Path, *, steps: int, batch_size: int, first_step: int = 0):
        """
        Args:
            workdir: gets `metrics.jsonl` and `events.out.tfevents.*`.
            steps: that the run will have at its end.
            batch_size: samples a step, over all processes.
            first_step: steps already done, where the run goes on from.

        Raises:
            InputError: the folder cannot be written.
        """
        self._path = Path(workdir) / METRICS
        self._steps, self._batch_size = steps, batch_size
        self._last_step, self._last_time = first_step, time.monotonic()
        self._files = ExitStack()
        self._events: RecordWriter | None = None
        if jax.process_index() == 0:
            with self._failures_named():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                _take_back(self._path, first_step)
                self._lines = self._open(self._path, "a")
                self._events = RecordWriter(self._open(_events_path(self._path.parent), "xb"))
                self._write(Event(file_version="brain.Event:2"))
                # Takes back what earlier files say of later steps.
                restart = SessionLog(status=SessionLog.START)
                self._write(Event(step=first_step + 1, session_log=restart))

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def progress(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics of training, with a line on the console: throughput since the last one, time left."""
        now = time.monotonic()
        rate = (step - self._last_step) / max(now - self._last_time, 1e-9)
        self._last_step, self._last_time = step, now
        self.metrics(
            step, {**metrics, "steps_per_second": rate, "samples_per_second": rate * self._batch_size}
        )
        left = tqdm.format_interval((self._steps - step) / rate) if rate > 0 else "?"
        self.tell(
            f"step {step}/{self._steps}  {_shown(metrics)}  {rate:.3g} steps/s"
            f"  {rate * self._batch_size:.3g} samples/s  {left} left"
        )

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics; each name shows as a curve of its own."""
        if self._events is None:
            return
        values = {name: float(value) for name, value in metrics.items()}
        # JSON has no word for what is not finite.
        line = {name: value if math.isfinite(value) else None for name, value in values.items()}
        summary = Summary(value=[Summary.Value(tag=n, simple_value=v) for n, v in values.items()])
        with self._failures_named():
            self._lines.write(json.dumps({"step": step, **line}) + "\n")
            self._lines.flush()
            self._write(Event(step=step, summary=summary))

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Log an RGB image, for TensorBoard alone."""
        if self._events is None:
            return
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG")
        height, width, _ = image.shape
        content = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png.getvalue())
        with self._failures_named():
            self._write(Event(step=step, summary=Summary(value=[Summary.Value(tag=name, image=content)])))

    def tell(self, line: str) -> None:
        """A line on the console."""
        if self._events is not None:
            print(line, flush=True)

    @contextmanager
    def untimed(self) -> Iterator[None]:
        """Work that is no training, such as validation: it does not count into the throughput."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._last_time += time.monotonic() - began

    def _open(self, path: Path, mode: str) -> Any:
        return self._files.enter_context(path.open(mode))

    def _write(self, event: Event) -> None:
        assert self._events is not None
        event.wall_time = time.time()
        self._events.write(event.SerializeToString())
        self._events.flush()

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self._path.parent}: the log cannot be written ({error.strerror}); put that right and"
                " start the same command again"
            ) from error


def _take_back(path: Path, first_step: int) -> None:
    """Drop lines of later steps, and a last line that was cut off."""
    if not path.exists():
        return
    with atomic_open(path) as file, open(path, "rb") as lines:
        for line in lines:
            try:
                keep = line.endswith(b"\n") and json.loads(line)["step"] <= first_step
            except (ValueError, TypeError, KeyError):
                keep = False
            if keep:
                file.write(line)


def _events_path(folder: Path) -> Path:
    # Sorted by name, the files are in the order of their making.
    now = time.time_ns() // 1000
    return folder / f"events.out.tfevents.{now:018d}.{socket.gethostname()}.{os.getpid()}"


def _shown(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {float(value):.4g}" for name, value in metrics.items())
