"""The page of `ldip upscale --report`: bicubic against the result, and the key-frames' references."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from ldip_jax.inference.references import Still
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.media.clip import Clip
from ldip_jax.report.choice import choose_crops, shown_frames
from ldip_jax.report.content import KeyFrame, Method, Reference
from ldip_jax.report.page import write_report

MOST_FRAMES = 8
# Where the length is not known beforehand: the first frames, this far apart.
UNKNOWN_STRIDE = 25


def _bytes(image: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return np.round(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)


class Samples:
    """The frames that a report shows, kept while a clip goes by.

    Attributes:
        path: where the report goes.
    """

    def __init__(self, path: Path, count: int | None):
        self.path = path
        chosen = (
            shown_frames(count, MOST_FRAMES)
            if count
            else range(0, MOST_FRAMES * UNKNOWN_STRIDE, UNKNOWN_STRIDE)
        )
        self._chosen = set(chosen)
        self._inputs: dict[int, np.ndarray] = {}
        self._outputs: dict[int, UInt8[np.ndarray, "H W 3"]] = {}

    def watch_input(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The same frames, those that will be shown remembered."""
        for index, frame in enumerate(frames):
            if index in self._chosen:
                self._inputs[index] = frame
            yield frame

    def output(self, index: int, frame: Float[np.ndarray, "H W 3"]) -> None:
        """A finished frame."""
        if index in self._chosen:
            self._outputs[index] = _bytes(frame)

    def write(self, upscaler: Upscaler, stills: list[Still], clip: Clip, seconds: float) -> None:
        """Write the page."""
        from ldip_jax.inference.programs import to_size

        shown = sorted(self._outputs)
        bicubic = [_bytes(np.asarray(to_size(self._inputs[i][None], upscaler.out))[0]) for i in shown]
        result = [self._outputs[i] for i in shown]
        model = upscaler.model
        middle = len(shown) // 2
        images = {still.name: _bytes(still.image) for still in stills}
        keys = [
            KeyFrame(
                f"frame {key}", [Reference(c.name, c.share, c.used, images.get(c.name)) for c in choices]
            )
            for key, choices in sorted(upscaler.choices.items())
        ]
        height, width = upscaler.out
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
            notes=upscaler.notes,
        )
