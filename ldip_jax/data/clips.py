"""One training sample drawn from a clip: which frames, which key-frames and references, which scale and view.

Paper, supplement 8.1: a clip C_ref, a sub-clip C_gt of it, up to three key-frames in C_gt, and for each up to
five references, random frames of C_ref. Only the frames that are used are decoded.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ldip_jax.data.source import Items
from ldip_jax.data.view import View
from ldip_jax.errors import InputError
from ldip_jax.ops.imresize import imresize

# Between a still's name and the number of a move over it, in names of clips.
MOVE = " move "
TRIES = 16


@runtime_checkable
class Footage(Protocol):
    """A clip whose frames are decoded one by one, when they are asked for."""

    @property
    def name(self) -> str: ...

    @property
    def count(self) -> int:
        """Number of frames."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of all frames."""
        ...

    def frame(self, number: int) -> UInt8[np.ndarray, "h w 3"]:
        """A frame.

        Raises:
            InputError: it is damaged; the message names it.
        """
        ...


@runtime_checkable
class ExactFootage(Footage, Protocol):
    """Footage that knows where everything goes, since it was made."""

    def correspond(
        self, source: int, target: int, places: Float[np.ndarray, "*b 2"]
    ) -> tuple[Float[np.ndarray, "*b 2"], Bool[np.ndarray, "*b"]]:
        """Where the content at `places` (x, y) of frame `source` lies in frame `target`, and whether it
        shows.

        Places beyond the frame's edges are allowed. Nothing outside of `target` shows.
        """
        ...


@dataclass(frozen=True)
class ClipPlan:
    """What a training sample is made of.

    Attributes:
        frames: of C_ref; a shorter clip serves as a whole.
        clip: frames of C_gt.
        key_frames: at most so many key-frames: their number is uniform in fewest_key_frames..key_frames.
        references: at most so many references of a key-frame: uniform in fewest_references..references; 0:
            neither references nor key-frames.
        scale: HR by LR, uniform between the two.
        augment: mirror, turn by 90 degrees, reverse time, and place the cut at random.

    Raises:
        InputError: numbers that do not go together.
    """

    frames: int = 24
    clip: int = 12
    key_frames: int = 3
    references: int = 5
    fewest_key_frames: int = 1
    fewest_references: int = 1
    scale: tuple[float, float] = (4.0, 4.0)
    augment: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.clip <= self.frames:
            raise InputError(f"data.clip is {self.clip}; choose from 1 to data.frames, {self.frames}")
        if not 1 <= self.key_frames <= self.clip:
            raise InputError(f"data.key_frames is {self.key_frames}; choose from 1 to data.clip, {self.clip}")
        if not 1 <= self.fewest_key_frames <= self.key_frames:
            raise InputError(f"{self.fewest_key_frames} to {self.key_frames} key-frames; choose 1 or more")
        if self.references and not 1 <= self.fewest_references <= self.references:
            raise InputError(
                f"data.fewest_references is {self.fewest_references}; choose from 1 to data.references, "
                f"{self.references}"
            )
        if not 1.0 <= self.scale[0] <= self.scale[1] <= 8.0:
            raise InputError(f"data.scale is {self.scale}; choose two between 1 and 8, the lower one first")


class ClipSample(NamedTuple):
    """What one step of training sees of a clip, before any network and any crop.

    Frames of C_ref that nothing needs are left out, so T is at most `ClipPlan.frames`. All fields show the
    same view: mirrored, turned and reversed alike.

    Attributes:
        name: clip and place, for messages.
        clip: the clip's name alone.
        hr: whole frames of C_ref in order.
        lr: MATLAB-bicubic reductions of the frames in `hr`; H = round(h s), W = round(w s).
        first, count: C_gt is `hr[first : first + count]`.
        scale: (rows, columns) HR size by LR size, exactly.
        keys: key-frames, ascending places in C_gt.
        candidates: reference frames, places in `hr`; -1 is an empty slot. The key-frame may be among them.
        warps: where each HR pixel of a key-frame lies in each reference, (x, y) in its pixels, where that is
            known exactly; else None. 0 in empty slots.
        confidence: 1 where that place shows the same content, else 0, with `warps`.
        flows: exact LR flow of each frame of C_gt to the next one (last: zero) and to the one before (first:
            zero), with `warps`.
    """

    name: str
    clip: str
    hr: UInt8[np.ndarray, "T H W 3"]
    lr: UInt8[np.ndarray, "T h w 3"]
    first: int
    count: int
    scale: tuple[float, float]
    keys: Int[np.ndarray, "k"]
    candidates: Int[np.ndarray, "k n"]
    warps: Float[np.ndarray, "k n H W 2"] | None = None
    confidence: Float[np.ndarray, "k n H W 1"] | None = None
    flows: Float[np.ndarray, "2 count h w 2"] | None = None


class Choice(NamedTuple):
    """Which frames a sample is made of.

    Attributes:
        numbers: frames of C_ref, numbers in the clip, in the order of time that the sample sees.
        first: C_gt begins at this place in C_ref.
        keys: key-frames, ascending places in C_gt.
        references: places in C_ref; -1 is an empty slot.
    """

    numbers: Int[np.ndarray, "T"]
    first: int
    keys: Int[np.ndarray, "k"]
    references: Int[np.ndarray, "k n"]


def choose(plan: ClipPlan, rng: np.random.Generator, count: int) -> Choice:
    """Choose from a clip of `count` frames."""
    length = min(count, plan.frames)
    numbers = int(rng.integers(count - length + 1)) + np.arange(length)
    if plan.augment and rng.integers(2):
        numbers = numbers[::-1]
    first = int(rng.integers(length - plan.clip + 1))
    k = int(rng.integers(plan.fewest_key_frames, plan.key_frames + 1))
    keys = np.sort(rng.choice(plan.clip, k, replace=False)).astype(np.int32)
    references = np.full((len(keys), plan.references), -1, np.int32)
    if not plan.references:
        return Choice(numbers, first, keys[:0], references[:0])
    for slots in references:
        filled = int(rng.integers(plan.fewest_references, plan.references + 1))
        slots[:filled] = rng.integers(length, size=filled)
    return Choice(numbers, first, keys, references)


def draw(plan: ClipPlan, clip: Footage, rng: np.random.Generator, scale: float | None = None) -> ClipSample:
    """Draw one sample.

    Args:
        scale: HR by LR; None draws one.

    Raises:
        InputError: the clip has fewer frames than C_gt, its frames are smaller than the scale, or one of
            them is damaged.
    """
    if clip.count < plan.clip:
        raise InputError(
            f"{clip.name}: has {clip.count} frames, fewer than the {plan.clip} of a training sample; "
            "leave it out or set data.clip lower"
        )
    numbers, first, keys, references = choose(plan, rng, clip.count)
    used = np.union1d(np.arange(first, first + plan.clip), references[references >= 0])
    candidates = np.where(references >= 0, np.searchsorted(used, references), -1).astype(np.int32)
    view, lr_size = _view(plan, rng, clip, draw_scale(plan, rng) if scale is None else scale)
    hr = np.stack([view.pixels(clip.frame(int(number))) for number in numbers[used]])
    sample = ClipSample(
        name=f"{clip.name} frames {numbers[first]} to {numbers[first + plan.clip - 1]}",
        clip=clip.name,
        hr=hr,
        lr=np.stack([imresize(frame, size=lr_size) for frame in hr]),
        first=int(np.searchsorted(used, first)),
        count=plan.clip,
        scale=(view.size[0] / lr_size[0], view.size[1] / lr_size[1]),
        keys=keys,
        candidates=candidates,
    )
    if isinstance(clip, ExactFootage):
        return _with_matches(sample, clip, view, numbers[used])
    return sample


def unrelated(clips: Items[Footage], own: str, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """A frame of another clip than `own`, and of another still where clips are moves over stills.

    A few clips are tried; where all show the same, as where there is one alone, it is a frame of that.
    """
    clip = clips[int(rng.integers(len(clips)))]
    for _ in range(TRIES):
        if _origin(clip.name) != _origin(own):
            break
        clip = clips[int(rng.integers(len(clips)))]
    return clip.frame(int(rng.integers(clip.count)))


def _origin(name: str) -> str:
    return name.partition(MOVE)[0]


def draw_scale(plan: ClipPlan, rng: np.random.Generator) -> float:
    """HR by LR of a sample, or of all of a batch."""
    return float(rng.uniform(*plan.scale))


def _view(
    plan: ClipPlan, rng: np.random.Generator, clip: Footage, scale: float
) -> tuple[View, tuple[int, int]]:
    """The part of the frames that the scale divides, its orientation, and the LR size."""
    lr = [_lr_side(side, scale) for side in clip.size]
    if min(lr) < 1:
        raise InputError(f"{clip.name}: is too small to be reduced by {scale:.2f}; leave it out")
    height, width = (round(n * scale) for n in lr)
    if not plan.augment:
        return View(0, 0, height, width), (lr[0], lr[1])
    top, left = (
        int(rng.integers(side - cut + 1)) for side, cut in zip(clip.size, (height, width), strict=True)
    )
    transpose, rows, columns = (bool(bit) for bit in rng.integers(2, size=3))
    size = (lr[1], lr[0]) if transpose else (lr[0], lr[1])
    return View(top, left, height, width, transpose, rows, columns), size


def _lr_side(side: int, scale: float) -> int:
    """The most LR pixels whose HR size, rounded, fits into `side`."""
    n = int((side + 0.5) / scale)
    return n if round(n * scale) <= side else n - 1


def _with_matches(
    sample: ClipSample, clip: ExactFootage, view: View, numbers: Int[np.ndarray, "T"]
) -> ClipSample:
    """The sample with exact warps, confidence and flows."""
    (H, W), (h, w) = view.size, sample.lr.shape[1:3]
    k, n = sample.candidates.shape
    limit = np.array([W, H]) - 0.5
    warps, confidence = np.zeros((k, n, H, W, 2), np.float32), np.zeros((k, n, H, W, 1), np.float32)
    pixels = view.to_frame(_grid((H, W), (H, W)))
    for key, slot in zip(*np.nonzero(sample.candidates >= 0), strict=True):
        source, target = sample.first + sample.keys[key], sample.candidates[key, slot]
        found, shows = clip.correspond(int(numbers[source]), int(numbers[target]), pixels)
        warps[key, slot] = warp = view.from_frame(found)
        inside = np.all((warp > -0.5) & (warp < limit), axis=-1)
        confidence[key, slot, ..., 0] = shows & inside
    flows = np.zeros((2, sample.count, h, w, 2), np.float32)
    places = _grid((H, W), (h, w))
    pixels = view.to_frame(places)
    for i in range(sample.count - 1):
        here, there = (int(number) for number in numbers[sample.first + i : sample.first + i + 2])
        for flow, source, target in ((flows[0, i], here, there), (flows[1, i + 1], there, here)):
            found, _ = clip.correspond(source, target, pixels)
            flow[...] = (view.from_frame(found) - places) / sample.scale[::-1]
    return sample._replace(warps=warps, confidence=confidence, flows=flows)


def _grid(size: tuple[int, int], steps: tuple[int, int]) -> Float[np.ndarray, "{steps[0]} {steps[1]} 2"]:
    """The (x, y) pixel centres of an image of `steps` (rows, columns) in pixels of its resize to `size`."""
    y, x = ((np.arange(n) + 0.5) * (N / n) - 0.5 for n, N in zip(steps, size, strict=True))
    return np.stack(np.meshgrid(x, y), axis=-1)
