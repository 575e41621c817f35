"""Detects hard cuts, where one shot ends and the next begins, while frames are read.

There is a cut between two consecutive frames if they are unlike, if each is also unlike the three frames
beyond the other, and if neighbours before and after are much more alike. So flashes, fades, dissolves, fast
camera motion and changes of exposure do not count as cuts. Whether a frame begins a shot depends only on the
`BEFORE` frames before it and on `AFTER` frames, of which it is the first.
"""

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float

from ldip_jax.ops.likeness import Thumbnail, likeness, thumbnail

# Frames, such as a flash, that may interrupt a shot without a cut.
BRIDGE = 3
BEFORE = AFTER = BRIDGE + 1

# Neighbours with less likeness than _UNLIKE may belong to two shots. A bridge, a pair of frames with others
# between them, joins them to one shot if its likeness is _UNLIKE or more, or exceeds theirs by _BRIDGED.
_UNLIKE, _BRIDGED = 0.6, 0.2
# At a cut, likeness is lower than usual around it by _DROP, or by the factor _SHARE in fast motion.
_DROP, _SHARE = 0.35, 0.5
# From this likeness on, a frame is a repeat of its neighbour and does not count as usual motion.
_REPEAT = 0.99
# The last picture of a fade has less than _FALLING of the contrast two frames earlier, and the flat picture
# after it less than _FLATTER of the contrast of that last picture.
_FALLING, _FLATTER = 0.8, 0.3


class CutDetector:
    """Finds cuts in frames that come one at a time; keeps only a few thumbnails.

        detector = CutDetector()
        for frame in frames:
            cuts += detector.push(frame)
        cuts += detector.finish()

    A cut is returned `AFTER - 1` frames after the first frame of its shot, or when the clip ends.
    """

    def __init__(self) -> None:
        self._thumbnails: dict[int, Thumbnail] = {}
        self._links: dict[int, float] = {}
        self._count = 0

    def push(self, frame: Float[np.ndarray, "h w 3"]) -> list[int]:
        """Takes the next frame: RGB in [0, 1], 16x16 or more, all frames of one size.

        Returns:
            The cut that is now certain, if there is one: the index of a shot's first frame, from 0.
        """
        index = self._count
        self._count += 1
        self._thumbnails[index] = thumbnail(frame)
        if index:
            self._links[index] = self._likeness(index - 1, index)
        for held in (self._thumbnails, self._links):
            held.pop(index - BEFORE - AFTER, None)
        return self._decided(range(index - AFTER + 1, index - AFTER + 2))

    def finish(self) -> list[int]:
        """Ends the clip and returns the cuts among its last frames."""
        return self._decided(range(self._count - AFTER + 1, self._count))

    def _likeness(self, before: int, after: int) -> float:
        return likeness(self._thumbnails[before], self._thumbnails[after])

    def _decided(self, places: range) -> list[int]:
        return [place for place in places if place > 0 and self._is_cut(place)]

    def _is_cut(self, place: int) -> bool:
        link = self._links[place]
        around = [
            self._links[other]
            for other in range(place - BRIDGE, place + BRIDGE + 1)
            if other != place and self._links.get(other, 1.0) < _REPEAT
        ]
        usual = float(np.median(around)) if around else 1.0
        if link >= min(_UNLIKE, max(usual - _DROP, _SHARE * usual)):
            return False
        if self._fades(place):
            return False
        last, end = place - 1, self._count
        bridges = [(last, after) for after in range(place + 1, min(place + AFTER, end))]
        bridges += [(before, place) for before in range(max(place - BEFORE, 0), last)]
        most = min(_UNLIKE, link + _BRIDGED)
        return all(self._likeness(*bridge) < most for bridge in bridges)

    def _fades(self, place: int) -> bool:
        """Whether contrast falls in steps to a flat picture here, or rises in steps from one."""
        contrast = {index: float(image[0].std()) for index, image in self._thumbnails.items()}
        if contrast[place] < contrast[place - 1]:
            flat, steps = place, (place - 3, place - 2, place - 1)
        else:
            flat, steps = place - 1, (place + 2, place + 1, place)
        falling = [contrast[index] for index in steps if index in contrast]
        return contrast[flat] < _FLATTER * falling[-1] and falling[-1] < _FALLING * falling[0]


def find_cuts(frames: Iterable[Float[np.ndarray, "h w 3"]]) -> list[int]:
    """The first frames of all shots except the first shot: indices from 0, ascending.

    Args:
        frames: RGB in [0, 1], 16x16 or more, all of one size; read once.
    """
    detector = CutDetector()
    cuts = [cut for frame in frames for cut in detector.push(frame)]
    return cuts + detector.finish()


def watch_cuts(
    frames: Iterable[Float[np.ndarray, "h w 3"]], cuts: set[int]
) -> Iterator[Float[np.ndarray, "h w 3"]]:
    """The frames unchanged. The first frames of shots are added to `cuts`, each before that frame comes."""
    detector = CutDetector()
    waiting: deque[Float[np.ndarray, "h w 3"]] = deque()
    for frame in frames:
        cuts.update(detector.push(frame))
        waiting.append(frame)
        # A cut must be known before the window gets its last frame.
        if len(waiting) == AFTER:
            yield waiting.popleft()
    cuts.update(detector.finish())
    yield from waiting
