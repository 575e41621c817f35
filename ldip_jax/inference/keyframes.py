"""Which frames are key-frames, and which distant frames of the clip serve them as references."""

import numpy as np


def key_frames(first: int, count: int, stride: int, *, ends: bool) -> list[int]:
    """Key-frames of a window: every `stride`-th frame of the clip, the clip's first and last.

    Args:
        first: place of the window's first frame in the clip.
        count: frames in the window.
        stride: frames from one key-frame to the next.
        ends: whether the window's last frame is the clip's last.

    Returns:
        Places in the clip, ascending; never none.
    """
    chosen = {index for index in range(first, first + count) if index % stride == 0}
    if ends or not chosen:
        chosen.add(first + count - 1)
    return sorted(chosen)


def self_references(key: int, first: int, count: int, exclude: int, slots: int) -> list[int]:
    """Frames of the window that a key-frame looks at: spread evenly over those more than `exclude` away.

    Nearer ones the backbone has seen already. Fewer than `slots`, or none, where the window is short.
    """
    candidates = [index for index in range(first, first + count) if abs(index - key) > exclude]
    if not candidates or slots < 1:
        return []
    places = np.round(np.linspace(0, len(candidates) - 1, slots)).astype(int)
    return [candidates[place] for place in dict.fromkeys(places.tolist())]
