"""The results of an evaluation, clip by clip, and their averages."""

from collections.abc import Sequence

from ldip_jax.evaluation.clip_result import ClipResult
from ldip_jax.evaluation.gains import FrameGain, Gains, frame_gains
from ldip_jax.evaluation.protocols import BACKBONE, Scale
from ldip_jax.evaluation.published import Figure, published
from ldip_jax.evaluation.runner import EvaluationConfig, Outcome
from ldip_jax.evaluation.scores import ClipScore, average, primary_names, score_names


class Results:
    """Results by scale, variant and clip.

    Attributes:
        score_names: the fields of scores by their names in files and tables.
        scales, variants: those that have results, in the order of `config`.
    """

    def __init__(self, config: EvaluationConfig, outcome: Outcome):
        self.config, self.outcome = config, outcome
        self.score_names = score_names(config.convention, temporal=config.temporal)
        self._results = {(result.scale, result.variant, result.clip): result for result in outcome.results}
        self.scales = [s for s in config.scales if any(scale == s for scale, _, _ in self._results)]
        self.variants = [
            variant.name
            for variant in config.variants
            if any(name == variant.name for _, name, _ in self._results)
        ]

    def clip_results(self, scale: Scale, variant: str) -> list[ClipResult]:
        """The results of all clips, in name order."""
        return [self._results[key] for key in sorted(self._results) if key[:2] == (scale, variant)]

    def clips(self, scale: Scale) -> list[str]:
        """Clips on which every variant has been run: averages cover only these, to be comparable."""
        sets = [{result.clip for result in self.clip_results(scale, name)} for name in self.variants]
        return sorted(set.intersection(*sets)) if sets else []

    def average(self, scale: Scale, variant: str) -> ClipScore:
        """The mean over clips of their means over frames."""
        clips = self.clips(scale)
        return average(
            [result.average for result in self.clip_results(scale, variant) if result.clip in clips]
        )

    def gains(self, scale: Scale, variant: str, clip: str | None = None) -> Gains | None:
        """Gains over the backbone, on one clip or on all clips on which every variant has been run.

        None for the backbone itself, and if it has not been run.
        """
        field = self.score_names[primary_names(self.config.convention)[0]]
        stride = self.config.networks.key_stride
        frames: list[FrameGain] = []
        for name in self.clips(scale) if clip is None else [clip]:
            result, backbone = (
                self.clip_result(scale, variant, name),
                self.clip_result(scale, BACKBONE.name, name),
            )
            if result and backbone and result is not backbone:
                frames += frame_gains(result, backbone, field, stride)
        return Gains(frames) if frames else None

    def all_gains(self, scale: Scale) -> dict[str, Gains]:
        """The gains of each variant that has any."""
        found = {name: self.gains(scale, name) for name in self.variants}
        return {name: gains for name, gains in found.items() if gains is not None}

    def propagation(self, scale: Scale, variant: str) -> str:
        """How this variant brings detail from key-frames to other frames; "-" without LRRF."""
        return self.clip_results(scale, variant)[0].propagation or "-"

    def clip_result(self, scale: Scale, variant: str, clip: str) -> ClipResult | None:
        """The result of one clip; None if there is none."""
        return self._results.get((scale, variant, clip))

    def published(self, scale: Scale) -> Sequence[Figure]:
        """Published figures to compare with; none for other input or other references than theirs."""
        config = self.config
        if config.codec is not None or config.alterations or config.references is not None:
            return []
        return published(self.config.dataset.name, self.config.protocol.name, scale)
