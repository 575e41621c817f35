"""How long a clip will take, from a few of its frames."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.upscaler import Upscaler

# The trial: this many frames, cropped to their middle if they are larger than this.
TRIAL_FRAMES, HEIGHT, WIDTH = 3, 96, 160


def _middle(frame: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "_ _ 3"]:
    """The middle of a frame, at most `HEIGHT` x `WIDTH`."""
    h, w = frame.shape[:2]
    top, left = max(0, h - HEIGHT) // 2, max(0, w - WIDTH) // 2
    return frame[top : top + HEIGHT, left : left + WIDTH]


def estimate_seconds(
    upscaler: Upscaler,
    frames: Sequence[Float[np.ndarray, "h w 3"]],
    stills: Sequence[Still],
    count: int,
) -> float:
    """Seconds that `count` frames will take, without compiling.

    A run over a small part of a few frames gives the time of each kind of work, and work of the same kind
    takes as much longer as it has more multiply-adds.

    Args:
        upscaler: for the whole frames.
        frames: the first frames of the clip.
        stills: the user's reference images.
    """
    trial = [_middle(frame) for frame in frames[:TRIAL_FRAMES]]
    small = upscaler.for_frames(trial[0].shape[:2])
    spent: dict[str, float] = defaultdict(float)
    done: dict[str, float] = defaultdict(float)
    costs = small.costs(len(trial), len(stills))
    # The first run compiles.
    for _ in range(2):
        spent.clear()
        done.clear()
        list(small.frames(trial, stills, _timer(spent, done, costs)))
    usual = sum(spent.values()) / sum(done.values())
    whole = upscaler.costs(count, len(stills))
    pieces = upscaler.work(count, stills)
    rates = {kind: spent[kind] / done[kind] for kind in done}
    return sum(n * whole[kind] * rates.get(kind, usual) for kind, n in pieces.items() if n)


def _timer(spent: dict[str, float], done: dict[str, float], costs: dict[str, float]) -> Callable[[str], None]:
    """Adds up the time between two reports, as that of the second one's kind, and its cost."""
    last = time.perf_counter()

    def advance(kind: str) -> None:
        nonlocal last
        now = time.perf_counter()
        spent[kind] += now - last
        done[kind] += costs[kind]
        last = now

    return advance
