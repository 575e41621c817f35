"""Selects key-frames, and the distant frames of the clip that are their references."""

from collections.abc import Collection, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from PIL import Image

# Stills and frames are compared at SMALL x SMALL pixels. A still gets an additional key-frame if its
# correlation with that frame is above ALIKE, and differs from 1 by less than CLOSER times the difference at
# the best regular key-frame.
THUMBNAIL = 48
ALIKE, CLOSER = 0.6, 0.6


def shots(first: int, count: int, cuts: Collection[int]) -> list[range]:
    """The part of each shot that lies in a window, as places in the clip.

    Args:
        first: place of the window's first frame in the clip.
        count: frames in the window.
        cuts: places of the first frames of new shots.
    """
    inside = sorted(cut for cut in set(cuts) if first < cut < first + count)
    return [range(a, b) for a, b in pairwise([first, *inside, first + count])]


def overlapping(one: range, other: range) -> range:
    """The places that are in both."""
    return range(max(one.start, other.start), min(one.stop, other.stop))


def select_key_frames(
    first: int, count: int, stride: int, *, ends: bool, cuts: Collection[int] = ()
) -> list[int]:
    """Key-frames of a window: every `stride`-th frame of the clip, and both ends of every shot.

    An end is left out if another key-frame of the shot is less than a quarter of the stride away.

    Args:
        first: place of the window's first frame in the clip.
        count: frames in the window.
        stride: frames from one key-frame to the next.
        ends: whether the window's last frame is the last frame of the clip.
        cuts: places of the first frames of new shots.

    Returns:
        Places in the clip, ascending: at least one for the window, and at least one for every shot that has
        an end in the window.
    """
    chosen: set[int] = set()
    for shot in shots(first, count, cuts):
        regular = {index for index in shot if index % stride == 0}
        # An edge of the window does not end a shot.
        limits = [shot[0]] if shot[0] == 0 or shot[0] in cuts else []
        if shot[-1] + 1 in cuts or (ends and shot[-1] == first + count - 1):
            limits.append(shot[-1])
        for limit in limits:
            if all(abs(limit - index) * 4 >= stride for index in regular):
                regular.add(limit)
        chosen |= regular
    return sorted(chosen) or [first + count - 1]


def key_frames_for_stills(
    frames: Sequence[Float[np.ndarray, "h w 3"]],
    stills: Sequence[Float[np.ndarray, "_ _ 3"]],
    key_frames: Collection[int],
    stride: int,
) -> set[int]:
    """Additional key-frames: for each still, the frame most similar to it, if no key-frame is near.

    Args:
        frames: the frames of one shot, RGB in [0, 1].
        stills: RGB in [0, 1], of any size.
        key_frames: key-frames, as places in the shot.
        stride: frames from one key-frame to the next.

    Returns:
        Places in the shot.
    """
    small = [_thumbnail(frame) for frame in frames]
    found: set[int] = set()
    for still in stills:
        thumbnail = _thumbnail(still)
        likeness = np.array([float(np.vdot(thumbnail, frame)) for frame in small])
        best = int(likeness.argmax())
        near = any(abs(best - key) * 4 < stride for key in {*key_frames, *found})
        best_key_frame = max((likeness[key] for key in key_frames), default=-1.0)
        if not near and likeness[best] > ALIKE and 1.0 - likeness[best] < CLOSER * (1.0 - best_key_frame):
            found.add(best)
    return found


def key_frames_by_shot(
    frames: Sequence[Float[np.ndarray, "h w 3"]],
    first: int,
    cuts: Collection[int],
    stills: Sequence[Float[np.ndarray, "_ _ 3"]],
    key_frames: Collection[int],
    stride: int,
) -> set[int]:
    """`key_frames_for_stills` of each shot of a window.

    Args:
        frames: the frames of the window.
        first: place of the window's first frame in the clip.
        cuts: places of the first frames of new shots.
        stills: RGB in [0, 1], of any size.
        key_frames: the other key-frames, as places in the clip.
        stride: frames from one key-frame to the next.

    Returns:
        Places in the clip.
    """
    found: set[int] = set()
    for shot in shots(first, len(frames), cuts):
        part = frames[shot.start - first : shot.stop - first]
        near = [key - shot.start for key in key_frames if key in shot]
        found |= {shot.start + place for place in key_frames_for_stills(part, stills, near, stride)}
    return found


def _thumbnail(image: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "n n"]:
    """A small grey copy with mean 0 and norm 1, so that exposure does not matter."""
    gray = Image.fromarray(np.ascontiguousarray(image.mean(axis=-1), np.float32))
    values = np.asarray(gray.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), np.float64)
    values = values - values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-6)


def select_self_references(key_frame: int, first: int, count: int, exclude: int, slots: int) -> list[int]:
    """Frames of the window that are references for a key-frame, spread evenly over those far enough away.

    They are more than `exclude` frames from the key-frame: the backbone has already seen nearer ones. If the
    window is short, there are fewer than `slots`, or none.
    """
    candidates = [index for index in range(first, first + count) if abs(index - key_frame) > exclude]
    if not candidates or slots < 1:
        return []
    places = np.round(np.linspace(0, len(candidates) - 1, slots)).astype(int)
    return [candidates[place] for place in dict.fromkeys(places.tolist())]
