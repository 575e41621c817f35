"""The page of `ldip upscale --report`: bicubic and the result, and the key-frames' references."""

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from ldip_jax.errors import InputError
from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.media.clip import Clip
from ldip_jax.media.images import encode_png
from ldip_jax.media.outputs import check_parent, check_writable
from ldip_jax.report.comparison import choose_crops, shown_frames
from ldip_jax.report.content import KeyFrame, Method, Reference
from ldip_jax.report.page import write_report

MAX_FRAMES = 8
# If the clip's length is not known: the first frames, this far apart.
UNKNOWN_STRIDE = 25


def _to_uint8(image: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.round(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)


def check_report_file(
    path: Path, output: Path, suffixes: tuple[str, ...], what: str, *, overwrite: bool
) -> None:
    """Check before the work that a file about it can be written after it.

    Args:
        what: it is: "report" ...

    Raises:
        InputError: it cannot.
    """
    place = path.resolve()
    article = "an" if suffixes[0] == ".html" else "a"
    if output.resolve() in (place, *place.parents):
        raise InputError(f"{path}: is the output or inside it; choose another place")
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: a {what} is {article} {suffixes[0]} file; give it that extension")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; choose another name for the {what}")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; add --overwrite or choose another name")
    check_parent(path)
    check_writable(path)


class ReportFrames:
    """The frames that a report shows, kept while the clip is processed.

    Attributes:
        path: the file of the report.
    """

    def __init__(self, path: Path, count: int | None, chosen: Iterable[int] | None = None):
        """
        Args:
            count: frames of the clip; None: not known.
            chosen: the frames to show; None: some from all parts of the clip.
        """
        self.path = path
        if chosen is None:
            unknown = range(0, MAX_FRAMES * UNKNOWN_STRIDE, UNKNOWN_STRIDE)
            chosen = shown_frames(count, MAX_FRAMES) if count else unknown
        self._chosen = set(chosen)
        self._inputs: dict[int, np.ndarray] = {}
        self._outputs: dict[int, UInt8[np.ndarray, "H W 3"]] = {}

    def keep_inputs(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the same frames, and keeps those that will be shown."""
        for index, frame in enumerate(frames):
            if index in self._chosen:
                self._inputs[index] = frame
            yield frame

    def keep_input(self, index: int, frame: np.ndarray) -> None:
        """Keeps the frame that belongs to an output."""
        self._inputs[index] = frame

    def keep_output(self, index: int, frame: Float[np.ndarray, "H W 3"]) -> bytes | None:
        """Keeps a finished frame if it will be shown; then also returns it as PNG."""
        if index not in self._chosen:
            return None
        self._outputs[index] = _to_uint8(frame)
        return encode_png(self._outputs[index])

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show: an earlier run without a report has made all frames."""
        return not self._outputs

    def restore(self, stored: Mapping[str, str]) -> None:
        """Takes frames of an earlier run: base64 of PNG, by their places."""
        for index, data in stored.items():
            image = Image.open(io.BytesIO(base64.b64decode(data)), formats=["PNG"])
            self._outputs[int(index)] = np.asarray(image.convert("RGB"))

    def write(
        self, upscaler: Upscaler, stills: Sequence[Still], clip: Clip, seconds: float, notes: Sequence[str]
    ) -> None:
        """Write the page."""
        from ldip_jax.inference.programs import to_size

        shown = sorted(self._outputs.keys() & self._inputs.keys())
        bicubic = [_to_uint8(np.asarray(to_size(self._inputs[i][None], upscaler.out_size))[0]) for i in shown]
        result = [self._outputs[i] for i in shown]
        model = upscaler.model
        middle = len(shown) // 2
        images = {still.name: _to_uint8(still.image) for still in stills}
        keys = [
            KeyFrame(
                f"frame {key}",
                [Reference(c.name, c.share, c.used, images.get(c.name), c.note) for c in choices],
            )
            for key, choices in sorted(upscaler.choices.items())
        ]
        height, width = upscaler.out_size
        write_report(
            self.path,
            title=f"{clip.path.name}, upscaled",
            frame_names=[f"frame {i}" for i in shown],
            methods=[Method("Bicubic", bicubic), Method(model.title, result, seconds=seconds)],
            settings=[
                ("Input", f"{clip.path.name}, {clip.width}x{clip.height}"),
                ("Output", f"{width}x{height}"),
                ("Backbone", model.backbone.name),
                ("References", ", ".join(images) or "none given"),
            ],
            crops=choose_crops([bicubic[middle], result[middle]], middle),
            key_frames=keys,
            notes=list(notes),
        )
