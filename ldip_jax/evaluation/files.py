"""The files of results: `results.json`, `results.csv` and `results.md`."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ldip_jax.atomic import atomic_open
from ldip_jax.evaluation.gains import Gains
from ldip_jax.evaluation.protocols import Scale, show_scale
from ldip_jax.evaluation.results import Results
from ldip_jax.evaluation.tables import averages_heading, clip_table, gain_tables, notes, scale_table


def as_json(results: Results, settings: dict[str, str]) -> dict[str, Any]:
    """All results, frame by frame, for `results.json`."""
    config, scales, names = results.config, [], results.score_names
    for scale in results.scales:
        columns = [
            {
                "name": variant,
                "average": results.average(scale, variant).named(names),
                "gain": _gain_json(results.gains(scale, variant)),
                "clips": [
                    {
                        "name": result.clip,
                        "average": result.average.named(names),
                        "gain": _gain_json(results.gains(scale, variant, result.clip)),
                        "lr": result.lr,
                        "hr": result.hr,
                        "stills": result.stills,
                        "propagation": result.propagation,
                        "key_frames": result.key_frames,
                        "references": result.references,
                        "seconds": result.seconds,
                        "frames": result.frame_rows(names),
                    }
                    for result in results.clip_results(scale, variant)
                ],
            }
            for variant in results.variants
        ]
        figures = [figure._asdict() for figure in results.published(scale)]
        averaged = results.clips(scale)
        scales.append({"scale": list(scale), "averaged": averaged, "columns": columns, "published": figures})
    return {
        "settings": settings,
        "convention": config.convention,
        "input_codec": str(config.codec) if config.codec else None,
        "hr_refs": config.references,
        "ref_alter": [alteration.text for alteration in config.alterations],
        "scales": scales,
        "failures": results.outcome.failures,
        "without_weights": results.outcome.without_weights,
        "repeated": results.outcome.repeated,
        "waiting": results.outcome.missing,
    }


def _gain_json(gains: Gains | None) -> dict[str, Any] | None:
    return gains.as_json() if gains is not None else None


_MEANS = ("pulsing", "worst_gain", "frames_worse")


def as_csv(results: Results) -> str:
    """A row for each frame, then for each clip ("mean"), then for each variant ("mean", "mean").

    Rows of frames have the gain over the backbone and the distance from the nearest key-frame. Rows of means
    have the mean gain and the columns `_MEANS`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = (*results.score_names, "gain", "key_distance", *_MEANS)
    writer.writerow(["scale", "column", "clip", "frame", *keys])

    def row(scale: Scale, variant: str, clip: str, frame: str, scores: dict[str, Any]) -> None:
        writer.writerow([show_scale(scale), variant, clip, frame, *(_cell(scores.get(key)) for key in keys)])

    for scale in results.scales:
        for variant in results.variants:
            for result in results.clip_results(scale, variant):
                gains = results.gains(scale, variant, result.clip)
                by_frame = {gain.frame: gain for gain in gains.frames} if gains else {}
                for scores in result.frame_rows(results.score_names):
                    gain = by_frame.get(scores["frame"])
                    more = {"gain": gain.gain, "key_distance": gain.distance} if gain else {}
                    row(scale, variant, result.clip, str(scores["frame"]), {**scores, **more})
                means = result.average.named(results.score_names)
                row(scale, variant, result.clip, "mean", {**means, **_means(gains)})
            means = results.average(scale, variant).named(results.score_names)
            gains = results.gains(scale, variant)
            row(scale, variant, "mean", "mean", {**means, **_means(gains)})
    return text.getvalue()


def _means(gains: Gains | None) -> dict[str, float | int | None]:
    if gains is None:
        return {}
    values = (gains.pulsing, gains.worst.gain, gains.worse_frames)
    return {"gain": gains.mean, **dict(zip(_MEANS, values, strict=True))}


def _cell(value: float | int | None) -> str:
    if isinstance(value, float):
        return f"{value:.6f}"
    return "" if value is None else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose columns are also aligned as plain text."""
    cells = [[cell.replace("|", "/") for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def as_markdown(results: Results, settings: dict[str, str]) -> str:
    """Averages beside published figures, gains over the backbone, then each clip."""
    lines = [f"# {results.config.dataset.title}, {results.config.protocol.name}", ""]
    lines += [f"- {name}: {value}" for name, value in settings.items()]
    lines += [f"- {note}" for note in notes(results)]
    for scale in results.scales:
        lines += ["", f"## {averages_heading(results, scale)}", ""]
        lines += _table(*scale_table(results, scale))
        for heading, head, rows, table_notes in gain_tables(results, scale):
            lines += ["", f"### {heading}", "", *_table(head, rows)]
            lines += ["", *(f"- {note}" for note in table_notes)] if table_notes else []
        lines += ["", f"### x{show_scale(scale)}, each clip", ""]
        lines += _table(*clip_table(results, scale))
    return "\n".join(lines) + "\n"


def write_results(results: Results, settings: dict[str, str], folder: Path) -> str:
    """Write `results.json`, `results.csv` and `results.md` to a folder; returns the text of `results.md`."""
    markdown = as_markdown(results, settings)
    content = {
        "results.json": json.dumps(as_json(results, settings), indent=1, allow_nan=False) + "\n",
        "results.csv": as_csv(results),
        "results.md": markdown,
    }
    for name, text in content.items():
        with atomic_open(folder / name) as file:
            file.write(text.encode("utf-8", "replace"))
    return markdown
