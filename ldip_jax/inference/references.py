"""Finds, selects and prepares a key-frame's references: first stills, then distant frames of the clip."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.errors import InputError
from ldip_jax.inference.examination import UNLIKE, calibrated, objection
from ldip_jax.inference.keyframes import self_references
from ldip_jax.inference.shortlist import CLEAR_SHARE, FEW, Budget, Ranked, ranked
from ldip_jax.inference.stills import Part, Still, cut_part, whole_part
from ldip_jax.matching.calibration import Calibration
from ldip_jax.matching.choice import PrecomputedMatcher
from ldip_jax.matching.density import ReferenceReducer
from ldip_jax.matching.matcher import Match, Matcher, Pair, Ranker, confident_share, rescale
from ldip_jax.matching.view import find_view
from ldip_jax.models.ref_align import Reference
from ldip_jax.profiling import timed

# References are padded to a multiple of this, so that stills of almost the same size share a program.
CANVAS = 64
# A still that matches less than this fraction of a key-frame may show another view.
SAME_VIEW = 0.5
# Frames of the clip that are a key-frame's references if no still is used.
OWN_FRAMES = 5
TOO_LITTLE = "matches too little"
# Why a still is not even matched.
NOT_ALIKE, LESS_ALIKE = "does not look like this frame", "enough others look more like this frame"


@dataclass(frozen=True)
class Choice:
    """What was decided on one candidate of a key-frame.

    Attributes:
        name: the still's name, or "frame N" of the clip.
        share: fraction of the key-frame's pixels with confidence above 0.5; 0 if the images have nothing in
            common there.
        used: whether it was given to Ref-Fusion.
        own: whether it is a frame of the clip, because a still may also be called "frame N".
        calibration: how its values were calibrated; None: it is used as it is.
        reason: why it is not used, or "".
    """

    name: str
    share: float
    used: bool
    own: bool = False
    calibration: Calibration | None = None
    reason: str = ""

    @property
    def note(self) -> str:
        """What to report besides the share: why it is not used, else how it was calibrated; or ""."""
        if not self.used:
            return f"not used: {self.reason}"
        return f"calibrated: {self.calibration}" if self.calibration is not None else ""


def read_choice(values: Mapping[str, Any]) -> Choice:
    """The choice that `dataclasses.asdict` made a dictionary of, which may have been JSON since."""
    calibration = values.get("calibration")
    if calibration is not None:
        calibration = Calibration(tuple(calibration["gain"]), calibration["gamma"])
    return Choice(**{**values, "calibration": calibration})


@dataclass(frozen=True)
class Rules:
    """Which references a key-frame gets.

    Attributes:
        self_refs: places for references at each key-frame, or as many as there are stills if these are more;
            places without a used still are filled with the clip's own frames. 0: only stills. None:
            `OWN_FRAMES` own frames if no still is used, otherwise only stills.
        exclude: frames up to this far from the key-frame are not references for it.
        threshold: a still is used if at least this fraction of the key-frame's pixels matches with
            confidence above 0.5. 0: every still is used.
        as_given: stills are not calibrated, and not rejected for what they show.
    """

    self_refs: int | None = None
    exclude: int = 5
    threshold: float = 0.05
    as_given: bool = False

    def free(self, stills: int, used: int) -> int:
        """A key-frame's places for the clip's own frames if `used` of its `stills` are used."""
        if self.self_refs is None:
            return 0 if used else OWN_FRAMES
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
class Clip:
    """The window that is being processed, as far as the selection of references needs it.

    Attributes:
        first: place of the window's first frame in the clip.
        frames: LR frames of the window, `1 h w 3` each.
        image: from a frame's place in the window to the backbone's image of it, in [0, 1].
        hold: puts an array where it can wait; see `Holder.hold`.
    """

    first: int
    frames: Sequence[Array]
    image: Callable[[int], Float[Array, "1 H W 3"]]
    hold: Callable[[Any], Any] = lambda values: values


Candidate = tuple[Choice, Reference | None]
"""What was decided on one candidate, and the reference if it is used."""
Found = tuple[list[Reference], list[Choice]]
"""The references used at a key-frame, and what was decided on all candidates."""


def _own_name(index: int) -> str:
    return f"frame {index}"


def on_canvas(image: Float[Array, "1 h w 3"], match: Match) -> Reference:
    """A matched image as a `Reference` for LRRF, padded to a multiple of `CANVAS`."""
    h, w = image.shape[1:3]
    pads = ((0, 0), (0, -h % CANVAS), (0, -w % CANVAS), (0, 0))
    size = jnp.array([[h, w]], jnp.int32)
    return Reference(jnp.pad(image, pads), size, match.warp, match.confidence, jnp.ones((1,), jnp.float32))


def _waiting(clip: Clip, reference: Reference) -> Reference:
    """A reference, its large arrays put where they can wait."""
    image, warp, confidence = map(clip.hold, (reference.image, reference.warp, reference.confidence))
    return reference._replace(image=image, warp=warp, confidence=confidence)


class ReferenceFinder:
    """Matches candidates with key-frames and prepares those that are used.

    If `remember` is set, matches are kept for another run over the same clip, with the same backbone and more
    or fewer stills. Each takes 12 bytes per HR pixel, in addition to the reference itself.
    """

    def __init__(self, matcher: Matcher, rules: Rules, *, remember: bool = False):
        self.rules = rules
        self._matcher = matcher
        self._coarse = timed("matching", "coarse", matcher.coarse)
        self._refine = timed("matching", "refine", matcher.refine)
        self._reduce = timed("matching", "reduce", ReferenceReducer())
        # By key-frame, and the still's name or the frame's place.
        self._memory: dict[tuple[int, str | int], Candidate] | None = {} if remember else None

    @property
    def precomputed(self) -> bool:
        """Whether matches come from a folder, which has them only for the regular key-frames."""
        return isinstance(self._matcher, PrecomputedMatcher)

    def check(self, key: int, stills: Iterable[Still]) -> None:
        """Check, before any work, that a folder of matches has the files that this key-frame needs.

        Raises:
            InputError: a file is missing.
        """
        if isinstance(self._matcher, PrecomputedMatcher):
            for still in stills:
                self._matcher.path(key, still.name)

    def of_stills(
        self,
        clip: Clip,
        place: int,
        stills: list[Still],
        scale: tuple[float, float],
        advance: Callable[[str], None],
    ) -> Found:
        """The stills used at one key-frame, best first, and what was decided on all of them.

        Args:
            place: the key-frame's place in the window.
            stills: the stills that the key-frame is offered.
            scale: (H, W) divided by the size of the LR frames.
            advance: called with "match" after each still.
        """
        key = clip.first + place
        anchor = clip.image(place)
        found: list[Candidate] = []
        budget = Budget()
        for still, likely in self._order(anchor, stills):
            if likely is None or budget.allows(likely):
                least = max(self.rules.threshold, CLEAR_SHARE) if likely is False else self.rules.threshold

                def match(still: Still = still, least: float = least) -> Candidate:
                    return self._still(anchor, key, still, scale, least)

                choice, reference = self._remembered(key, still.name, match)
                found.append((choice, None if reference is None else _waiting(clip, reference)))
                if likely is not None:
                    budget.add(likely, choice.used)
            else:
                reason = LESS_ALIKE if likely else NOT_ALIKE
                found.append((Choice(still.name, 0.0, used=False, reason=reason), None))
            advance("match")
        found.sort(key=lambda pair: -pair[0].share)
        references = [reference for _, reference in found if reference is not None]
        return references, [choice for choice, _ in found]

    def find(
        self,
        clip: Clip,
        place: int,
        of_stills: Found,
        scale: tuple[float, float],
        advance: Callable[[str], None],
    ) -> Found:
        """The references of one key-frame: its stills, and the clip's own frames in the places left free.

        Args:
            place: the key-frame's place in the window.
            of_stills: what the method `of_stills` returned for it.
            scale: (H, W) divided by the size of the LR frames.
            advance: called with "match" after each frame of the clip.
        """
        key = clip.first + place
        anchor = clip.image(place)
        references, choices = list(of_stills[0]), list(of_stills[1])
        matched = sum(choice.reason not in (NOT_ALIKE, LESS_ALIKE) for choice in choices)
        free = self.rules.free(matched, len(references))
        for index in self_references(key, clip.first, len(clip.frames), self.rules.exclude, free):
            choice, reference = self._remembered(
                key, index, lambda index=index: self._own_frame(clip, anchor, key, index, scale)
            )
            assert reference is not None, "the clip's own frames are always used"
            references.append(_waiting(clip, reference))
            choices.append(choice)
            advance("match")
        return references, choices

    def _order(self, anchor: Array, stills: list[Still]) -> list[Ranked]:
        """The stills in the order in which they are matched; with few of them, all are."""
        free = [still for still in stills if still.moment is None]
        every = self.rules.as_given or self.rules.threshold == 0.0 or len(free) <= FEW
        if every or not isinstance(self._matcher, Ranker):
            return [Ranked(still, None) for still in stills]
        # Stills with a moment were assigned to this key-frame by the user.
        bound = [Ranked(still, None) for still in stills if still.moment is not None]
        return bound + timed("matching", "rank", ranked)(self._matcher, anchor, free)

    def _remembered(self, key: int, what: str | int, match: Callable[[], Candidate]) -> Candidate:
        if self._memory is None:
            return match()
        if (key, what) not in self._memory:
            self._memory[key, what] = match()
        return self._memory[key, what]

    def _still(
        self, anchor: Array, key: int, still: Still, scale: tuple[float, float], least: float
    ) -> Candidate:
        """Match a still; it is used if it matches at least the share `least` of the key-frame."""
        pair = Pair(anchor, still.image[None], key, still.name)
        part = whole_part(still)
        match = part.limit(self._coarse(pair), pair)
        share = confident_share(match.confidence)
        if share < SAME_VIEW and not isinstance(self._matcher, PrecomputedMatcher):
            other = self._another_view(pair, still)
            if other is not None and (found := confident_share(other[1].confidence)) > share:
                (pair, match, part), share = other, found
        if share < least:
            return Choice(still.name, share, used=False, reason=TOO_LITTLE), None
        pair, match = self._reduce(pair, match)
        calibration = None
        if not self.rules.as_given:
            pair, calibration = timed("matching", "calibrate", calibrated)(pair, match, scale)
        match = part.limit(self._refine(pair, match, scale), pair)
        # A threshold of 0 rejects nothing.
        reason = ""
        if self.rules.threshold > 0.0 and not self.rules.as_given:
            reason = timed("matching", "examine", objection)(pair, match, scale)
        share = 0.0 if reason == UNLIKE else share
        choice = Choice(still.name, share, not reason, calibration=calibration, reason=reason)
        return choice, None if reason else on_canvas(jnp.asarray(pair.reference), match)

    def _another_view(self, pair: Pair, still: Still) -> tuple[Pair, Match, Part] | None:
        """The still cropped to the view that the key-frame shows of it, and its match; None: not found."""
        view = timed("matching", "view", find_view)(np.asarray(pair.anchor)[0], still.image)
        if view is None:
            return None
        image, part = cut_part(still, view, pair.size)
        name = f"{pair.name} at {view.top} {view.left} {view.height} {view.width}"
        pair = replace(pair, reference=image[None], name=name)
        return pair, part.limit(self._coarse(pair), pair), part

    def _own_frame(
        self, clip: Clip, anchor: Array, key: int, index: int, scale: tuple[float, float]
    ) -> Candidate:
        place = index - clip.first
        # The backbone's image is matched, but the reference itself is the LR frame.
        pair = Pair(anchor, clip.image(place), key, _own_name(index))
        match = self._coarse(pair)
        share = confident_share(match.confidence)
        match = self._refine(pair, match, scale)
        to_lr = jnp.array([1.0 / scale[1], 1.0 / scale[0]], jnp.float32)
        choice = Choice(_own_name(index), share, used=True, own=True)
        return choice, on_canvas(clip.frames[place], match._replace(warp=rescale(match.warp, to_lr)))
