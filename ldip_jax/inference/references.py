"""Finds, selects and prepares a key-frame's references: first stills, then distant frames of the clip."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.errors import InputError
from ldip_jax.inference.keyframes import select_self_references
from ldip_jax.inference.reference_images import Still, UsablePart, cropped_part, whole_part
from ldip_jax.inference.screening import UNLIKE, calibrate, find_damage, rejection_reason
from ldip_jax.inference.shortlist import CLEAR_SHARE, MatchBudget, RankedStill, rank_stills
from ldip_jax.matching.calibration import Calibration
from ldip_jax.matching.dense import DenseMatcher, same_size
from ldip_jax.matching.density import ReferenceReducer
from ldip_jax.matching.loading import PrecomputedMatcher, load_matcher
from ldip_jax.matching.matcher import Match, Matcher, Pair, Ranker, confident_share, rescale
from ldip_jax.matching.view import find_view
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.ref_align import Reference
from ldip_jax.profiling import timed

# References are padded to a multiple of this, so that stills of almost the same size share a program.
CANVAS_MULTIPLE = 64
# A still that matches less than this fraction of a key-frame may show another view.
SAME_VIEW = 0.5
# Frames of the clip that are a key-frame's references if no still is used.
SELF_REFERENCES = 5
MATCHES_TOO_LITTLE = "matches too little"
# Why a still is not even matched.
NOT_ALIKE, LESS_ALIKE = "does not look like this frame", "enough others look more like this frame"


@dataclass(frozen=True)
class ReferenceChoice:
    """What was decided on one candidate of a key-frame.

    Attributes:
        name: the still's name, or "frame N" of the clip.
        share: fraction of the key-frame's pixels with confidence above 0.5; 0 if the images have nothing in
            common there.
        used: whether it was given to Ref-Fusion.
        is_self_reference: whether it is a frame of the clip, because a still may also be called "frame N".
        calibration: how its values were calibrated; None: it is used as it is.
        reason: why it is not used, or "".
        damage: how damaged the key-frame is beside it, in [0, 1]: 0 on clean clips.
    """

    name: str
    share: float
    used: bool
    is_self_reference: bool = False
    calibration: Calibration | None = None
    reason: str = ""
    damage: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """As JSON, for results and for runs that resume; `read_choice` is the inverse."""
        values = asdict(self)
        values["own"] = values.pop("is_self_reference")
        return values

    @property
    def note(self) -> str:
        """What to report besides the share: why it is not used, else how it was calibrated; or ""."""
        if not self.used:
            return f"not used: {self.reason}"
        return f"calibrated: {self.calibration}" if self.calibration is not None else ""


def read_choice(values: Mapping[str, Any]) -> ReferenceChoice:
    """The inverse of `ReferenceChoice.as_json`."""
    calibration = values.get("calibration")
    if calibration is not None:
        calibration = Calibration(tuple(calibration["gain"]), calibration["gamma"])
    stored = {**values, "calibration": calibration}
    stored["is_self_reference"] = stored.pop("own", False)
    return ReferenceChoice(**stored)


@dataclass(frozen=True)
class ReferenceRules:
    """Which references a key-frame gets.

    Attributes:
        self_refs: places for references at each key-frame, or as many as there are stills if these are more;
            places without a used still are filled with the clip's own frames. 0: only stills. None:
            `SELF_REFERENCES` own frames if no still is used, otherwise only stills.
        exclude: frames up to this far from the key-frame are not references for it.
        threshold: a still is used if at least this fraction of the key-frame's pixels matches with
            confidence above 0.5. 0: every still is used.
        as_given: stills are not calibrated, and not rejected for what they show.
    """

    self_refs: int | None = None
    exclude: int = 5
    threshold: float = 0.05
    as_given: bool = False

    def free_slots(self, stills: int, used: int) -> int:
        """A key-frame's places for the clip's own frames if `used` of its `stills` are used."""
        if self.self_refs is None:
            return 0 if used else SELF_REFERENCES
        return max(self.self_refs, stills) - used if self.self_refs else 0

    def check(self) -> None:
        """
        Raises:
            InputError: a number is out of range.
        """
        if (self.self_refs or 0) < 0 or self.exclude < 0:
            raise InputError("self references and excluded frames are counted from 0 up")
        if not 0.0 <= self.threshold <= 1.0:
            raise InputError(f"reference threshold {self.threshold:g}: it is a share, between 0 and 1")


@dataclass(frozen=True)
class WindowFrames:
    """The window that is being processed, as far as the selection of references needs it.

    Attributes:
        first: place of the window's first frame in the clip.
        frames: LR frames of the window, `1 h w 3` each.
        backbone_image: from a frame's place in the window to the backbone's image of it, in [0, 1], maybe in
            float16.
        hold: puts an array where it can wait; see `Holder.hold`.
        softened: whether the frames were softened; see `softening`.
    """

    first: int
    frames: Sequence[Array]
    backbone_image: Callable[[int], Float[Array, "1 H W 3"]]
    hold: Callable[[Any], Any] = lambda values: values
    softened: bool = False


Candidate = tuple[ReferenceChoice, Reference | None]
"""What was decided on one candidate, and the reference if it is used."""
FoundReferences = tuple[list[Reference], list[ReferenceChoice]]
"""The references used at a key-frame, and what was decided on all candidates."""


def _frame_name(index: int) -> str:
    return f"frame {index}"


def on_canvas(image: Float[Array, "1 h w 3"], match: Match) -> Reference:
    """A matched image as a `Reference` for LRRF, padded to a multiple of `CANVAS_MULTIPLE`."""
    h, w = image.shape[1:3]
    pads = ((0, 0), (0, -h % CANVAS_MULTIPLE), (0, -w % CANVAS_MULTIPLE), (0, 0))
    size = jnp.array([[h, w]], jnp.int32)
    return Reference(jnp.pad(image, pads), size, match.warp, match.confidence, jnp.ones((1,), jnp.float32))


def _held(window: WindowFrames, reference: Reference) -> Reference:
    """A reference, its large arrays put where they can wait."""
    image, warp, confidence = map(window.hold, (reference.image, reference.warp, reference.confidence))
    return reference._replace(image=image, warp=warp, confidence=confidence)


def make_matcher(
    net: LDIP,
    params: Mapping[str, Any],
    name_or_folder: str | Path,
    progress: Callable[[str], object] = print,
) -> Matcher:
    """The matcher of this choice for a network: "flow" follows the same optical flow as its detail.

    Raises:
        InputError: see `load_matcher`.
    """
    flow = None if net.flow_net is None else (net.flow_net, params["flow_net"])
    return load_matcher(name_or_folder, params["backbone"]["spynet"], flow=flow, progress=progress)


class ReferenceFinder:
    """Matches candidates with key-frames and prepares those that are used.

    If `remember` is set, matches are kept for another run over the same clip, with the same backbone and more
    or fewer stills. Each takes 12 bytes per HR pixel, in addition to the reference itself.
    """

    def __init__(self, matcher: Matcher, rules: ReferenceRules, *, remember: bool = False):
        self.rules = rules
        self._matcher = matcher
        self._coarse = timed("matching", "coarse", matcher.coarse)
        self._refine = timed("matching", "refine", matcher.refine)
        self._reduce = timed("matching", "reduce", ReferenceReducer())
        # By key-frame, and the still's name or the frame's place.
        self._matches: dict[tuple[int, str | int], Candidate] | None = {} if remember else None

    @property
    def precomputed(self) -> bool:
        """Whether matches come from a folder, which has them only for the regular key-frames."""
        return isinstance(self._matcher, PrecomputedMatcher)

    @property
    def matches_by_flow(self) -> bool:
        """Whether the flow network matches, which compares images at the key-frame's own size."""
        return isinstance(self._matcher, DenseMatcher) and self._matcher.matching_size is same_size

    def check_matches(self, key_frame: int, stills: Iterable[Still]) -> None:
        """Check, before any work, that a folder of matches has the files that this key-frame needs.

        Raises:
            InputError: a file is missing.
        """
        if isinstance(self._matcher, PrecomputedMatcher):
            for still in stills:
                self._matcher.path(key_frame, still.name)

    def match_stills(
        self,
        window: WindowFrames,
        place: int,
        stills: list[Still],
        scale: tuple[float, float],
        advance: Callable[[str], None],
    ) -> FoundReferences:
        """The stills used at one key-frame, best first, and what was decided on all of them.

        Args:
            place: the key-frame's place in the window.
            stills: the stills that the key-frame is offered.
            scale: (H, W) divided by the size of the LR frames.
            advance: called with "match" after each still.
        """
        key_frame = window.first + place
        anchor = window.backbone_image(place)
        found: list[Candidate] = []
        budget = MatchBudget(sum(still.moment is None for still in stills))
        for still, likely in self._ranked(anchor, stills):
            if likely is None or budget.allows(likely):
                min_share = (
                    max(self.rules.threshold, CLEAR_SHARE) if likely is False else self.rules.threshold
                )

                def match(still: Still = still, least: float = min_share) -> Candidate:
                    return self._match_still(window, anchor, key_frame, still, scale, least)

                choice, reference = self._remembered(key_frame, still.name, match)
                found.append((choice, None if reference is None else _held(window, reference)))
                if likely is not None:
                    budget.add(likely, choice.used)
            else:
                reason = LESS_ALIKE if likely else NOT_ALIKE
                found.append((ReferenceChoice(still.name, 0.0, used=False, reason=reason), None))
            advance("match")
        found.sort(key=lambda pair: -pair[0].share)
        references = [reference for _, reference in found if reference is not None]
        return references, [choice for choice, _ in found]

    def add_self_references(
        self,
        window: WindowFrames,
        place: int,
        matched_stills: FoundReferences,
        scale: tuple[float, float],
        advance: Callable[[str], None],
    ) -> FoundReferences:
        """The references of one key-frame: its stills, and the clip's own frames in the places left free.

        Args:
            place: the key-frame's place in the window.
            matched_stills: what the method `matched_stills` returned for it.
            scale: (H, W) divided by the size of the LR frames.
            advance: called with "match" after each frame of the clip.
        """
        key_frame = window.first + place
        anchor = window.backbone_image(place)
        references, choices = list(matched_stills[0]), list(matched_stills[1])
        matched = sum(choice.reason not in (NOT_ALIKE, LESS_ALIKE) for choice in choices)
        free = self.rules.free_slots(matched, len(references))
        for index in select_self_references(
            key_frame, window.first, len(window.frames), self.rules.exclude, free
        ):
            choice, reference = self._remembered(
                key_frame,
                index,
                lambda index=index: self._match_frame(window, anchor, key_frame, index, scale),
            )
            assert reference is not None, "the clip's own frames are always used"
            references.append(_held(window, reference))
            choices.append(choice)
            advance("match")
        return references, choices

    def _ranked(self, anchor: Array, stills: list[Still]) -> list[RankedStill]:
        """The stills in the order in which they are matched."""
        free = [still for still in stills if still.moment is None]
        every = self.rules.as_given or self.rules.threshold == 0.0
        if every or not isinstance(self._matcher, Ranker):
            return [RankedStill(still, None) for still in stills]
        # Stills with a moment were assigned to this key-frame by the user.
        bound = [RankedStill(still, None) for still in stills if still.moment is not None]
        return bound + timed("matching", "rank", rank_stills)(self._matcher, anchor, free)

    def _remembered(self, key_frame: int, candidate: str | int, match: Callable[[], Candidate]) -> Candidate:
        if self._matches is None:
            return match()
        if (key_frame, candidate) not in self._matches:
            self._matches[key_frame, candidate] = match()
        return self._matches[key_frame, candidate]

    def _match_still(
        self,
        window: WindowFrames,
        anchor: Array,
        key_frame: int,
        still: Still,
        scale: tuple[float, float],
        min_share: float,
    ) -> Candidate:
        """Match a still; it is used if it matches at least the share `min_share` of the key-frame."""
        pair = Pair(anchor, still.image[None], key_frame, still.name)
        part = whole_part(still)
        match = part.limit(self._coarse(pair), pair)
        share = confident_share(match.confidence)
        if share < SAME_VIEW and not isinstance(self._matcher, PrecomputedMatcher):
            other_view = self._match_other_view(pair, still)
            if other_view is not None and (found := confident_share(other_view[1].confidence)) > share:
                (pair, match, part), share = other_view, found
        if share < min_share:
            return ReferenceChoice(still.name, share, used=False, reason=MATCHES_TOO_LITTLE), None
        pair, match = self._reduce(pair, match)
        calibration = None
        if not self.rules.as_given:
            pair, calibration = timed("matching", "calibrate", calibrate)(pair, match, scale)
        pair, match = self._waiting(window, pair, match)
        match = part.limit(self._refined(pair, match, scale), pair)
        # A threshold of 0 rejects nothing.
        reason = ""
        if self.rules.threshold > 0.0 and not self.rules.as_given:
            reason = timed("matching", "examine", rejection_reason)(pair, match, scale, window.softened)
        share = 0.0 if reason == UNLIKE else share
        damage = 0.0
        if not reason and not self.rules.as_given:
            damage = timed("matching", "examine", find_damage)(pair, match, scale)
        choice = ReferenceChoice(
            still.name, share, not reason, calibration=calibration, reason=reason, damage=damage
        )
        return choice, None if reason else on_canvas(jnp.asarray(pair.reference), match)

    def _waiting(self, window: WindowFrames, pair: Pair, match: Match) -> tuple[Pair, Match]:
        """The reference and its match, put where they can wait, if the matcher reads them when needed."""
        if not isinstance(self._matcher, DenseMatcher):
            return pair, match
        return replace(pair, reference=window.hold(pair.reference)), Match(*map(window.hold, match))

    def _refined(self, pair: Pair, match: Match, scale: tuple[float, float]) -> Match:
        return Match(*map(jnp.asarray, self._refine(pair, match, scale)))

    def _match_other_view(self, pair: Pair, still: Still) -> tuple[Pair, Match, UsablePart] | None:
        """The still cropped to the view that the key-frame shows of it, and its match; None: not found."""
        view = timed("matching", "view", find_view)(np.asarray(pair.anchor)[0], still.image)
        if view is None:
            return None
        image, part = cropped_part(still, view, pair.size)
        name = f"{pair.name} at {view.top} {view.left} {view.height} {view.width}"
        pair = replace(pair, reference=image[None], name=name)
        return pair, part.limit(self._coarse(pair), pair), part

    def _match_frame(
        self, window: WindowFrames, anchor: Array, key_frame: int, index: int, scale: tuple[float, float]
    ) -> Candidate:
        place = index - window.first
        # The backbone's image is matched, but the reference itself is the LR frame.
        pair = Pair(anchor, window.backbone_image(place), key_frame, _frame_name(index))
        match = self._coarse(pair)
        share = confident_share(match.confidence)
        pair, match = self._waiting(window, pair, match)
        match = self._refined(pair, match, scale)
        to_lr = jnp.array([1.0 / scale[1], 1.0 / scale[0]], jnp.float32)
        choice = ReferenceChoice(_frame_name(index), share, used=True, is_self_reference=True)
        return choice, on_canvas(window.frames[place], match._replace(warp=rescale(match.warp, to_lr)))
