"""What a run reports: metrics for TensorBoard and as JSON lines, progress on the console, contact sheets.

Only the first process writes. A resumed run continues the same files. What had been logged for steps that are
now repeated is removed first.
"""

import io
import json
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8
from PIL import Image, ImageDraw
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

from ldip_jax.atomic import atomic_open
from ldip_jax.errors import InputError
from ldip_jax.media.color import quantise

METRICS = "metrics.jsonl"


class RunLog:
    """The log of one run, in its folder."""

    def __init__(self, workdir: str | Path, *, steps: int, batch_size: int, first_step: int = 0):
        """
        Args:
            workdir: the folder for `metrics.jsonl` and `events.out.tfevents.*`.
            steps: the number of steps at the end of the run.
            batch_size: samples per step, over all processes.
            first_step: the number of steps already done, from which the run resumes.

        Raises:
            InputError: the folder cannot be written.
        """
        self._path = Path(workdir) / METRICS
        self._steps, self._batch_size = steps, batch_size
        self._last_step, self._last_time = first_step, time.monotonic()
        self._files = ExitStack()
        self._events: RecordWriter | None = None
        if jax.process_index() == 0:
            with self._explained_failures():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                _drop_later_lines(self._path, first_step)
                self._lines = self._open(self._path, "a")
                self._events = RecordWriter(self._open(_events_path(self._path.parent), "xb"))
                self._write(Event(file_version="brain.Event:2"))
                # Makes TensorBoard drop what earlier files hold for later steps.
                restart = SessionLog(status=SessionLog.START)
                self._write(Event(step=first_step + 1, session_log=restart))

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def progress(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log training metrics and print a line: the metrics, throughput since the last call, time left."""
        now = time.monotonic()
        rate = (step - self._last_step) / max(now - self._last_time, 1e-9)
        self._last_step, self._last_time = step, now
        self.metrics(
            step, {**metrics, "steps_per_second": rate, "samples_per_second": rate * self._batch_size}
        )
        left = tqdm.format_interval((self._steps - step) / rate) if rate > 0 else "?"
        self.notify(
            f"step {step}/{self._steps}  {_format_metrics(metrics)}  {rate:.3g} steps/s"
            f"  {rate * self._batch_size:.3g} samples/s  {left} left"
        )

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics; each name gets its own curve."""
        if self._events is None:
            return
        values = {name: float(value) for name, value in metrics.items()}
        # JSON cannot represent non-finite numbers.
        line = {name: value if math.isfinite(value) else None for name, value in values.items()}
        summary = Summary(value=[Summary.Value(tag=n, simple_value=v) for n, v in values.items()])
        with self._explained_failures():
            self._lines.write(json.dumps({"step": step, **line}) + "\n")
            self._lines.flush()
            self._write(Event(step=step, summary=summary))

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Log an RGB image, only for TensorBoard."""
        if self._events is None:
            return
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG")
        height, width, _ = image.shape
        content = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png.getvalue())
        with self._explained_failures():
            self._write(Event(step=step, summary=Summary(value=[Summary.Value(tag=name, image=content)])))

    def notify(self, line: str) -> None:
        """Print a line on the console."""
        if self._events is not None:
            print(line, flush=True)

    @contextmanager
    def untimed(self) -> Iterator[None]:
        """Leave work that is not training, such as validation, out of the throughput."""
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
    def _explained_failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self._path.parent}: the log cannot be written ({error.strerror}); solve that and"
                " start the same command again"
            ) from error


def _drop_later_lines(path: Path, first_step: int) -> None:
    """Remove lines of later steps, and a last line that was cut off."""
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
    # Sorted by name, the files are in the order in which they were created.
    now = time.time_ns() // 1000
    return folder / f"events.out.tfevents.{now:018d}.{socket.gethostname()}.{os.getpid()}"


def _format_metrics(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {float(value):.4g}" for name, value in metrics.items())


GAP = 4
LABEL = 14
SHADE = 32
_INK = (235, 235, 235)

_Row = list[tuple[str, np.ndarray]]


class KeyFrameImages(NamedTuple):
    """A key-frame's references, on canvases that may be larger than the references.

    Attributes:
        place: index of the key-frame in the clip.
        references: RGB images.
        sizes: true (height, width) of each.
        valid: 0 for empty slots.
        confidence: of each reference at each pixel of the key-frame, in [0, 1].
    """

    place: int
    references: UInt8[np.ndarray, "n h w 3"]
    sizes: Int[np.ndarray, "n 2"]
    valid: Shaped[np.ndarray, " n"]
    confidence: Float[np.ndarray, "n H W 1"]


def contact_sheet(
    lr: UInt8[np.ndarray, "t h w 3"],
    output: Float[np.ndarray, "t H W 3"],
    target: UInt8[np.ndarray, "t H W 3"],
    key_frames: Sequence[KeyFrameImages],
) -> UInt8[np.ndarray, "rows columns 3"]:
    """LR, output, target and difference at the middle frame; then the same at each key-frame, with its
    references and their confidence.

    Args:
        lr: enlarged to the output's size without interpolation.
        output: in [0, 1], clipped here; NaN is shown as black.
        target: the true frames.
        key_frames: the key-frames, one row for each.
    """
    rows = [_frame_row(lr, output, target, len(output) // 2, "frame")]
    for key in key_frames:
        row = _frame_row(lr, output, target, key.place, "key-frame")
        for n in np.flatnonzero(key.valid):
            height, width = key.sizes[n]
            row.append((f"reference {n + 1}", key.references[n, :height, :width]))
            row.append(("confidence", _to_uint8(np.repeat(key.confidence[n], 3, axis=-1))))
        rows.append(row)
    return _stack([_side_by_side(row) for row in rows])


def _frame_row(lr: np.ndarray, output: np.ndarray, target: np.ndarray, t: int, name: str) -> _Row:
    height, width = output.shape[1:3]
    enlarged = Image.fromarray(lr[t]).resize((width, height), Image.Resampling.NEAREST)
    image = _to_uint8(output[t])
    difference = np.abs(image.astype(int) - target[t])
    return [
        (f"{name} {t}: LR", np.asarray(enlarged)),
        ("output", image),
        ("target", target[t]),
        ("difference x 4", _to_uint8(4.0 * difference / 255.0)),
    ]


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return quantise(np.nan_to_num(image.astype(np.float32)), 8)


def _side_by_side(row: _Row) -> np.ndarray:
    height = LABEL + max(image.shape[0] for _, image in row)
    widths = [max(image.shape[1], 6 * len(label)) for label, image in row]
    sheet = Image.new("RGB", (sum(widths) + GAP * (len(row) + 1), height), (SHADE,) * 3)
    draw = ImageDraw.Draw(sheet)
    left = GAP
    for (label, image), width in zip(row, widths, strict=True):
        draw.text((left, 1), label, fill=_INK)
        sheet.paste(Image.fromarray(np.ascontiguousarray(image)), (left, LABEL))
        left += width + GAP
    return np.asarray(sheet)


def _stack(rows: Sequence[np.ndarray]) -> np.ndarray:
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(row, ((0, GAP), (0, width - row.shape[1]), (0, 0)), constant_values=SHADE) for row in rows]
    )
