"""Finding, choosing and preparing a key-frame's references: the user's stills first, then the clip."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.errors import InputError
from ldip_jax.inference.keyframes import self_references
from ldip_jax.matching.confidence import confident_share
from ldip_jax.matching.coordinates import rescale
from ldip_jax.matching.density import ReferenceReducer
from ldip_jax.matching.matcher import Match, Matcher, Pair
from ldip_jax.matching.precomputed import PrecomputedMatcher
from ldip_jax.matching.view import Reframed, find_view, reframed
from ldip_jax.models.ref_align import Reference

# References are padded to a multiple of this, so that stills of almost one size share a program.
CANVAS = 64
# A still of which less than this share of a key-frame is matched may show another view.
SAME_VIEW = 0.5


@dataclass(frozen=True)
class Still:
    """A reference image that the user supplies: RGB in [0, 1], any size, and its name."""

    name: str
    image: Float[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Choice:
    """What became of one candidate of a key-frame.

    Attributes:
        name: the still's name, or "frame N" of the clip.
        share: part of the key-frame's pixels with confidence above 0.5.
        used: whether it was given to Ref-Fusion.
        own: whether it is a frame of the clip; a still may be called "frame N" too.
    """

    name: str
    share: float
    used: bool
    own: bool = False


@dataclass(frozen=True)
class Rules:
    """Which references a key-frame gets.

    Attributes:
        self_refs: slots for references per key-frame, more if there are more stills; those that stills leave
            free are filled from the clip. 0: stills alone.
        exclude: frames this near to the key-frame are no references for it.
        threshold: a still takes part where at least this share of the pixels is confident.
    """

    self_refs: int = 5
    exclude: int = 5
    threshold: float = 0.05

    def free(self, stills: int, used: int) -> int:
        """Slots of a key-frame left for the clip's own frames when `used` of the `stills` take part."""
        return max(self.self_refs, stills) - used if self.self_refs else 0

    def check(self) -> None:
        """
        Raises:
            InputError: a number out of its range.
        """
        if self.self_refs < 0 or self.exclude < 0:
            raise InputError("self references and excluded frames are counted from 0 up")
        if not 0.0 <= self.threshold <= 1.0:
            raise InputError(f"reference threshold {self.threshold:g}: it is a share, between 0 and 1")


@dataclass(frozen=True)
class Clip:
    """What a selection sees of the window that is being processed.

    Attributes:
        first: place in the clip of the window's first frame.
        frames: LR frames of the window, `1 h w 3`.
        image: the backbone's own output of a frame of the window, in [0, 1].
    """

    first: int
    frames: list[Array]
    image: Callable[[int], Float[Array, "1 H W 3"]]


Found = tuple[list[Reference], list[Choice]]
"""References that take part in a key-frame, and what was decided on all candidates."""


def _own_name(index: int) -> str:
    return f"frame {index}"


def on_canvas(image: Float[Array, "1 h w 3"], match: Match) -> Reference:
    """A matched image as LRRF takes it."""
    h, w = image.shape[1:3]
    pads = ((0, 0), (0, -h % CANVAS), (0, -w % CANVAS), (0, 0))
    size = jnp.array([[h, w]], jnp.int32)
    return Reference(jnp.pad(image, pads), size, match.warp, match.confidence, jnp.ones((1,), jnp.float32))


def _within(match: Match, shown: Reframed, size: Float[Array, "2"]) -> Match:
    """No confidence where a reframed still shows nothing; `size`: (width, height) that the warp is about."""
    h, w = shown.image.shape[:2]
    places = rescale(match.warp, jnp.array([w, h], jnp.float32) / size)
    return match._replace(confidence=match.confidence * shown.holds(places))


class ReferenceFinder:
    """Matches candidates against key-frames and prepares those that are worth it.

    Matches are kept if `remember` is set: another run over the same clip, with the same backbone and more or
    fewer stills, finds them again. They take 12 bytes per HR pixel each, beside the references themselves.
    """

    def __init__(self, matcher: Matcher, rules: Rules, *, remember: bool = False):
        self.rules = rules
        self._matcher = matcher
        self._reduce = ReferenceReducer()
        # By key-frame, and the still's name or the frame's place.
        self._memory: dict[tuple[int, str | int], tuple[float, Reference]] | None = {} if remember else None

    def check(self, key: int, stills: Iterable[Still]) -> None:
        """Before any work: whether a folder of matches has what this key-frame needs.

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
        """The stills that take part in one key-frame, best first, and what was decided on all of them.

        Args:
            place: the key-frame's place in the window.
            stills: the user's references.
            scale: (H, W) over the size of the LR frames.
        """
        key = clip.first + place
        anchor = clip.image(place)
        references: dict[str, Reference] = {}
        choices = []
        for still in stills:
            share, reference = self._remembered(
                key, still.name, lambda still=still: self._still(anchor, key, still, scale)
            )
            choices.append(Choice(still.name, share, share >= self.rules.threshold))
            if choices[-1].used:
                references[still.name] = reference
            advance("match")
        choices.sort(key=lambda choice: -choice.share)
        return [references[choice.name] for choice in choices if choice.used], choices

    def find(
        self,
        clip: Clip,
        place: int,
        of_stills: Found,
        scale: tuple[float, float],
        advance: Callable[[str], None],
    ) -> Found:
        """The references of one key-frame, the slots that stills leave free filled from the clip.

        Args:
            place: the key-frame's place in the window.
            of_stills: what the method of that name found for it.
            scale: (H, W) over the size of the LR frames.
        """
        key = clip.first + place
        anchor = clip.image(place)
        references, choices = list(of_stills[0]), list(of_stills[1])
        free = self.rules.free(len(choices), len(references))
        for index in self_references(key, clip.first, len(clip.frames), self.rules.exclude, free):
            share, reference = self._remembered(
                key, index, lambda index=index: self._own_frame(clip, anchor, key, index, scale)
            )
            references.append(reference)
            choices.append(Choice(_own_name(index), share, used=True, own=True))
            advance("match")
        return references, choices

    def _remembered(
        self, key: int, what: str | int, match: Callable[[], tuple[float, Reference]]
    ) -> tuple[float, Reference]:
        if self._memory is None:
            return match()
        if (key, what) not in self._memory:
            self._memory[key, what] = match()
        return self._memory[key, what]

    def _still(
        self, anchor: Array, key: int, still: Still, scale: tuple[float, float]
    ) -> tuple[float, Reference]:
        pair = Pair(anchor, still.image[None], key, still.name)
        match = self._matcher.coarse(pair)
        share, shown = confident_share(match.confidence), None
        if share < SAME_VIEW and not isinstance(self._matcher, PrecomputedMatcher):
            other = self._another_view(pair)
            if other is not None and (found := confident_share(other[1].confidence)) > share:
                (pair, match, shown), share = other, found
        pair, match = self._reduce(pair, match)
        match = self._matcher.refine(pair, match, scale)
        if shown is not None:
            match = _within(match, shown, pair.reference_size)
        return share, on_canvas(jnp.asarray(pair.reference), match)

    def _another_view(self, pair: Pair) -> tuple[Pair, Match, Reframed] | None:
        """The still cut to what the key-frame shows, where that is another view, and its match."""
        frame, still = np.asarray(pair.anchor)[0], np.asarray(pair.reference)[0]
        view = find_view(frame, still)
        if view is None:
            return None
        shown = reframed(still, view, pair.size)
        name = f"{pair.name} at {view.top} {view.left} {view.height} {view.width}"
        pair = replace(pair, reference=shown.image[None], name=name)
        return pair, _within(self._matcher.coarse(pair), shown, pair.reference_size), shown

    def _own_frame(
        self, clip: Clip, anchor: Array, key: int, index: int, scale: tuple[float, float]
    ) -> tuple[float, Reference]:
        place = index - clip.first
        # The backbone's output stands in while matching; the reference itself is the LR frame.
        pair = Pair(anchor, clip.image(place), key, _own_name(index))
        match = self._matcher.coarse(pair)
        share = confident_share(match.confidence)
        match = self._matcher.refine(pair, match, scale)
        to_lr = jnp.array([1.0 / scale[1], 1.0 / scale[0]], jnp.float32)
        return share, on_canvas(clip.frames[place], match._replace(warp=rescale(match.warp, to_lr)))
