"""Key-frames that motion blurs: a still would make them sharper than they are.

They give way to sharper frames nearby, or take less of the detail. Frames are compared where flow finds the
same places in both, so that other content does not count as blur.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jaxtyping import Array

from ldip_jax.inference.keyframes import overlapping
from ldip_jax.inference.programs import extend_route, times_as_sharp
from ldip_jax.models.carry import identity_route

# A frame is blurred if frames before and after it, at most REACH away, are sharper by more than the factor
# EVEN. If sharpness only rises or falls, the camera comes near or moves away. A blurred key-frame gives way
# to a frame that is sharper by more than DISTANT per frame of distance. If it stays, it takes less detail:
# its share falls with SHARE_POWER.
REACH, EVEN, DISTANT, SHARE_POWER = 4, 1.03, 0.03, 5
Nearby = Callable[[int, range], dict[int, float]]
"""From a frame and its shot to how many times as sharp as it the frames around it are; itself included."""


class NearbySharpness:
    """Compares the frames of a window with those around them; places are those in the clip."""

    def __init__(self, frames: Sequence[Any], flow: Callable[[int, int], Array], first: int):
        """
        Args:
            frames: LR frames, each `1 h w 3`.
            flow: from two neighbours' places in the window to the LR flow from one to the other.
            first: place of the window's first frame in the clip.
        """
        self._frames, self._flow, self._first = frames, flow, first
        self._known: dict[int, dict[int, float]] = {}

    def __call__(self, place: int, shot: range) -> dict[int, float]:
        """How many times as sharp as a frame those up to REACH frames away are, where that can be said."""
        if place not in self._known:
            before = overlapping(shot, range(place - REACH, place))[::-1]
            after = overlapping(shot, range(place + 1, place + REACH + 1))
            self._known[place] = {place: 1.0} | self._outwards(place, before) | self._outwards(place, after)
        return self._known[place]

    def _outwards(self, place: int, frames: range) -> dict[int, float]:
        """The same for consecutive frames on one side, from the nearest one outwards."""
        found = {}
        key, last, route = place - self._first, place - self._first, None
        for frame in frames:
            here = frame - self._first
            towards, back = self._flow(here, last), self._flow(last, here)
            route = extend_route(route or identity_route(*towards.shape[1:3]), towards, back)
            ratio = float(times_as_sharp(self._frames[here], self._frames[key], route)[0])
            if not math.isnan(ratio):
                found[frame] = ratio
            last = here
        return found


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
