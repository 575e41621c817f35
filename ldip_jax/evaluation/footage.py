"""Ground truth of one clip, read in order as it is needed, and the LR frames that are made from it."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import UInt8

from ldip_jax.data.degradation import DEGRADATIONS
from ldip_jax.media.clip import Clip
from ldip_jax.media.color import quantise

Bytes = UInt8[np.ndarray, "h w 3"]


class Footage:
    """A clip's frames in 8 bits, the rows and columns beyond `hr` cut off.

    Attributes:
        hr, lr: (height, width) of ground truth and LR frames.
    """

    def __init__(self, clip: Clip, hr: tuple[int, int], lr: tuple[int, int], degradation: str):
        self._clip, self.hr, self.lr = clip, hr, lr
        self._degrade = DEGRADATIONS[degradation]

    @cached_property
    def count(self) -> int:
        """Number of frames; where the file does not tell, it is decoded once."""
        return self._clip.count if self._clip.count is not None else sum(1 for _ in self._clip)

    def truth(self, places: Iterable[int]) -> Iterator[Bytes]:
        """Frames by number, in ascending order; read up to the last of them and no further.

        Raises:
            InputError: a frame is damaged or missing.
        """
        wanted = sorted(set(places))
        if not wanted:
            return
        chosen = iter(wanted)
        place = next(chosen)
        for index, frame in enumerate(self._clip):
            if index == place:
                yield quantise(frame, 8)[: self.hr[0], : self.hr[1]]
                if (place := next(chosen, -1)) < 0:
                    return

    def ordered(self, places: Sequence[int]) -> Iterator[Bytes]:
        """Frames by number in the order of `places`."""
        return _ordered(places, self.truth(places))

    def low(self, places: Sequence[int]) -> Iterator[Bytes]:
        """LR frames by number in the order of `places`."""
        return _ordered(places, (self._degrade(frame, self.lr) for frame in self.truth(places)))


def _ordered(places: Sequence[int], frames: Iterator[Bytes]) -> Iterator[Bytes]:
    """Frames that come in ascending order, put into another one; all are held where it is another one."""
    ascending = sorted(set(places))
    if list(places) == ascending:
        yield from frames
        return
    held = dict(zip(ascending, frames, strict=True))
    for place in places:
        yield held[place]
