"""Which stills match which part of a clip, and where another still would help."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from ldip_jax.inference.reference_images import Still, offered_stills, stills_from
from ldip_jax.inference.references import ReferenceChoice
from ldip_jax.inference.upscaler import Upscaler

Map = Float[np.ndarray, "H W"]


@dataclass(frozen=True)
class KeyMatch:
    """What the stills give at one frame of the clip.

    Attributes:
        frame: its place in the clip.
        image: the upscaled frame, RGB in [0, 1].
        choices: what was decided on each still, best first.
        maps: for each still that is used, by name, its confidence in [0, 1] at every pixel of the image.
    """

    frame: int
    image: Float[np.ndarray, "H W 3"]
    choices: list[ReferenceChoice]
    maps: dict[str, Map]

    @property
    def covered(self) -> bool:
        """Whether a still is used."""
        return any(choice.used for choice in self.choices)


@dataclass(frozen=True)
class Stretch:
    """A part of a clip without a matching still: its first and last frame, and one in the middle."""

    first: int
    last: int
    middle: int


def spread_key_frames(count: int, stride: int, most: int, cuts: Collection[int] = ()) -> list[int]:
    """At most `most` of a clip's regular key-frames, evenly spread over its `count` frames.

    The first frame of a shot is added if none of these is within `stride` frames after it, for at most as
    many shots again.
    """
    regular = range(0, count, stride)
    chosen = {regular[round(place)] for place in np.linspace(0, len(regular) - 1, min(most, len(regular)))}
    lonely = [cut for cut in sorted(cuts) if not chosen & set(range(cut, cut + stride))]
    return sorted(chosen | set(lonely[:most]))


def match_clip(
    upscaler: Upscaler,
    frames: Iterable[Float[np.ndarray, "h w 3"]],
    stills: Sequence[Still],
    key_frames: Collection[int],
    cuts: Collection[int] = (),
) -> Iterator[KeyMatch]:
    """Match the stills with frames of a clip, in order.

    Args:
        upscaler: for these frames; it decides as in a run over the whole clip.
        frames: all frames of the clip, RGB in [0, 1], read once.
        key_frames: places of the frames to match.
        cuts: places of the first frames of new shots.
    """
    last: np.ndarray | None = None
    for place, frame in enumerate(frames):
        if last is not None and place - 1 in key_frames:
            # A neighbour gives the backbone some context, and does not become a key-frame itself.
            piece = [last] if place in cuts else [last, frame]
            yield _match(upscaler, piece, offered_stills(place - 1, stills, cuts), place - 1)
        last = frame
    if last is not None and place in key_frames:
        yield _match(upscaler, [last], offered_stills(place, stills, cuts), place)


def _match(upscaler: Upscaler, piece: list[np.ndarray], stills: Sequence[Still], place: int) -> KeyMatch:
    found: list[tuple[ReferenceChoice, Map]] = []

    def on_key_frame(key: int, used: list) -> None:
        if key == 0:
            found.extend((choice, np.asarray(reference.confidence)[0, ..., 0]) for choice, reference in used)

    moved = stills_from(stills, place)
    upscaler.on_key_frame = on_key_frame
    try:
        image = next(upscaler.frames(piece, moved))
    finally:
        upscaler.on_key_frame = None
    choices = [choice for choice in upscaler.choices.get(0, []) if not choice.is_self_reference]
    return KeyMatch(
        place, image, choices, {choice.name: shown for choice, shown in found if not choice.is_self_reference}
    )


def uncovered(covered: Mapping[int, bool], count: int) -> list[Stretch]:
    """The parts of a clip in which no still matches.

    Args:
        covered: for some frames of the clip, whether a still matches there. Other frames are as the nearest
            of these.
        count: frames of the clip.
    """
    places = sorted(covered)
    edges = [0, *((a + b) // 2 + 1 for a, b in pairwise(places)), count]
    found: list[Stretch] = []
    run: list[int] = []
    for number, key in enumerate(places):
        if covered[key]:
            run = []
            continue
        run.append(number)
        if len(run) > 1:
            found.pop()
        middle = places[run[len(run) // 2]]
        found.append(Stretch(edges[run[0]], edges[number + 1] - 1, middle))
    return found


def advice(
    choices: Mapping[int, Sequence[ReferenceChoice]],
    stills: Collection[str],
    count: int,
    when: Callable[[int], str],
) -> list[str]:
    """What to do about the stills, one sentence each.

    Args:
        choices: what was decided on the stills, by frame of the clip.
        stills: their names.
        count: frames of the clip.
        when: how to name a frame, such as "00:03.2".
    """
    lines = []
    covered = {key: any(choice.used for choice in made) for key, made in choices.items()}
    gaps = sorted(uncovered(covered, count), key=lambda gap: gap.first - gap.last)
    for gap in gaps:
        lines.append(
            f"No still matches from {when(gap.first)} to {when(gap.last)}: add a sharp one from about"
            f" {when(gap.middle)}."
        )
    for name in stills:
        own = [choice for made in choices.values() for choice in made if choice.name == name]
        if not any(choice.used for choice in own):
            reasons = Counter(choice.reason for choice in own if choice.reason)
            why = f" ({reasons.most_common(1)[0][0]})" if reasons else ""
            lines.append(f"{name} is used nowhere{why}.")
    return lines or ["A still matches in every part of the clip."]
