"""The results of an evaluation, clip by clip, and their averages."""

from collections.abc import Sequence
from typing import Any

from ldip_jax.evaluation.gains import FrameGain, Gains, frame_gains
from ldip_jax.evaluation.protocols import BACKBONE, Scale
from ldip_jax.evaluation.published import Figure, published
from ldip_jax.evaluation.runner import EvaluationConfig, Outcome, average_unit, main_keys, score_keys
from ldip_jax.evaluation.scores import Scores, average


class Results:
    """Results by scale, column and clip.

    Attributes:
        keys: names of the scores.
        scales, variants: those that have results, in the order of `config`.
    """

    def __init__(self, config: EvaluationConfig, outcome: Outcome):
        self.config, self.outcome = config, outcome
        self.keys = score_keys(config.convention, temporal=config.temporal)
        self._results = {(tuple(u["scale"]), u["column"], u["clip"]): u for u in outcome.results}
        self.scales = [s for s in config.scales if any(scale == s for scale, _, _ in self._results)]
        self.variants = [
            c.name for c in config.variants if any(column == c.name for _, column, _ in self._results)
        ]

    def clip_results(self, scale: Scale, variant: str) -> list[dict[str, Any]]:
        """The results of all clips, in name order."""
        return [unit for (s, c, _), unit in sorted(self._results.items()) if (s, c) == (scale, variant)]

    def clips(self, scale: Scale) -> list[str]:
        """Clips on which every column has been run: averages cover only these, to be comparable."""
        sets = [{unit["clip"] for unit in self.clip_results(scale, column)} for column in self.variants]
        return sorted(set.intersection(*sets)) if sets else []

    def average(self, scale: Scale, variant: str) -> Scores:
        """The mean over clips of their means over frames."""
        clips = self.clips(scale)
        means = [average_unit(u) for u in self.clip_results(scale, variant) if u["clip"] in clips]
        return average(means, self.keys)

    def gains(self, scale: Scale, variant: str, clip: str | None = None) -> Gains | None:
        """Gains over the backbone, on one clip or on all clips on which every column has been run.

        None for the backbone itself, and if it has not been run.
        """
        key, stride = main_keys(self.config.convention)[0], self.config.networks.key_stride
        frames: list[FrameGain] = []
        for name in self.clips(scale) if clip is None else [clip]:
            result, backbone = (
                self.clip_result(scale, variant, name),
                self.clip_result(scale, BACKBONE.name, name),
            )
            if result and backbone and result is not backbone:
                frames += frame_gains(result, backbone, key, stride)
        return Gains(frames) if frames else None

    def all_gains(self, scale: Scale) -> dict[str, Gains]:
        """The gains of each column that has any."""
        found = {column: self.gains(scale, column) for column in self.variants}
        return {column: gains for column, gains in found.items() if gains is not None}

    def propagation(self, scale: Scale, variant: str) -> str:
        """How this column brings detail from key-frames to other frames; "-" without LRRF."""
        return self.clip_results(scale, variant)[0]["propagation"] or "-"

    def clip_result(self, scale: Scale, variant: str, clip: str) -> dict[str, Any] | None:
        """The result of one clip; None if there is none."""
        return self._results.get((scale, variant, clip))

    def published(self, scale: Scale) -> Sequence[Figure]:
        """Published figures to compare with; none if clips were compressed or references altered."""
        if self.config.codec is not None or self.config.alterations:
            return []
        return published(self.config.dataset.name, self.config.protocol.name, scale)
