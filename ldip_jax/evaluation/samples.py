"""The images of a clip that the report shows; they are saved while the clip is upscaled."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from ldip_jax.atomic import atomic_open
from ldip_jax.inference.references import ReferenceChoice
from ldip_jax.media.color import quantise
from ldip_jax.media.images import write_png
from ldip_jax.models.ref_align import Reference
from ldip_jax.ops.warp import nearest
from ldip_jax.report.comparison import shown_frames

MAX_FRAMES = 8
_LONGEST = 360


def profile_row(frame: UInt8[np.ndarray, "h w 3"]) -> int:
    """The row with the most detail along it, not near the upper or lower edge; it is shown over time."""
    edges = np.abs(np.diff(frame.astype(np.float32).mean(axis=2), axis=1)).mean(axis=1)
    margin = len(edges) // 8
    smooth = np.convolve(edges, np.ones(5) / 5, "same")
    return margin + int(np.argmax(smooth[margin : len(edges) - margin]))


def reference_images(reference: Reference) -> dict[str, UInt8[np.ndarray, "_ _ 3"]]:
    """A reference as it is, the reference warped to its key-frame, and the confidence of the warp."""
    h, w = np.asarray(reference.size)[0]
    aligned, _, _ = nearest(reference.image, reference.warp, reference.size)
    images = {
        "reference": reference.image[0, :h, :w],
        "aligned": aligned[0],
        "confidence": np.repeat(np.asarray(reference.confidence)[0], 3, axis=-1),
    }
    return {name: quantise(np.asarray(image, np.float32), 8) for name, image in images.items()}


class ReportImages:
    """Saves some frames of a clip, one row of all its frames, and the references of its key-frames."""

    def __init__(self, folder: Path, scored: Sequence[int], row: int):
        """
        Args:
            folder: replaced if it exists.
            scored: numbers of the scored frames.
            row: the row that is saved of all frames.
        """
        self._folder, self._row = folder, row
        self._shown = {scored[place] for place in shown_frames(len(scored), MAX_FRAMES)}
        self._slice: list[np.ndarray] = []
        self._references: dict[int, list[dict[str, Any]]] = {}
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def save_frame(self, place: int, image: Float[np.ndarray, "H W 3"]) -> None:
        """Save what is shown of a scored frame; `place` is its number in the clip."""
        self._slice.append(image[self._row])
        if place in self._shown:
            write_png(self._folder / f"{place:08d}.png", image)

    def save_references(self, key_frame: int, found: Sequence[tuple[ReferenceChoice, Reference]]) -> None:
        """Save the references of a key-frame; `key_frame` is its place among the inputs."""
        self._references[key_frame] = []
        for number, (choice, reference) in enumerate(found):
            row = {"name": choice.name, "share": choice.share, "own": choice.is_self_reference}
            for what, image in reference_images(reference).items():
                row[what] = f"key{key_frame:08d}_{number}_{what}.jpg"
                self._write_small(row[what], image)
            self._references[key_frame].append(row)

    def _write_small(self, name: str, image: UInt8[np.ndarray, "H W 3"]) -> None:
        small = Image.fromarray(image)
        small.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
        with atomic_open(self._folder / name) as file:
            small.save(file, "JPEG", quality=88, subsampling=0)

    def finish(self) -> dict[str, Any]:
        """Save the row; returns the folder's name, the saved frames, the row, and references by key-frame."""
        write_png(self._folder / "row.png", np.stack(self._slice))
        return {
            "folder": self._folder.name,
            "frames": sorted(self._shown),
            "row": self._row,
            "keys": {str(key): rows for key, rows in sorted(self._references.items())},
        }
