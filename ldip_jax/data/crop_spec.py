"""What is cut from records for training: sizes of crops, and numbers of key-frames and references.

Arrays have a slot for each key-frame and reference, and the compiler makes a program for each number of
slots. Therefore a batch draws whether its numbers are small or large, and its samples draw theirs from that
range. So there are two programs, the same in all processes, and the smaller one costs less.
"""

import math
from dataclasses import dataclass
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


@dataclass(frozen=True)
class CropSpec:
    """How crops are drawn, and what is done to references.

    Attributes:
        target_frames: number of frames of a sample.
        hr_side: side of the GT crop, HR pixels; 0: the largest multiple of 32 that `lr_side` covers.
        lr_side: side of the LR crop, LR pixels; 0: `hr_side` divided by the scale if that is a whole number,
            else the next higher power of two or 1.5 times one: there are few sizes, whatever the scale.
        reference_side: side of the part of a reference that is kept, and of its canvas, HR pixels.
        window_jitter: how far the window may be shifted from the middle of what matches, HR pixels.
        max_key_frames, max_references: the most key-frames of a sample, and the most references of a
            key-frame; from 1 to that many are drawn.
        min_references: the fewest references of a key-frame, if it has that many.
        self_references: share of samples with all references at LR size, as at inference without reference
            images; in all other samples, the share of references at LR size.
        sharp_references: share of references that are used as they are, as reference images are at
            inference; the rest is degraded as in the paper.
        distractors: share of references made useless: from another clip, shifted by half their size, black,
            or blurred.
        routes: whether detail is carried, so that samples need routes.
    """

    target_frames: int = 12
    hr_side: int = 256
    lr_side: int = 0
    reference_side: int = 256
    window_jitter: int = 64
    max_key_frames: int = 3
    max_references: int = 5
    min_references: int = 1
    self_references: float = 0.0
    sharp_references: float = 0.0
    distractors: float = 0.0
    routes: bool = False

    def sides(self, scale: float) -> tuple[int, int]:
        """(HR, LR) sides of a crop at a scale, in pixels."""
        if self.hr_side:
            covered = self.hr_side / scale
            return self.hr_side, int(covered) if covered.is_integer() else _rounded_up(covered)
        return int(self.lr_side * scale) // 32 * 32, self.lr_side

    def draw_counts(self, rng: np.random.Generator, *, large: bool = False) -> BatchCounts:
        """Draw the numbers of key-frames and references of a batch."""
        if not self.max_references:
            return NO_COUNTS
        span = (self.min_references, self.max_references)
        return draw_counts(rng, (1, self.max_key_frames), span, large=large)


def _rounded_up(n: float) -> int:
    """The lowest power of two, or 1.5 times one, that is not lower."""
    power = 2 ** math.ceil(math.log2(n))
    return power * 3 // 4 if power * 3 // 4 >= n else power
