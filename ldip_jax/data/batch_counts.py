"""How many key-frames and references the samples of a global batch have: drawn from one of two ranges.

Arrays have a slot for each, and the compiler makes a program for each number of slots. Therefore a batch
draws whether its numbers are small or large, and its samples draw theirs from that range. So there are two
programs, the same in all processes, and the smaller one costs less.
"""

from typing import NamedTuple

import numpy as np

Range = tuple[int, int]


class BatchCounts(NamedTuple):
    """What a batch has drawn.

    Attributes:
        key_frames, references: the fewest and the most key-frames of a sample, and references of a key-frame.
        slots: slots for key-frames, and for references of each; they are of one of two sizes.
    """

    key_frames: Range
    references: Range
    slots: tuple[int, int]


NO_COUNTS = BatchCounts((0, 0), (0, 0), (0, 0))


def draw_counts(
    rng: np.random.Generator, key_frames: Range, references: Range, *, large: bool = False
) -> BatchCounts:
    """Draw for a batch; over many batches, every number is as frequent as if drawn uniformly by each sample.

    Numbers of key-frames and of references are not independent of each other: either both are from the lower
    halves of their ranges, or the batch is large.

    Args:
        key_frames, references: the lowest and highest number that a sample may have.
        large: draw a large batch.
    """
    halves = [(_lower_half(span), _share(span)) for span in (key_frames, references)]
    small = min(share for _, share in halves)
    is_small = rng.random() < small and not large
    found = []
    for span, (lower, share) in zip((key_frames, references), halves, strict=True):
        # In large batches, what is missing of the range's lower half.
        rest = (share - small) / (1.0 - small) if small < 1.0 else 1.0
        found.append(lower if is_small or rng.random() < rest else (lower[1] + 1, span[1]))
    slots = tuple(
        lower[1] if is_small else span[1]
        for span, (lower, _) in zip((key_frames, references), halves, strict=True)
    )
    return BatchCounts(found[0], found[1], (slots[0], slots[1]))


def _lower_half(span: Range) -> Range:
    return span[0], (span[0] + span[1]) // 2


def _share(span: Range) -> float:
    low, high = _lower_half(span)
    return (high - low + 1) / (span[1] - span[0] + 1)
