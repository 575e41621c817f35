"""The tables of an evaluation, for `results.md` and `report.html`: heads and rows of text."""

from collections.abc import Sequence

from ldip_jax.evaluation.gains import GAIN_NOTES, gain_table, reach_table
from ldip_jax.evaluation.protocols import BACKBONE, Scale, show_scale
from ldip_jax.evaluation.published import TABLE5
from ldip_jax.evaluation.results import Results
from ldip_jax.evaluation.scores import primary_names

_TITLES = {
    "psnr_y": "PSNR Y",
    "ssim_y": "SSIM Y",
    "psnr_rgb": "PSNR RGB",
    "ssim_rgb": "SSIM RGB",
    "lpips_alex": "LPIPS",
    "tof": "tOF",
}


def score_title(key: str) -> str:
    """The name of a score in tables."""
    kind, _, convention = key.partition("_")
    return _TITLES.get(key) or f"{kind.upper()} {convention}"


def show(value: float | None) -> str:
    """A score with four decimals, as in published tables; "-" for None."""
    return "-" if value is None else f"{value:.4f}"


def averages_heading(results: Results, scale: Scale) -> str:
    """The heading of the table of averages."""
    clips = len(results.clips(scale))
    return f"x{show_scale(scale)}, average of {clips} clip{'s' * (clips != 1)}"


def scale_table(results: Results, scale: Scale) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a row for each variant, then the published figures with their source."""
    figures = results.published(scale)
    psnr, ssim = primary_names("basicsr-rgb" if figures is TABLE5 else results.config.convention)
    source, this_run = (["source"], ["this run"]) if figures else ([], [])
    head = ["method", *(score_title(key) for key in results.score_names), *source]
    rows = []
    for variant in results.variants:
        means = results.average(scale, variant).named(results.score_names)
        rows.append([variant, *map(show, means.values()), *this_run])
    for figure in figures:
        published = {psnr: figure.psnr, ssim: figure.ssim, "lpips_alex": figure.lpips}
        # Papers differ in the number of decimals.
        values = ["-" if published.get(key) is None else f"{published[key]:g}" for key in results.score_names]
        rows.append([figure.method, *values, figure.source])
    return head, rows


TableParts = tuple[str, list[str], list[list[str]], Sequence[str]]
"""A table's heading, head, rows, and the notes below it."""


def gain_tables(results: Results, scale: Scale) -> list[TableParts]:
    """Gains of all variants over the backbone, then gains by distance; empty if there are no gains."""
    gains = results.all_gains(scale)
    if not gains:
        return []
    where = f"x{show_scale(scale)}, gain over the backbone"
    score = score_title(primary_names(results.config.convention)[0])
    both = {name: (results.propagation(scale, name), value) for name, value in gains.items()}
    tables: list[TableParts] = [(f"{where} ({score}, dB)", *gain_table(both), GAIN_NOTES)]
    by_distance = reach_table(gains)
    if by_distance[1]:
        tables.append((f"{where} by distance from the nearest key-frame (dB)", *by_distance, ()))
    return tables


def clip_table(results: Results, scale: Scale) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a row for each clip with each variant's PSNR, SSIM, LPIPS and, if asked for, tOF."""
    keys = [
        *primary_names(results.config.convention),
        "lpips_alex",
        *(["tof"] if results.config.temporal else []),
    ]
    head = ["clip", *(f"{variant}: {score_title(key)}" for variant in results.variants for key in keys)]
    rows = []
    for clip in sorted(
        {result.clip for variant in results.variants for result in results.clip_results(scale, variant)}
    ):
        row = [clip]
        for variant in results.variants:
            result = results.clip_result(scale, variant, clip)
            means = result.average.named(results.score_names) if result else {}
            row += [show(means.get(key)) for key in keys]
        rows.append(row)
    return head, rows


def notes(results: Results) -> list[str]:
    """What a reader of the tables needs to know."""
    outcome = results.outcome
    lines = [f"{clip} is skipped: {reason}" for clip, reason in outcome.failures.items()]
    if outcome.without_weights:
        lines.append(f"Left out because there are no weights for it: {', '.join(outcome.without_weights)}.")
    if outcome.repeated:
        lines.append(
            f"Left out because other columns propagate detail in this way: {', '.join(outcome.repeated)}."
        )
    if results.variants and BACKBONE.name not in results.variants:
        lines.append("Gains over the backbone are missing because that column was not run.")
    whole = results.config.dataset.clips
    if whole and any(len(results.clips(scale)) < len(whole) for scale in results.scales):
        lines.append(f"Published figures are averages of all {len(whole)} clips, these are not.")
    if outcome.missing:
        lines.append(
            f"{outcome.missing} results are missing yet; run again, or wait for the other processes."
        )
    return lines
