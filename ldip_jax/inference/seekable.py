"""Frames of an upscaled clip in any order, for hosts that ask for frames by number."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from threading import Lock

import numpy as np
from jaxtyping import Float

from ldip_jax.errors import InputError
from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.upscaler import Segment, Upscaler


class SeekableFrames:
    """Upscaled frames by number. Every frame is the same in whatever order frames are taken.

    The clip is processed in windows. The first frame taken from a window costs the backbone's pass over the
    whole window, and the frames that follow in order cost little. The last frames made are kept. After a jump
    to any other frame, the clip is read again from its beginning, because cuts are found while frames are
    read, but only the window that holds the frame is computed, from its first frame on, and
    the backbone's features of the window before it.

    Objects may be shared between threads, which then take turns.

    Attributes:
        size: (height, width) of the upscaled frames.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        read: Callable[[int], Float[np.ndarray, "h w 3"]],
        count: int,
        stills: list[Still],
        kept: int = 64,
    ):
        """
        Args:
            upscaler: used for nothing else meanwhile.
            read: gives an LR frame, RGB in [0, 1], by its number.
            count: frames of the clip.
            stills: reference images.
            kept: upscaled frames that are kept in memory, at least 2.
        """
        self._upscaler, self._read, self._count, self._stills = upscaler, read, count, stills
        self._capacity = max(kept, 2)
        self.size = upscaler.out_size
        self._cache: OrderedDict[int, Float[np.ndarray, "H W 3"]] = OrderedDict()
        self._lock = Lock()
        self._begin()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Float[np.ndarray, "H W 3"]:
        """An upscaled frame, float32 RGB in [0, 1]; not to be changed.

        Raises:
            IndexError: the clip has no such frame.
            InputError: a frame or a match cannot be used.
        """
        if not 0 <= number < self._count:
            raise IndexError(f"frame {number}: the clip has frames 0 to {self._count - 1}")
        with self._lock:
            if number not in self._cache:
                try:
                    self._make(number)
                except BaseException:
                    # What was interrupted cannot be continued.
                    self._begin()
                    raise
            return self._cache[number]

    def _begin(self) -> None:
        self._segments: Iterator[Segment] = self._upscaler.segments(
            map(self._read, range(self._count)), self._stills
        )
        self._segment, self._next = Segment(range(0), iter(())), 0

    def _make(self, number: int) -> None:
        """Make the frames up to `number`, as far as they lie in its window."""
        left = self._segment.places.stop - self._next
        # Hosts with several threads ask for the first frames of a window before the last of the one before.
        if number >= self._segment.places.stop and left <= self._capacity // 2:
            self._take(left)
        if number < self._next or (
            number >= self._segment.places.stop and self._next < self._segment.places.stop
        ):
            self._begin()
        while number >= self._segment.places.stop:
            segment = next(self._segments, None)
            if segment is None:
                raise InputError(f"frame {number}: the clip ended before it; give its true number of frames")
            self._segment, self._next = segment, segment.places.start
        self._take(number + 1 - self._next)

    def _take(self, count: int) -> None:
        for _ in range(count):
            self._cache[self._next] = next(self._segment.images)
            self._next += 1
            if len(self._cache) > self._capacity:
                self._cache.popitem(last=False)
        if self._next == self._segment.places.stop:
            # All images of a segment are taken only when its iterator has ended.
            next(self._segment.images, None)
