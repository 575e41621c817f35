"""`report.html`: all tables, and images of one clip."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ldip_jax.evaluation.clip_result import ClipResult
from ldip_jax.evaluation.datasets import ClipFrames
from ldip_jax.evaluation.gains import distances
from ldip_jax.evaluation.protocols import BACKBONE, Scale, show_scale
from ldip_jax.evaluation.results import Results
from ldip_jax.evaluation.runner import SAMPLES, Evaluation
from ldip_jax.evaluation.scores import primary_names
from ldip_jax.evaluation.tables import (
    averages_heading,
    clip_table,
    gain_tables,
    notes,
    scale_table,
    score_title,
)
from ldip_jax.inference.programs import to_size
from ldip_jax.inference.references import read_choice
from ldip_jax.media.color import as_float, quantise
from ldip_jax.media.images import read_image
from ldip_jax.report.comparison import choose_crops
from ldip_jax.report.content import KeyFrame, Method, Reference
from ldip_jax.report.figures import Curves, Figures, Table, heat
from ldip_jax.report.page import write_report

Bytes = UInt8[np.ndarray, "h w 3"]
MAX_KEY_FRAMES = 3
TRUTH, BICUBIC = "Ground truth", "Bicubic"


def _read(path: Path) -> Bytes:
    return quantise(read_image(path)[0], 8)


class _ReportClip:
    """The clip that the report shows: its results by variant, and its frames."""

    def __init__(self, evaluation: Evaluation, results: Results, scale: Scale):
        self.folder = results.config.output / SAMPLES
        found = {
            variant: results.clip_result(scale, variant, evaluation.report_clip)
            for variant in results.variants
        }
        self.results: dict[str, ClipResult] = {
            variant: result for variant, result in found.items() if result and self._has_images(result)
        }
        self.score_names = results.score_names
        clip = evaluation.open_report_clip()
        self.frames: ClipFrames | None = evaluation.footage(clip, scale) if clip is not None else None

    def _has_images(self, result: ClipResult) -> bool:
        samples = result.samples
        return samples is not None and (self.folder / samples["folder"] / "row.png").is_file()

    @property
    def samples(self) -> dict[str, Any]:
        return next(iter(self.samples_by_variant().values()))

    def samples_by_variant(self) -> dict[str, dict[str, Any]]:
        return {variant: result.samples or {} for variant, result in self.results.items()}

    def image(self, variant: str, name: str) -> Bytes:
        return _read(self.folder / self.samples_by_variant()[variant]["folder"] / name)


def write_page(path: Path, evaluation: Evaluation, results: Results, settings: dict[str, str]) -> None:
    """Write the report; if there are no images to show, it has only tables.

    Raises:
        InputError: the file cannot be written, or the clip to show can no longer be read.
    """
    scale = results.scales[0]
    shown = _ReportClip(evaluation, results, scale)
    config = results.config
    tables: list[Table | Curves] = []
    for each in results.scales:
        table_notes = notes(results) if each == scale else ()
        tables.append(Table(averages_heading(results, each), *scale_table(results, each), table_notes))
        tables += [Table(*part) for part in gain_tables(results, each)]
        tables += _reach_curves(results, each)
        tables.append(Table(f"x{show_scale(each)}, each clip", *clip_table(results, each)))
    common: dict[str, Any] = {
        "title": f"{config.dataset.title}, {config.protocol.name}",
        "settings": list(settings.items()),
        "tables": tables,
        "results_heading": f"{evaluation.report_clip}, x{show_scale(scale)}",
    }
    if not shown.results or shown.frames is None:
        write_report(path, frame_names=[], methods=[], **common)
        return
    frames = shown.samples["frames"]
    methods = _methods(shown, frames)
    middle = len(frames) // 2
    by_networks = [method.images[middle] for method in methods if method.name != BICUBIC]
    write_report(
        path,
        frame_names=[f"frame {frame}" for frame in frames],
        methods=methods,
        crops=choose_crops(by_networks, middle),
        key_frames=_key_frames(shown),
        curves=_curves(shown, config.convention),
        figures=[_error_maps(methods, frames, middle), _temporal_profiles(shown), *_warp_figures(shown)],
        **common,
    )


def _reach_curves(results: Results, scale: Scale) -> list[Curves]:
    """Curves of gains by distance from the nearest key-frame; empty if there are no gains or key-frames."""
    gains = results.all_gains(scale)
    places = distances(gains)
    if not places:
        return []
    series = []
    for variant in results.variants:
        reach = gains[variant].reach if variant in gains else {}
        zero_gain = 0.0 if variant == BACKBONE.name else None
        series.append((variant, [reach[place][0] if place in reach else zero_gain for place in places]))
    heading = f"x{show_scale(scale)}, how far the gain reaches from the nearest key-frame (dB, frames)"
    return [Curves(heading, "Gain", places, series, "distance")]


def _methods(shown: _ReportClip, frames: Sequence[int]) -> list[Method]:
    """Bicubic, the variants, and the ground truth."""
    assert shown.frames is not None
    truth = list(shown.frames.hr_frames(frames))
    lr_frames = shown.frames.lr_frames(frames)
    bicubic = [
        quantise(np.asarray(to_size(as_float(x)[None], shown.frames.hr_size))[0], 8) for x in lr_frames
    ]
    methods = [Method(BICUBIC, bicubic)]
    for variant, result in shown.results.items():
        images = [shown.image(variant, f"{frame:08d}.png") for frame in frames]
        mean = result.average
        methods.append(Method(variant, images, mean.psnr_y, mean.ssim_y, result.seconds, "", mean.lpips_alex))
    return [*methods, Method(TRUTH, truth)]


def _curves(shown: _ReportClip, convention: str) -> Curves:
    key = primary_names(convention)[0]
    frames = [row.frame for row in next(iter(shown.results.values())).frames]
    series = [
        (variant, [row.score.named(shown.score_names)[key] for row in result.frames])
        for variant, result in shown.results.items()
    ]
    return Curves(f"{score_title(key)} of each frame (dB)", score_title(key), frames, series)


def _error_maps(methods: Sequence[Method], frames: Sequence[int], place: int) -> Figures:
    """Error maps of all methods, on one scale."""
    truth = as_float(methods[-1].images[place])
    errors = [
        (method.name, np.abs(as_float(method.images[place]) - truth).mean(axis=2)) for method in methods[:-1]
    ]
    most = float(np.quantile(np.concatenate([error.ravel() for _, error in errors]), 0.995))
    pictures = [(name, heat(error, most)) for name, error in errors]
    worst = f"{255 * most:.0f} levels of 255"
    hint = f"Mean absolute error over red, green and blue: black 0, light yellow {worst} or more."
    return Figures("Error maps", hint, [(f"frame {frames[place]}", pictures)])


def _temporal_profiles(shown: _ReportClip) -> Figures:
    """One row of the image over time: flicker and swimming detail show as ragged streaks."""
    assert shown.frames is not None
    row = shown.samples["row"]
    scored = [row.frame for row in next(iter(shown.results.values())).frames]
    truth = np.stack([frame[row] for frame in shown.frames.hr_frames(scored)])
    pictures = [(variant, shown.image(variant, "row.png")) for variant in shown.results]
    # Tall enough to be seen.
    times = max(1, round(96 / len(scored)))
    stretched = [(name, np.repeat(image, times, axis=0)) for name, image in [*pictures, (TRUTH, truth)]]
    hint = f"Row {row} of every scored frame, the first on top."
    return Figures("Temporal profiles", hint, [("", stretched)], wide=True)


def _saved_references(shown: _ReportClip) -> tuple[str, dict[str, Any]] | None:
    """The first variant with key-frames, and the references of each."""
    for variant, samples in shown.samples_by_variant().items():
        if samples["keys"]:
            return variant, samples["keys"]
    return None


def _key_frames(shown: _ReportClip) -> list[KeyFrame]:
    if (found := _saved_references(shown)) is None:
        return []
    variant, _ = found
    inputs = shown.results[variant].inputs
    rows = []
    for key, choices in shown.results[variant].references.items():
        references = [
            Reference(
                _name(choice, inputs),
                choice["share"],
                choice["used"],
                _thumbnail(shown, key, choice),
                read_choice(choice).note,
            )
            for choice in choices
        ]
        rows.append(KeyFrame(f"{variant}, frame {inputs[int(key)]}", references))
    return rows


def _name(choice: dict[str, Any], inputs: Sequence[int]) -> str:
    """A reference's name: the clip's own frames by their number in the clip, with "LR"; others with "HR"."""
    if choice["own"]:
        return f"frame {inputs[int(choice['name'].split()[-1])]}, LR"
    return f"{choice['name']}, HR"


def _thumbnail(shown: _ReportClip, key: str, choice: dict[str, Any]) -> Bytes | None:
    found = _saved_references(shown)
    assert found is not None
    variant, by_key_frame = found
    for row in by_key_frame.get(key, ()):
        if (row["name"], row["own"]) == (choice["name"], choice["own"]):
            return shown.image(variant, row["reference"])
    return None


def _warp_figures(shown: _ReportClip) -> list[Figures]:
    """For a few key-frames, each reference warped to the key-frame, and the confidence of the warp."""
    if (found := _saved_references(shown)) is None:
        return []
    variant, by_key_frame = found
    inputs = shown.results[variant].inputs
    count = len(by_key_frame)
    chosen = sorted({round(place) for place in np.linspace(0, count - 1, min(MAX_KEY_FRAMES, count))})
    rows = []
    for key in [list(by_key_frame)[place] for place in chosen]:
        pictures = []
        for row in by_key_frame[key]:
            both = [shown.image(variant, row[what]) for what in ("aligned", "confidence")]
            caption = f"{_name(row, inputs)}: warped, and confidence ({100 * row['share']:.0f} % above 0.5)"
            pictures.append((caption, np.concatenate(both, axis=1)))
        if pictures:
            rows.append((f"key-frame {inputs[int(key)]}", pictures))
    hint = "Confidence: black 0, white 1. Places outside of the reference are black in both."
    return [Figures(f"Warps and confidence, {variant}", hint, rows)] if rows else []
