"""Averages of an evaluation, and its JSON, CSV and Markdown files."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ldip_jax.atomic import atomic_open
from ldip_jax.evaluation.compare import Scores, average
from ldip_jax.evaluation.protocols import Scale, show_scale
from ldip_jax.evaluation.published import TABLE5, Figure, published
from ldip_jax.evaluation.runner import Outcome, Plan
from ldip_jax.evaluation.unit import average_unit, main_keys, score_keys

_TITLES = {
    "psnr_y": "PSNR Y",
    "ssim_y": "SSIM Y",
    "psnr_rgb": "PSNR RGB",
    "ssim_rgb": "SSIM RGB",
    "lpips_alex": "LPIPS",
    "tof": "tOF",
}


def title(key: str) -> str:
    """How a score is called in tables."""
    kind, _, convention = key.partition("_")
    return _TITLES.get(key) or f"{kind.upper()} {convention}"


def show(key: str, value: float | None) -> str:
    """Four decimals, as published tables have them."""
    return "-" if value is None else f"{value:.4f}"


class Results:
    """What was scored, by scale, column and clip.

    Attributes:
        keys: names of the scores.
        scales, columns: those that there is something of, in the plan's order.
    """

    def __init__(self, plan: Plan, outcome: Outcome):
        self.plan, self.outcome = plan, outcome
        self.keys = score_keys(plan.convention, temporal=plan.temporal)
        self._units = {(tuple(u["scale"]), u["column"], u["clip"]): u for u in outcome.units}
        self.scales = [s for s in plan.scales if any(scale == s for scale, _, _ in self._units)]
        self.columns = [c.name for c in plan.columns if any(column == c.name for _, column, _ in self._units)]

    def units(self, scale: Scale, column: str) -> list[dict[str, Any]]:
        """Of all clips, in name order."""
        return [unit for (s, c, _), unit in sorted(self._units.items()) if (s, c) == (scale, column)]

    def clips(self, scale: Scale) -> list[str]:
        """Clips that every column has been run on: averages are over these alone, so that they compare."""
        sets = [{unit["clip"] for unit in self.units(scale, column)} for column in self.columns]
        return sorted(set.intersection(*sets)) if sets else []

    def average(self, scale: Scale, column: str) -> Scores:
        """The mean over clips of their means over frames."""
        clips = self.clips(scale)
        means = [average_unit(u) for u in self.units(scale, column) if u["clip"] in clips]
        return average(means, self.keys)

    def unit(self, scale: Scale, column: str, clip: str) -> dict[str, Any] | None:
        """One clip's result."""
        return self._units.get((scale, column, clip))

    def published(self, scale: Scale) -> Sequence[Figure]:
        """Figures to compare with."""
        return published(self.plan.dataset.name, self.plan.protocol.name, scale)


def as_json(results: Results, settings: dict[str, str]) -> dict[str, Any]:
    """Everything, frame by frame."""
    scales = []
    for scale in results.scales:
        columns = [
            {
                "name": column,
                "average": results.average(scale, column),
                "clips": [
                    {
                        "name": unit["clip"],
                        "average": average_unit(unit),
                        "lr": unit["lr"],
                        "hr": unit["hr"],
                        "stills": unit["stills"],
                        "references": unit["references"],
                        "seconds": unit["seconds"],
                        "frames": unit["frames"],
                    }
                    for unit in results.units(scale, column)
                ],
            }
            for column in results.columns
        ]
        figures = [figure._asdict() for figure in results.published(scale)]
        averaged = results.clips(scale)
        scales.append({"scale": list(scale), "averaged": averaged, "columns": columns, "published": figures})
    return {
        "settings": settings,
        "convention": results.plan.convention,
        "scales": scales,
        "failures": results.outcome.failures,
        "without_weights": results.outcome.absent,
        "waiting": results.outcome.waiting,
    }


def as_csv(results: Results) -> str:
    """A row for each frame, then for each clip ("mean"), then for each column ("mean", "mean")."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scale", "column", "clip", "frame", *results.keys])

    def row(scale: Scale, column: str, clip: str, frame: str, scores: dict[str, Any]) -> None:
        values = ["" if scores.get(key) is None else f"{scores[key]:.6f}" for key in results.keys]
        writer.writerow([show_scale(scale), column, clip, frame, *values])

    for scale in results.scales:
        for column in results.columns:
            for unit in results.units(scale, column):
                for scores in unit["frames"]:
                    row(scale, column, unit["clip"], str(scores["frame"]), scores)
                row(scale, column, unit["clip"], "mean", average_unit(unit))
            row(scale, column, "mean", "mean", results.average(scale, column))
    return text.getvalue()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose columns are also aligned as plain text."""
    cells = [[cell.replace("|", "/") for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def average_title(results: Results, scale: Scale) -> str:
    """The heading of the table of averages."""
    clips = len(results.clips(scale))
    return f"x{show_scale(scale)}, average of {clips} clip{'s' * (clips != 1)}"


def scale_table(results: Results, scale: Scale) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a row for each column, then the published figures with their source."""
    figures = results.published(scale)
    psnr, ssim = main_keys("basicsr-rgb" if figures is TABLE5 else results.plan.convention)
    source, own = (["source"], ["this run"]) if figures else ([], [])
    head = ["method", *(title(key) for key in results.keys), *source]
    rows = []
    for column in results.columns:
        means = results.average(scale, column)
        rows.append([column, *(show(key, means[key]) for key in results.keys), *own])
    for figure in figures:
        given = {psnr: figure.psnr, ssim: figure.ssim, "lpips_alex": figure.lpips}
        # Papers give as many decimals as they find fit.
        values = ["-" if given.get(key) is None else f"{given[key]:g}" for key in results.keys]
        rows.append([figure.method, *values, figure.source])
    return head, rows


def clip_table(results: Results, scale: Scale) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a row for each clip with PSNR, SSIM and LPIPS of each column."""
    keys = [*main_keys(results.plan.convention), "lpips_alex"]
    head = ["clip", *(f"{column}: {title(key)}" for column in results.columns for key in keys)]
    rows = []
    for clip in sorted({unit["clip"] for column in results.columns for unit in results.units(scale, column)}):
        row = [clip]
        for column in results.columns:
            unit = results.unit(scale, column, clip)
            means = average_unit(unit) if unit else {}
            row += [show(key, means.get(key)) for key in keys]
        rows.append(row)
    return head, rows


def notes(results: Results) -> list[str]:
    """What a reader of the tables has to know."""
    outcome = results.outcome
    lines = [f"{clip} is skipped: {reason}" for clip, reason in outcome.failures.items()]
    if outcome.absent:
        lines.append(f"Left out, for there are no weights for it: {', '.join(outcome.absent)}.")
    whole = results.plan.dataset.clips
    if whole and any(len(results.clips(scale)) < len(whole) for scale in results.scales):
        lines.append(f"Published figures are averages of all {len(whole)} clips, these are not.")
    if outcome.waiting:
        lines.append(
            f"{outcome.waiting} results are missing yet; run again, or wait for the other processes."
        )
    return lines


def as_markdown(results: Results, settings: dict[str, str]) -> str:
    """Averages beside published figures, then each clip."""
    lines = [f"# {results.plan.dataset.title}, {results.plan.protocol.name}", ""]
    lines += [f"- {name}: {value}" for name, value in settings.items()]
    lines += [f"- {note}" for note in notes(results)]
    for scale in results.scales:
        lines += ["", f"## {average_title(results, scale)}", ""]
        lines += _table(*scale_table(results, scale))
        lines += ["", f"### x{show_scale(scale)}, each clip", ""]
        lines += _table(*clip_table(results, scale))
    return "\n".join(lines) + "\n"


def write_results(results: Results, settings: dict[str, str], folder: Path) -> str:
    """`results.json`, `results.csv` and `results.md`; returns the text of the last."""
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
