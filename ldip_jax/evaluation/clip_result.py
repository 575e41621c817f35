"""The result of one clip by one variant at one scale, as a file of the folder `units` stores it."""

from dataclasses import dataclass, field, replace
from typing import Any

from ldip_jax.evaluation.scores import ClipScore, average


@dataclass(frozen=True)
class FrameScore:
    """The score of one frame; `frame` is its number in the clip."""

    frame: int
    score: ClipScore


@dataclass(frozen=True, kw_only=True)
class ScoredClip:
    """What is known of a clip once it is upscaled and scored.

    Attributes:
        frames: the scored frames.
        key_frames: numbers of the key-frames in the clip.
        references: by key-frame, as a place among the inputs, which references were chosen or refused; see
            `ReferenceChoice.as_json`.
        seconds: the time that it took.
    """

    frames: list[FrameScore]
    key_frames: list[int] = field(default_factory=list)
    references: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def average(self) -> ClipScore:
        """Means over the frames; tOF over frames that have a previous frame."""
        mean = average([row.score for row in self.frames])
        known = [row.score.tof for row in self.frames if row.score.tof is not None]
        return replace(mean, tof=sum(known) / len(known) if known else None)


@dataclass(frozen=True, kw_only=True)
class ClipResult(ScoredClip):
    """A scored clip, and what was run.

    Attributes:
        fingerprint: a hash of all that the scores depend on.
        clip, variant: names of the clip and of the variant.
        scale: (rows, columns) of HR divided by those of LR.
        hr, lr: (height, width) of the frames.
        inputs: numbers of the frames that were upscaled, in order.
        stills: names of the reference images.
        propagation: how detail gets from key-frames to other frames; None without LRRF.
        input_codec, ref_alter: the codec of the input, and alterations of the references, as text.
        samples: the images that the report shows; see `ReportImages.finish`.
    """

    fingerprint: str = ""
    clip: str
    variant: str
    scale: tuple[float, float] = (4.0, 4.0)
    hr: list[int] = field(default_factory=list)
    lr: list[int] = field(default_factory=list)
    inputs: list[int]
    stills: list[str] = field(default_factory=list)
    propagation: str | None = None
    input_codec: str | None = None
    ref_alter: list[str] = field(default_factory=list)
    samples: dict[str, Any] | None = None

    def frame_rows(self, names: dict[str, str]) -> list[dict[str, Any]]:
        """The frames and their scores as files hold them; `names` as `score_names` gives them."""
        return [{"frame": row.frame, **row.score.named(names)} for row in self.frames]

    def as_json(self, names: dict[str, str]) -> dict[str, Any]:
        """As JSON; `read_clip_result` is the inverse."""
        values = {**vars(self), "frames": self.frame_rows(names)}
        values["column"] = values.pop("variant")
        return values


def read_clip_result(values: dict[str, Any], names: dict[str, str]) -> ClipResult:
    """The result that `ClipResult.as_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: it did not.
    """
    values = dict(values)
    frames = [
        FrameScore(row["frame"], ClipScore(**{field: row[name] for name, field in names.items()}))
        for row in values.pop("frames")
    ]
    rows, columns = values.pop("scale")
    return ClipResult(frames=frames, scale=(rows, columns), variant=values.pop("column"), **values)
