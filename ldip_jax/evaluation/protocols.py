"""What is run on a data set: how LR frames are made, at which scales, with which references."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ldip_jax.errors import InputError
from ldip_jax.evaluation.datasets import Dataset

NEAR_DISTANCE = 10
NEAR_FRAMES = 12
PAN_REFERENCES = 5


@dataclass(frozen=True)
class FrameSelection:
    """Which frames of a clip are upscaled, scored, and used as references.

    Numbers are frames of the clip, except in `outputs`.

    Attributes:
        inputs: the LR clip that is upscaled, in order; a frame may occur twice.
        scored: frames that are compared with the ground truth, ascending.
        outputs: for each scored frame, the places in `inputs` whose results are averaged.
        references: ground-truth frames that are used as references.
    """

    inputs: tuple[int, ...]
    scored: tuple[int, ...]
    outputs: tuple[tuple[int, ...], ...]
    references: tuple[int, ...] = ()


def _select(inputs: range, scored: list[int] | range, references: tuple[int, ...] = ()) -> FrameSelection:
    outputs = tuple((frame - inputs.start,) for frame in scored)
    return FrameSelection(tuple(inputs), tuple(scored), outputs, references)


def whole(count: int) -> FrameSelection:
    """All frames."""
    return _select(range(count), range(count))


def middle(count: int) -> FrameSelection:
    """All frames are upscaled, only the middle one is scored: Vimeo-90K-T."""
    return _select(range(count), [count // 2])


def mirrored(count: int) -> FrameSelection:
    """The clip and its mirror image in time are upscaled; the middle frame is the mean of its two results."""
    inputs = (*range(count), *reversed(range(count)))
    place = count // 2
    return FrameSelection(inputs, (place,), ((place, 2 * count - 1 - place),))


def by_fractions(count: int) -> FrameSelection:
    """Frames round(0.2 T) to round(0.8 T), both included; references are the clip's first and last frame.

    Of 100 frames these are 20 to 80, with references 0 and 99: the paper's Table 5.

    Raises:
        InputError: the clip is so short that a reference would be among the inputs.
    """
    first, last = round(0.2 * count), round(0.8 * count)
    if not 0 < first <= last < count - 1:
        raise InputError(f"{count} frames are too few for this protocol; it needs 8")
    return _select(range(first, last + 1), range(first, last + 1), (0, count - 1))


def near(count: int) -> FrameSelection:
    """12 frames from the clip's middle; references are 10 frames before the first and 10 after the last.

    Raises:
        InputError: the clip is too short.
    """
    needed = NEAR_FRAMES + 2 * NEAR_DISTANCE
    if count < needed:
        raise InputError(f"{count} frames are too few for this protocol; it needs {needed}")
    first = (count - NEAR_FRAMES) // 2
    inputs = range(first, first + NEAR_FRAMES)
    return _select(inputs, inputs, (first - NEAR_DISTANCE, first + NEAR_FRAMES - 1 + NEAR_DISTANCE))


def pan(count: int) -> FrameSelection:
    """All frames; 5 of them, evenly spread, are references in HR and are not scored: the paper's Figure 6.

    Raises:
        InputError: the clip is too short.
    """
    references = _spread(range(count), PAN_REFERENCES)
    scored = [frame for frame in range(count) if frame not in references]
    if len(set(references)) < PAN_REFERENCES or not scored:
        raise InputError(f"{count} frames are too few for this protocol; it needs {PAN_REFERENCES + 1}")
    return _select(range(count), scored, references)


def _spread(frames: Sequence[int], count: int) -> tuple[int, ...]:
    """`count` of these frames, evenly spread from the first to the last; a single one is the first."""
    return tuple(frames[round(place)] for place in np.linspace(0, len(frames) - 1, count))


def with_references(selection: FrameSelection, count: int) -> FrameSelection:
    """The same frames with `count` references, from its first reference to its last.

    They are spread evenly over the frames that are not upscaled; a single one is the first of these.

    Raises:
        InputError: there are too few such frames.
    """
    first, last = selection.references[0], selection.references[-1]
    free = [frame for frame in range(first, last + 1) if frame not in selection.inputs]
    if count > len(free):
        raise InputError(f"its {len(free)} frames that are not upscaled are too few for {count} references")
    return replace(selection, references=_spread(free, count))


Scale = tuple[float, float]
"""(rows, columns): HR size divided by LR size."""


@dataclass(frozen=True)
class Variant:
    """A way to run the model, such as a column of the paper's tables.

    Attributes:
        name: short, unique within a protocol.
        weights: "none", only the backbone; "checkpoint"; "cross", the export without ICA; "bicubic", without
            a network; "transfer", see `LinearTransfer`; or "mrefsr", the method that is compared with.
        references: "own", only the clip's own frames; "given", those of the case; "ends", the first and last
            of these; or "unrelated", those of another clip.
        threshold: the share of a key-frame that a reference must match; None: the usual one.
        propagation: how detail gets from key-frames to other frames, see `Upscaler`; None: the usual one.
    """

    name: str
    weights: Literal["none", "checkpoint", "cross", "bicubic", "transfer", "mrefsr"] = "checkpoint"
    references: Literal["own", "given", "ends", "unrelated"] = "own"
    threshold: float | None = None
    propagation: str | None = None


BACKBONE = Variant("backbone", "none")
SELF = Variant("ldip")
ANY_SCALE = (Variant("bicubic", "bicubic"), BACKBONE, SELF)
TABLE5 = (
    BACKBONE,
    Variant("full", references="given"),
    Variant("full, hrip", references="given", propagation="hrip"),
    Variant("w/o ref"),
    Variant("w/o ICA", "cross", "given"),
)
FIGURE6 = (*TABLE5[:2], Variant("full, 2", references="ends"), *TABLE5[2:])
TRANSFER = Variant("linear transfer, in hindsight", "transfer", "given")
UNRELATED = (
    BACKBONE,
    Variant("w/o ref"),
    Variant("unrelated", references="unrelated"),
    Variant("unrelated-0", references="unrelated", threshold=0.0),
)


@dataclass(frozen=True)
class Protocol:
    """One way to score.

    Attributes:
        name, summary: what the user types, and one line about it.
        degradation: see `DEGRADATIONS`.
        scales: the default scales.
        vid4_scales: the default scales on Vid4; empty: `scales`.
        size: the size of LR frames: "exact", HR divided by the scale after HR is cropped to a multiple;
            "round" or "floor", HR divided by the scale and rounded, or rounded down; "fit", as "exact" for
            whole factors and as "round" for others.
        convention: see `MEASURES`; None: that of the data set.
        select_frames: the frames, by the clip's length; None: all frames are upscaled, and all or only the
            middle one are scored, as the data set says.
        variants: what is compared.
        any_references: whether it can be run with any number of references, see `with_references`.
    """

    name: str
    summary: str
    degradation: str = "bi"
    scales: tuple[Scale, ...] = ((4.0, 4.0),)
    vid4_scales: tuple[Scale, ...] = ()
    size: Literal["exact", "round", "floor", "fit"] = "exact"
    convention: str | None = None
    select_frames: Callable[[int], FrameSelection] | None = None
    variants: tuple[Variant, ...] = (BACKBONE, SELF)
    any_references: bool = False

    def baseline_variants(self, title: str) -> tuple[Variant, ...]:
        """Columns of MRefSR, called `title`, and of linear transfer, for each set of references in HR."""
        requested = {variant.references for variant in self.variants}
        baselines = [Variant(title, "mrefsr", "given")] if "given" in requested else []
        baselines += [Variant(f"{title}, 2", "mrefsr", "ends")] if "ends" in requested else []
        return (TRANSFER, *baselines) if baselines else ()

    def frames(self, dataset: Dataset, count: int, references: int | None = None) -> FrameSelection:
        """Which frames of a clip of `count` frames are upscaled, scored, and used as references.

        Args:
            references: how many references, only if `any_references`; None: as the protocol says.

        Raises:
            InputError: the clip is too short.
        """
        if count < 1:
            raise InputError("it has no frames")
        selection = (self.select_frames or (middle if dataset.middle_only else whole))(count)
        return selection if references is None else with_references(selection, references)

    def sizes(self, hr: tuple[int, int], scale: Scale) -> tuple[tuple[int, int], tuple[int, int]]:
        """(height, width) of the HR frames as they are scored, and of the LR frames.

        Raises:
            InputError: the protocol does not allow the scale, or the frames are too small.
        """
        if self.degradation == "bd" and scale != (4.0, 4.0):
            raise InputError(f"scale {show_scale(scale)}: {self.name} is only for x4")
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
    """A scale as text: 4, or 1.5x4 for rows and columns."""
    return f"{scale[0]:g}" if scale[0] == scale[1] else f"{scale[0]:g}x{scale[1]:g}"


_SAVSR = tuple((scale, scale) for scale in (1.5, 2.0, 2.5, 3.0, 3.5, 4.0))

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("bi-x4", "MATLAB bicubic, x4; all frames, or Vimeo-90K-T's middle one"),
        Protocol("bd-x4", "Gaussian blur of sigma 1.6 and subsampling, x4", degradation="bd"),
        Protocol("bi-x4-mirror", "bi-x4 on the clip and its mirror image in time", select_frames=mirrored),
        Protocol(
            "bd-x4-mirror",
            "bd-x4 on the clip and its mirror image in time",
            degradation="bd",
            select_frames=mirrored,
        ),
        Protocol(
            "savsr",
            "any scale from 1.1 to 4: antialiased bicubic, LR size rounded, Y",
            degradation="antialiased",
            scales=(*_SAVSR, (1.5, 4.0), (3.5, 1.5)),
            size="round",
            convention="basicsr-y",
            variants=ANY_SCALE,
        ),
        Protocol(
            "st-avsr",
            "any scale up to 8: bicubic that is not antialiased, LR size cut, RGB without a border of 4",
            degradation="bicubic",
            scales=tuple((scale, scale) for scale in (2.0, 3.0, 4.0, 6.0, 8.0)),
            vid4_scales=((4.0, 4.0), (2.5, 3.5), (7.2, 6.0)),
            size="floor",
            convention="rgb-crop4",
            variants=ANY_SCALE,
        ),
        Protocol(
            "table5",
            "frames 0.2 T to 0.8 T with the first and the last as references in HR",
            size="fit",
            select_frames=by_fractions,
            variants=TABLE5,
            any_references=True,
        ),
        Protocol(
            "near",
            "12 frames with references in HR 10 frames before and after them",
            size="fit",
            select_frames=near,
            variants=TABLE5,
            any_references=True,
        ),
        Protocol(
            "figure6",
            "whole clips with 5 references in HR spread over them, or the first and the last of these",
            size="fit",
            select_frames=pan,
            variants=FIGURE6,
        ),
        Protocol(
            "unrelated",
            "table5 with references of another clip, which must change nothing; -0: all of them are used",
            size="fit",
            select_frames=by_fractions,
            variants=UNRELATED,
        ),
    )
}
