"""What is run on a data set: how LR frames are made, at which scales, with which references."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ldip_jax.errors import InputError
from ldip_jax.evaluation import cases
from ldip_jax.evaluation.cases import Case
from ldip_jax.evaluation.datasets import Dataset

Scale = tuple[float, float]
"""Rows, columns: HR over LR."""


@dataclass(frozen=True)
class Column:
    """A way to run the model: a column of the paper's tables.

    Attributes:
        name: short, unique within a protocol.
        weights: "none", the backbone alone; "checkpoint"; "cross", the export without ICA; or "bicubic", no
            network at all.
        references: none but the clip's own frames; the case's, all or the first and the last; or those of
            another clip.
        threshold: instead of the usual one, of what share of a key-frame a reference must match.
    """

    name: str
    weights: Literal["none", "checkpoint", "cross", "bicubic"] = "checkpoint"
    references: Literal["own", "given", "ends", "unrelated"] = "own"
    threshold: float | None = None


BACKBONE = Column("backbone", "none")
SELF = Column("ldip")
ANY_SCALE = (Column("bicubic", "bicubic"), BACKBONE, SELF)
TABLE5 = (
    BACKBONE,
    Column("full", references="given"),
    Column("w/o ref"),
    Column("w/o ICA", "cross", "given"),
)
FIGURE6 = (*TABLE5[:2], Column("full, 2", references="ends"), *TABLE5[2:])
UNRELATED = (
    BACKBONE,
    Column("w/o ref"),
    Column("unrelated", references="unrelated"),
    Column("unrelated-0", references="unrelated", threshold=0.0),
)


@dataclass(frozen=True)
class Protocol:
    """One way to score.

    Attributes:
        name, summary: what the user types, and a line about it.
        degradation: see `DEGRADATIONS`.
        scales: what is run unless the user names scales.
        vid4_scales: other ones on Vid4, where the protocol says so.
        size: of LR frames: "exact", HR over the scale after cropping HR to a multiple; or HR over the scale,
            rounded or cut to whole pixels; or "fit", exact for whole factors and rounded for others.
        measure: see `MEASURES`; None: the data set's.
        case: frames by the clip's length; None: the data set's.
        columns: what is compared.
    """

    name: str
    summary: str
    degradation: str = "bi"
    scales: tuple[Scale, ...] = ((4.0, 4.0),)
    vid4_scales: tuple[Scale, ...] = ()
    size: Literal["exact", "round", "floor", "fit"] = "exact"
    measure: str | None = None
    case: Callable[[int], Case] | None = None
    columns: tuple[Column, ...] = (BACKBONE, SELF)

    def frames(self, dataset: Dataset, count: int) -> Case:
        """What is put in and scored of a clip of `count` frames.

        Raises:
            InputError: the clip is too short.
        """
        if count < 1:
            raise InputError("it has no frames")
        return (self.case or (cases.middle if dataset.middle else cases.whole))(count)

    def sizes(self, hr: tuple[int, int], scale: Scale) -> tuple[tuple[int, int], tuple[int, int]]:
        """(height, width) of the HR frames as they are scored, and of the LR frames.

        Raises:
            InputError: a scale that is not for this protocol, or frames that are too small.
        """
        if self.degradation == "bd" and scale != (4.0, 4.0):
            raise InputError(f"scale {show_scale(scale)}: {self.name} is for x4 alone")
        whole = all(factor == int(factor) for factor in scale)
        if self.size == "exact" and not whole:
            raise InputError(
                f"scale {show_scale(scale)}: {self.name} is for whole factors; use savsr or st-avsr"
            )
        if self.size == "exact" or (self.size == "fit" and whole):
            hr = (hr[0] - hr[0] % int(scale[0]), hr[1] - hr[1] % int(scale[1]))
        to_int = int if self.size == "floor" else round
        lr = (to_int(hr[0] / scale[0]), to_int(hr[1] / scale[1]))
        if min(lr) < 1:
            raise InputError(f"frames of {hr[1]}x{hr[0]} are too small for scale {show_scale(scale)}")
        return hr, lr


def show_scale(scale: Scale) -> str:
    """4, or 1.5x4 for rows and columns."""
    return f"{scale[0]:g}" if scale[0] == scale[1] else f"{scale[0]:g}x{scale[1]:g}"


_SAVSR = tuple((scale, scale) for scale in (1.5, 2.0, 2.5, 3.0, 3.5, 4.0))

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("bi-x4", "MATLAB bicubic, x4; all frames, or Vimeo-90K-T's middle one"),
        Protocol("bd-x4", "Gaussian blur of sigma 1.6 and subsampling, x4", degradation="bd"),
        Protocol("bi-x4-mirror", "bi-x4 on the clip and its mirror image in time", case=cases.mirrored),
        Protocol(
            "bd-x4-mirror",
            "bd-x4 on the clip and its mirror image in time",
            degradation="bd",
            case=cases.mirrored,
        ),
        Protocol(
            "savsr",
            "any scale from 1.1 to 4: antialiased bicubic, LR size rounded, Y",
            degradation="antialiased",
            scales=(*_SAVSR, (1.5, 4.0), (3.5, 1.5)),
            size="round",
            measure="basicsr-y",
            columns=ANY_SCALE,
        ),
        Protocol(
            "st-avsr",
            "any scale up to 8: bicubic that is not antialiased, LR size cut, RGB without a border of 4",
            degradation="bicubic",
            scales=tuple((scale, scale) for scale in (2.0, 3.0, 4.0, 6.0, 8.0)),
            vid4_scales=((4.0, 4.0), (2.5, 3.5), (7.2, 6.0)),
            size="floor",
            measure="rgb-crop4",
            columns=ANY_SCALE,
        ),
        Protocol(
            "table5",
            "frames 0.2 T to 0.8 T with the first and the last as references in HR",
            size="fit",
            case=cases.by_fractions,
            columns=TABLE5,
        ),
        Protocol(
            "near",
            "12 frames with references in HR 10 frames before and after them",
            size="fit",
            case=cases.near,
            columns=TABLE5,
        ),
        Protocol(
            "figure6",
            "whole clips with 5 references in HR spread over them, or the first and the last of these",
            size="fit",
            case=cases.pan,
            columns=FIGURE6,
        ),
        Protocol(
            "unrelated",
            "table5 with references of another clip, which must do no harm; -0: none of them is turned away",
            size="fit",
            case=cases.by_fractions,
            columns=UNRELATED,
        ),
    )
}
