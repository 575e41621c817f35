"""The results of an evaluation, clip by clip, and their averages."""

from collections.abc import Sequence
from typing import Any

from ldip_jax.evaluation.compare import Scores, average
from ldip_jax.evaluation.gains import FrameGain, Gains, frame_gains
from ldip_jax.evaluation.protocols import BACKBONE, Scale
from ldip_jax.evaluation.published import Figure, published
from ldip_jax.evaluation.runner import Outcome, Plan, average_unit, main_keys, score_keys


class Results:
    """Results by scale, column and clip.

    Attributes:
        keys: names of the scores.
        scales, columns: those that have results, in the order of `plan`.
    """

    def __init__(self, plan: Plan, outcome: Outcome):
        self.plan, self.outcome = plan, outcome
        self.keys = score_keys(plan.convention, temporal=plan.temporal)
        self._units = {(tuple(u["scale"]), u["column"], u["clip"]): u for u in outcome.units}
        self.scales = [s for s in plan.scales if any(scale == s for scale, _, _ in self._units)]
        self.columns = [c.name for c in plan.columns if any(column == c.name for _, column, _ in self._units)]

    def units(self, scale: Scale, column: str) -> list[dict[str, Any]]:
        """The results of all clips, in name order."""
        return [unit for (s, c, _), unit in sorted(self._units.items()) if (s, c) == (scale, column)]

    def clips(self, scale: Scale) -> list[str]:
        """Clips on which every column has been run: averages cover only these, to be comparable."""
        sets = [{unit["clip"] for unit in self.units(scale, column)} for column in self.columns]
        return sorted(set.intersection(*sets)) if sets else []

    def average(self, scale: Scale, column: str) -> Scores:
        """The mean over clips of their means over frames."""
        clips = self.clips(scale)
        means = [average_unit(u) for u in self.units(scale, column) if u["clip"] in clips]
        return average(means, self.keys)

    def gains(self, scale: Scale, column: str, clip: str | None = None) -> Gains | None:
        """Gains over the backbone, on one clip or on all clips on which every column has been run.

        None for the backbone itself, and if it has not been run.
        """
        key, stride = main_keys(self.plan.convention)[0], self.plan.networks.key_stride
        frames: list[FrameGain] = []
        for name in self.clips(scale) if clip is None else [clip]:
            unit, alone = self.unit(scale, column, name), self.unit(scale, BACKBONE.name, name)
            if unit and alone and unit is not alone:
                frames += frame_gains(unit, alone, key, stride)
        return Gains(frames) if frames else None

    def all_gains(self, scale: Scale) -> dict[str, Gains]:
        """The gains of each column that has any."""
        found = {column: self.gains(scale, column) for column in self.columns}
        return {column: gains for column, gains in found.items() if gains is not None}

    def propagation(self, scale: Scale, column: str) -> str:
        """How this column brings detail from key-frames to other frames; "-" without LRRF."""
        return self.units(scale, column)[0]["propagation"] or "-"

    def unit(self, scale: Scale, column: str, clip: str) -> dict[str, Any] | None:
        """The result of one clip; None if there is none."""
        return self._units.get((scale, column, clip))

    def published(self, scale: Scale) -> Sequence[Figure]:
        """Published figures to compare with; none if clips were compressed or references altered."""
        if self.plan.codec is not None or self.plan.alterations:
            return []
        return published(self.plan.dataset.name, self.plan.protocol.name, scale)
