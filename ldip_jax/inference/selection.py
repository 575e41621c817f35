"""The references of a window's key-frames, found on demand."""

from collections.abc import Callable, Collection

from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.references import FoundReferences, ReferenceChoice, ReferenceFinder, WindowFrames
from ldip_jax.inference.streaming import Advance
from ldip_jax.models.ref_align import Reference

Notify = Callable[[int, list[Reference], list[ReferenceChoice]], None]
"""Called with a key-frame's place in the window, its references, and what was decided on all candidates."""


class WindowReferences:
    """Uses a `ReferenceFinder` once for each key-frame of a window."""

    def __init__(
        self,
        finder: ReferenceFinder,
        window: WindowFrames,
        stills_at: Callable[[int], list[Still]],
        scale: tuple[float, float],
        advance: Advance,
        notify: Notify,
        *,
        stills_only: bool,
    ):
        """
        Args:
            window: the window.
            stills_at: from a key-frame's place in the window to the stills that it is offered.
            scale: (H, W) divided by the size of the LR frames.
            notify: called once for every key-frame whose references are decided.
            stills_only: frames of the clip are never references, even if no still matches.
        """
        self._finder, self._clip, self._stills, self._scale = finder, window, stills_at, scale
        self._advance, self._notify, self._stills_only = advance, notify, stills_only
        self._matched_stills: dict[int, FoundReferences] = {}
        self._damage: dict[int, float] = {}

    def at(self, place: int) -> list[Reference]:
        """A key-frame's references, best still first; call it once for each key-frame."""
        found, choices = self._match_stills(place)
        del self._matched_stills[place]
        if not self._stills_only:
            found, choices = self._finder.add_self_references(
                self._clip, place, (found, choices), self._scale, self._advance
            )
        # The still most like the key-frame shows its damage best; frames of the clip are as damaged.
        stills = (choice for choice in choices if choice.used and not choice.is_self_reference)
        self._damage[place] = min((choice.damage for choice in stills), default=0.0)
        self._notify(place, found, choices)
        return found

    def damage(self, place: int) -> float:
        """How damaged a key-frame is, in [0, 1]; known once its references are."""
        return self._damage[place]

    def uses_any_still(self, places: Collection[int], wanted: range) -> bool:
        """Whether a still is used at one of these key-frames; if not, `notify` is called for all of them.

        Args:
            places: the key-frames.
            wanted: the frames that will be made, as places in the window.
        """

        def distance(place: int) -> int:
            return max(wanted.start - place, place - wanted[-1], 0)

        # What matches first is likely to be needed. HRIP's backward pass asks for the last one first, so in
        # this order matches are not held for long.
        for place in sorted(places, key=lambda place: (distance(place), -place)):
            if self._match_stills(place)[0]:
                return True
        for place in places:
            self._notify(place, *self._matched_stills.pop(place))
        return False

    def _match_stills(self, place: int) -> FoundReferences:
        if place not in self._matched_stills:
            self._matched_stills[place] = self._finder.match_stills(
                self._clip, place, self._stills(place), self._scale, self._advance
            )
        return self._matched_stills[place]
