"""One clip by one column at one scale: upscaled and scored."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float

from ldip_jax.evaluation.bicubic import Bicubic
from ldip_jax.evaluation.cases import Case
from ldip_jax.evaluation.compare import HIGHEST_PSNR, SCORES, Distance, Scores, average, score_frame
from ldip_jax.evaluation.footage import Footage
from ldip_jax.evaluation.measures import measure
from ldip_jax.evaluation.temporal import TemporalScore
from ldip_jax.inference.references import Still
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.media.color import as_float
from ldip_jax.progress import Progress

Image = Float[np.ndarray, "H W 3"]
# What `score_frame` computes anyway.
_COVERED = ("basicsr-y", "basicsr-rgb")


def score_keys(convention: str, *, temporal: bool) -> tuple[str, ...]:
    """Names of a frame's scores."""
    keys = SCORES
    if convention not in _COVERED:
        keys += (f"psnr_{convention}", f"ssim_{convention}")
    return (*keys, "tof") if temporal else keys


def main_keys(convention: str) -> tuple[str, str]:
    """The names of PSNR and SSIM by the convention that the data set's tables follow."""
    suffix = convention.removeprefix("basicsr-") if convention in _COVERED else convention
    return f"psnr_{suffix}", f"ssim_{suffix}"


def average_unit(unit: dict[str, Any]) -> Scores:
    """The clip's scores: means over its frames; tOF over those that have a frame before them."""
    frames = unit["frames"]
    keys = [key for key in frames[0] if key not in ("frame", "tof")]
    means = average(frames, keys)
    if "tof" in frames[0]:
        known = [frame["tof"] for frame in frames if frame["tof"] is not None]
        means["tof"] = sum(known) / len(known) if known else None
    return means


def combined(outputs: Sequence[tuple[int, ...]], images: Iterable[Image]) -> Iterator[Image]:
    """For each of `outputs`, the mean of the images at these places; takes no more images than it needs."""
    wanted = {place for places in outputs for place in places}
    held: dict[int, Image] = {}
    waiting = list(outputs)
    for place, image in enumerate(images):
        if place in wanted:
            held[place] = image
        while waiting and all(place in held for place in waiting[0]):
            chosen = [held.pop(place) for place in waiting.pop(0)]
            yield chosen[0] if len(chosen) == 1 else np.asarray(np.mean(chosen, axis=0, dtype=np.float32))
        if not waiting:
            return


def run_unit(
    title: str,
    footage: Footage,
    low: Iterable[np.ndarray],
    case: Case,
    stills: Sequence[Still],
    upscaler: Upscaler | Bicubic,
    convention: str,
    *,
    lpips: Distance | None = None,
    temporal: TemporalScore | None = None,
    watch: Callable[[int, Image], object] | None = None,
) -> dict[str, Any]:
    """Upscale the case's inputs and score what is scored of them.

    Args:
        title: shown beside the progress bar.
        low: the LR frames, 8 bits.
        convention: see `MEASURES`; PSNR and SSIM on Y and RGB without a border are always computed.
        lpips: what computes LPIPS, if anything does.
        temporal: what computes tOF, if anything does.
        watch: called with the number of each scored frame in the clip, and its image.

    Returns:
        "frames": a row of scores for each scored frame; "references": by key-frame, what was decided;
        "seconds": what it took in all.

    Raises:
        InputError: a frame that cannot be read.
    """
    began = time.perf_counter()
    rows: list[dict[str, Any]] = []
    work = upscaler.work(len(case.inputs), len(stills))
    with Progress(title, work, upscaler.costs()) as progress:
        images = upscaler.frames(map(as_float, low), stills, progress.advance)
        results = combined(case.outputs, images)
        pairs = zip(case.scored, footage.truth(case.scored), results, strict=True)
        for frame, truth, image in pairs:
            truth = as_float(truth)
            row: dict[str, Any] = {"frame": frame, **score_frame(truth, image, lpips)}
            if convention not in _COVERED:
                values = measure(convention, truth, image)
                row |= dict(
                    zip(main_keys(convention), (min(values[0], HIGHEST_PSNR), values[1]), strict=True)
                )
            if temporal is not None:
                row["tof"] = temporal(frame, truth, image)
            rows.append(row)
            if watch is not None:
                watch(frame, image)
    choices = {
        str(key): [asdict(choice) for choice in chosen] for key, chosen in sorted(upscaler.choices.items())
    }
    return {"frames": rows, "references": choices, "seconds": round(time.perf_counter() - began, 2)}
