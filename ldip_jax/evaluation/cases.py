"""Which frames of a clip are put in, which are scored, and which serve as references in HR."""

from dataclasses import dataclass

import numpy as np

from ldip_jax.errors import InputError

NEAR = 10
NEAR_FRAMES = 12
PAN_REFERENCES = 5


@dataclass(frozen=True)
class Case:
    """Numbers are frames of the clip, except for `outputs`.

    Attributes:
        inputs: the LR clip that is upscaled, in order; a frame may occur twice.
        scored: frames that are compared with the ground truth, ascending.
        outputs: for each of them the places in `inputs` whose results are averaged.
        references: ground-truth frames that are given as references.
    """

    inputs: tuple[int, ...]
    scored: tuple[int, ...]
    outputs: tuple[tuple[int, ...], ...]
    references: tuple[int, ...] = ()


def _one_each(inputs: range, scored: list[int] | range, references: tuple[int, ...] = ()) -> Case:
    outputs = tuple((frame - inputs.start,) for frame in scored)
    return Case(tuple(inputs), tuple(scored), outputs, references)


def whole(count: int) -> Case:
    """All frames."""
    return _one_each(range(count), range(count))


def middle(count: int) -> Case:
    """All frames are put in, the middle one is scored: Vimeo-90K-T."""
    return _one_each(range(count), [count // 2])


def mirrored(count: int) -> Case:
    """The clip and its mirror image in time are put in; the middle frame is the mean of its two results."""
    inputs = (*range(count), *reversed(range(count)))
    place = count // 2
    return Case(inputs, (place,), ((place, 2 * count - 1 - place),))


def by_fractions(count: int) -> Case:
    """Frames round(0.2 T) to round(0.8 T), both scored; references are the clip's first and last frame.

    Of 100 frames these are 20 to 80, with references 0 and 99: the paper's Table 5.

    Raises:
        InputError: a clip so short that a reference would be among the inputs.
    """
    first, last = round(0.2 * count), round(0.8 * count)
    if not 0 < first <= last < count - 1:
        raise InputError(f"{count} frames are too few for this protocol; it needs 8")
    return _one_each(range(first, last + 1), range(first, last + 1), (0, count - 1))


def near(count: int) -> Case:
    """12 frames of the clip's middle; references are 10 frames before the first and 10 after the last.

    Raises:
        InputError: the clip is too short.
    """
    needed = NEAR_FRAMES + 2 * NEAR
    if count < needed:
        raise InputError(f"{count} frames are too few for this protocol; it needs {needed}")
    first = (count - NEAR_FRAMES) // 2
    inputs = range(first, first + NEAR_FRAMES)
    return _one_each(inputs, inputs, (first - NEAR, first + NEAR_FRAMES - 1 + NEAR))


def pan(count: int) -> Case:
    """All frames; 5 of them, evenly spread, are references in HR and are not scored: the paper's Figure 6.

    Raises:
        InputError: the clip is too short.
    """
    references = [round(place) for place in np.linspace(0, count - 1, PAN_REFERENCES)]
    scored = [frame for frame in range(count) if frame not in references]
    if len(set(references)) < PAN_REFERENCES or not scored:
        raise InputError(f"{count} frames are too few for this protocol; it needs {PAN_REFERENCES + 1}")
    return _one_each(range(count), scored, tuple(references))
