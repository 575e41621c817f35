"""Key-frames that motion decides on: sharp ones, and as many as carry needs.

A still would make a key-frame that motion blurs sharper than it is. Such a key-frame gives way to a sharper
frame nearby, or takes less of the detail. Frames are compared where flow finds the same places in both, so
that other content does not count as blur. Where a large stride leaves too much that no key-frame's detail can
be carried to, there are more key-frames.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.inference.keyframes import key_frames_by_shot, overlapping, shots
from ldip_jax.inference.programs import Flow, routes_outwards, sharpness, times_as_sharp
from ldip_jax.models.carry import Route

# A frame is blurred if frames before and after it, at most REACH away, are sharper by more than the factor
# EVEN. If sharpness only rises or falls, the camera comes near or moves away. A blurred key-frame gives way
# to a frame that is sharper by more than DISTANT per frame of distance. If it stays, it takes less detail:
# its share falls with SHARE_POWER.
REACH, EVEN, DISTANT, SHARE_POWER = 4, 1.03, 0.03, 5
# Key-frames further apart than FAR get another one between them, unless at least REACHED of the frame there
# can take detail from either.
FAR, REACHED = 8, 0.88
Nearby = Callable[[int, range], dict[int, float]]
"""From a frame and its shot to how many times as sharp as it the frames around it are; itself included."""


class WindowMotion(NamedTuple):
    """The frames of a window, and the flow between them.

    Attributes:
        frames: LR frames, in [0, 1].
        flow: between neighbours, by their places in the window.
        first: place of the window's first frame in the clip.
        cuts: places in the clip of the first frames of new shots.
    """

    frames: Sequence[Float[np.ndarray, "h w 3"]]
    flow: Flow
    first: int
    cuts: Collection[int] = ()

    def spans(self) -> list[range]:
        """The parts of shots in the window, as places in the clip."""
        return shots(self.first, len(self.frames), self.cuts)

    def routes(self, key: int, frames: range) -> Iterator[Route]:
        """See `routes_outwards`; `key` and `frames` are places in the clip."""
        return routes_outwards(key - self.first, (frame - self.first for frame in frames), self.flow)


def adapt_key_frames(
    window: WindowMotion,
    key_frames: Collection[int],
    bound: Collection[int],
    images: Sequence[Float[np.ndarray, "_ _ 3"]],
    stride: int,
    *,
    carried: bool,
) -> tuple[set[int], dict[int, float] | None]:
    """A window's key-frames for stills, from the regular ones; all places are those in the clip.

    Args:
        key_frames: the regular key-frames, and `bound`.
        bound: key-frames that the user chose, which do not move.
        images: stills that are not bound to a frame, RGB in [0, 1].
        stride: frames from one key-frame to the next.
        carried: detail is carried, not only propagated by HRIP.

    Returns:
        The key-frames, and how much of its detail each takes; None: all of it.
    """
    spans, nearby = window.spans(), NearbySharpness(window)
    chosen = {*bound, *sharper_key_frames(set(key_frames) - set(bound), spans, stride, nearby)}
    chosen |= key_frames_by_shot(window.frames, window.first, window.cuts, images, chosen, stride)
    if not carried:
        return chosen, None
    chosen |= key_frames_between(window, chosen)
    return chosen, detail_shares(chosen, spans, nearby)


class NearbySharpness:
    """Compares the frames of a window with those around them; places are those in the clip."""

    def __init__(self, window: WindowMotion):
        self._window = window
        self._known: dict[int, dict[int, float]] = {}

    def __call__(self, place: int, shot: range) -> dict[int, float]:
        """How many times as sharp as a frame those up to REACH frames away are, where that can be said."""
        if place not in self._known:
            before = overlapping(shot, range(place - REACH, place))[::-1]
            after = overlapping(shot, range(place + 1, place + REACH + 1))
            this = self._sharpness(place)
            self._known[place] = {
                place: 1.0,
                **self._outwards(place, this, before),
                **self._outwards(place, this, after),
            }
        return self._known[place]

    def _outwards(self, place: int, this: Float[Array, "1 h w 1"], frames: range) -> dict[int, float]:
        """The same for consecutive frames on one side, from the nearest one outwards.

        Args:
            this: the sharpness of the frame at `place`.
        """
        found = {}
        for frame, route in zip(frames, self._window.routes(place, frames), strict=True):
            ratio = float(times_as_sharp(self._sharpness(frame), this, route)[0])
            if not math.isnan(ratio):
                found[frame] = ratio
        return found

    def _sharpness(self, place: int) -> Float[Array, "1 h w 1"]:
        return sharpness(jnp.asarray(self._window.frames[place - self._window.first])[None])


def sharper_key_frames(
    key_frames: Collection[int], spans: Iterable[range], stride: int, nearby: Nearby
) -> list[int]:
    """Key-frames, blurred ones replaced with sharper frames of their shot, maybe with the next key-frame.

    Args:
        spans: the shots; every key-frame is in one of them.
        stride: frames from one key-frame to the next; the most that one moves.
    """
    chosen = set()
    for key, shot in _in_shots(key_frames, spans):
        merits = {key: 1.0}
        if blur(nearby(key, shot), key) > EVEN:
            merits |= {
                place: ratio * (1.0 - DISTANT * abs(place - key))
                for place, ratio in nearby(key, shot).items()
                if abs(place - key) <= stride
            }
        chosen.add(max(merits, key=lambda place: merits[place]))
    return sorted(chosen)


def detail_shares(key_frames: Collection[int], spans: Iterable[range], nearby: Nearby) -> dict[int, float]:
    """How much of a still's detail each key-frame can show, in (0, 1]; the more motion blurs it, the less."""
    return {
        key: min(1.0, EVEN / blur(nearby(key, shot), key)) ** SHARE_POWER
        for key, shot in _in_shots(key_frames, spans)
    }


def key_frames_between(window: WindowMotion, key_frames: Collection[int]) -> set[int]:
    """Additional key-frames, half-way between key-frames whose detail does not reach enough there."""

    def confidence(key: int, way: range) -> Array:
        return deque(window.routes(key, way), maxlen=1)[0].confidence

    def between(start: int, end: int) -> set[int]:
        middle = (start + end) // 2
        if end - start <= FAR:
            return set()
        before = confidence(start, range(start + 1, middle + 1))
        after = confidence(end, range(end - 1, middle - 1, -1))
        if float(jnp.mean(jnp.maximum(before, after))) >= REACHED:
            return set()
        return {middle} | between(start, middle) | between(middle, end)

    found: set[int] = set()
    for shot in window.spans():
        for pair in pairwise(sorted(key for key in key_frames if key in shot)):
            found |= between(*pair)
    return found


def blur(sharpness: Mapping[int, float], place: int) -> float:
    """How many times as sharp as a frame both frames before and after it are, at least 1.

    Args:
        sharpness: of the frames around it, divided by its own.
    """
    before = [ratio for other, ratio in sharpness.items() if other < place]
    after = [ratio for other, ratio in sharpness.items() if other > place]
    return max(1.0, min(max(before, default=1.0), max(after, default=1.0)))


def _in_shots(key_frames: Collection[int], spans: Iterable[range]) -> Iterator[tuple[int, range]]:
    return ((key, shot) for shot in spans for key in sorted(key_frames) if key in shot)
