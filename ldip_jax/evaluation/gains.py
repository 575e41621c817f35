"""What a variant gains over the backbone: how far the gain reaches, whether it pulses, the worst frame."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, pstdev
from typing import Any

from ldip_jax.evaluation.clip_result import ClipResult

FAR = 3
"""Frames at least this far from the nearest key-frame show whether detail reaches far."""

LOSS = 0.05
"""A frame counts as worse than the backbone's if its PSNR is lower by more than this, in dB."""


@dataclass(frozen=True)
class FrameGain:
    """One scored frame.

    Attributes:
        clip, frame: its clip, and its number in the clip.
        gain: PSNR minus that of the backbone, in dB.
        distance: number of frames to the nearest key-frame; None if there are no key-frames.
        phase: its place among the inputs, modulo the key-stride.
    """

    clip: str
    frame: int
    gain: float
    distance: int | None
    phase: int


def frame_gains(result: ClipResult, backbone: ClipResult, field: str, stride: int) -> list[FrameGain]:
    """Gains of a clip's frames.

    Args:
        result, backbone: results of one clip, from the variant and from the backbone.
        field: the score that is compared, such as "psnr_y".
        stride: number of frames from one key-frame to the next.
    """
    base = {row.frame: getattr(row.score, field) for row in backbone.frames}
    places = {frame: place for place, frame in reversed(list(enumerate(result.inputs)))}
    return [
        FrameGain(
            clip=result.clip,
            frame=row.frame,
            gain=getattr(row.score, field) - base[row.frame],
            distance=min((abs(row.frame - frame) for frame in result.key_frames), default=None),
            phase=places[row.frame] % stride,
        )
        for row in result.frames
    ]


@dataclass(frozen=True)
class Gains:
    """Gains of the frames of one or more clips, each frame counted once; there is at least one frame."""

    frames: Sequence[FrameGain]

    @cached_property
    def mean(self) -> float:
        """The mean gain over all frames, in dB."""
        return fmean(frame.gain for frame in self.frames)

    @cached_property
    def reach(self) -> dict[int, tuple[float, int]]:
        """By distance from the nearest key-frame: the mean gain in dB, and the number of frames."""
        found: defaultdict[int, list[float]] = defaultdict(list)
        for frame in self.frames:
            if frame.distance is not None:
                found[frame.distance].append(frame.gain)
        return {distance: (fmean(gains), len(gains)) for distance, gains in sorted(found.items())}

    @cached_property
    def kept_far(self) -> float | None:
        """The mean gain of frames at a distance of `FAR` or more, divided by that of key-frames.

        None if there are no such frames, or if key-frames gain nothing.
        """
        far = [frame.gain for frame in self.frames if frame.distance is not None and frame.distance >= FAR]
        at_keys, _ = self.reach.get(0, (0.0, 0))
        return fmean(far) / at_keys if far and at_keys > 0 else None

    @cached_property
    def pulsing(self) -> float | None:
        """Standard deviation of the mean gains of the phases of the key-stride, in dB.

        None if there are no key-frames, or only one phase.
        """
        phases: defaultdict[int, list[float]] = defaultdict(list)
        for frame in self.frames:
            if frame.distance is not None:
                phases[frame.phase].append(frame.gain)
        return pstdev(map(fmean, phases.values())) if len(phases) > 1 else None

    @cached_property
    def relative_pulsing(self) -> float | None:
        """`pulsing` divided by the mean gain; None if `pulsing` is None or the mean is not positive."""
        return self.pulsing / self.mean if self.pulsing is not None and self.mean > 0 else None

    @cached_property
    def worst(self) -> FrameGain:
        """The frame with the lowest gain."""
        return min(self.frames, key=lambda frame: frame.gain)

    @cached_property
    def worse_frames(self) -> int:
        """How many frames are worse than the backbone's by more than `LOSS`."""
        return sum(frame.gain < -LOSS for frame in self.frames)

    def as_json(self) -> dict[str, Any]:
        """All values, for `results.json`."""
        return {
            "mean": self.mean,
            "reach": [
                {"distance": distance, "gain": gain, "frames": count}
                for distance, (gain, count) in self.reach.items()
            ],
            "kept_far": self.kept_far,
            "pulsing": self.pulsing,
            "relative_pulsing": self.relative_pulsing,
            "worst": {"clip": self.worst.clip, "frame": self.worst.frame, "gain": self.worst.gain},
            "frames": len(self.frames),
            "frames_worse": self.worse_frames,
        }


GAIN_NOTES = (
    f"Kept far: the mean gain {FAR} frames and more from a key-frame, over that at key-frames.",
    "Pulsing: the standard deviation, over frames' places modulo the key-stride, of their mean gain.",
    f"Worse: frames more than {LOSS:g} dB below the backbone's.",
)


def gain_table(variants: Mapping[str, tuple[str, Gains]]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a row for each variant with its propagation, its gain, and how even the gain is."""
    head = ["method", "propagation", "gain", "kept far", "pulsing", "pulsing / gain"]
    head += ["worst frame", "which", "worse"]
    rows = []
    for variant, (propagation, gains) in variants.items():
        values = (gains.kept_far, gains.pulsing, gains.relative_pulsing)
        worst = gains.worst
        rows.append(
            [
                variant,
                propagation,
                f"{gains.mean:+z.3f}",
                *("-" if value is None else f"{value:z.3f}" for value in values),
                f"{worst.gain:+z.3f}",
                f"{worst.clip}, frame {worst.frame}",
                f"{gains.worse_frames} of {len(gains.frames)}",
            ]
        )
    return head, rows


def distances(variants: Mapping[str, Gains]) -> list[int]:
    """Distances from the nearest key-frame at which any variant has frames, ascending."""
    return sorted({distance for gains in variants.values() for distance in gains.reach})


def reach_table(variants: Mapping[str, Gains]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a row for each distance from the nearest key-frame; each variant's mean gain in dB."""
    with_key_frames = {name: gains for name, gains in variants.items() if gains.reach}
    rows = []
    for distance in distances(with_key_frames):
        found = [gains.reach.get(distance) for gains in with_key_frames.values()]
        # Variants usually have the same key-frames.
        counts = dict.fromkeys(str(entry[1]) for entry in found if entry)
        values = ["-" if entry is None else f"{entry[0]:+z.3f}" for entry in found]
        rows.append([str(distance), " / ".join(counts), *values])
    return ["frames from a key-frame", "frames", *with_key_frames], rows
