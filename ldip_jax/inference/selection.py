"""The references of a window's key-frames, found on demand."""

from collections.abc import Callable, Collection

from ldip_jax.inference.references import Choice, Clip, Found, ReferenceFinder
from ldip_jax.inference.stills import Still
from ldip_jax.inference.streaming import Advance
from ldip_jax.models.ref_align import Reference

Notify = Callable[[int, list[Reference], list[Choice]], None]
"""Called with a key-frame's place in the window, its references, and what was decided on all candidates."""


class WindowReferences:
    """Uses a `ReferenceFinder` once for each key-frame of a window."""

    def __init__(
        self,
        finder: ReferenceFinder,
        clip: Clip,
        stills: Callable[[int], list[Still]],
        scale: tuple[float, float],
        advance: Advance,
        notify: Notify,
        *,
        stills_only: bool,
    ):
        """
        Args:
            clip: the window.
            stills: from a key-frame's place in the window to the stills that it is offered.
            scale: (H, W) divided by the size of the LR frames.
            notify: called once for every key-frame whose references are decided.
            stills_only: frames of the clip are never references, even if no still matches.
        """
        self._finder, self._clip, self._stills, self._scale = finder, clip, stills, scale
        self._advance, self._notify, self._stills_only = advance, notify, stills_only
        self._of_stills: dict[int, Found] = {}

    def at(self, place: int) -> list[Reference]:
        """A key-frame's references, best still first; call it once for each key-frame."""
        found, choices = self._matched(place)
        del self._of_stills[place]
        if not self._stills_only:
            found, choices = self._finder.find(
                self._clip, place, (found, choices), self._scale, self._advance
            )
        self._notify(place, found, choices)
        return found

    def any_still(self, places: Collection[int]) -> bool:
        """Whether a still is used at one of these key-frames; if not, `notify` is called for all of them."""
        # HRIP's backward pass asks for the last one first, so in this order matches are not held for long.
        for place in sorted(places, reverse=True):
            if self._matched(place)[0]:
                return True
        for place in places:
            self._notify(place, *self._of_stills.pop(place))
        return False

    def _matched(self, place: int) -> Found:
        if place not in self._of_stills:
            self._of_stills[place] = self._finder.of_stills(
                self._clip, place, self._stills(place), self._scale, self._advance
            )
        return self._of_stills[place]
