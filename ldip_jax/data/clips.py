"""One training clip: frames, their LR versions, key-frames and the frames that serve them as references."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8


class ClipSample(NamedTuple):
    """Whole frames, before anything frozen has run and before cropping (paper, section 8.1).

    Attributes:
        name: the clip and the place in it, for messages.
        hr: C_ref, whole frames, augmented alike.
        lr: the same frames degraded.
        first: place of C_gt in C_ref.
        count: frames of C_gt.
        scale: (rows, columns) HR over LR.
        keys: key-frames, places in C_gt.
        candidates: for each key-frame its references, places in C_ref; -1: an empty slot.
        warps, confidence: exact correspondences of each key-frame and candidate where they are known:
            places (x, y) in pixels of the candidate, and 1 where the content is really seen there.
    """

    name: str
    hr: UInt8[np.ndarray, "T H W 3"]
    lr: UInt8[np.ndarray, "T h w 3"]
    first: int
    count: int
    scale: tuple[float, float]
    keys: Int[np.ndarray, "k"]
    candidates: Int[np.ndarray, "k n"]
    warps: Float[np.ndarray, "k n H W 2"] | None = None
    confidence: Float[np.ndarray, "k n H W 1"] | None = None
