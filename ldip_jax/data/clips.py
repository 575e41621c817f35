"""One training sample drawn from a clip: which frames, which key-frames and references, which scale and view.

Paper, supplement 8.1: a clip C_ref, a sub-clip C_gt of it, up to three key-frames in C_gt, and up to five
references for each key-frame, which are random frames of C_ref. Only the frames that are used are decoded.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ldip_jax.data.damage import Damage, InputDamageConfig, ReferenceJitterConfig
from ldip_jax.data.oriented_crop import OrientedCrop
from ldip_jax.data.source import Items
from ldip_jax.errors import InputError
from ldip_jax.ops.imresize import imresize

# In names of clips, stands between the name of an image and the number of the camera move over it.
MOVE = " move "
MAX_DRAWS = 16


@runtime_checkable
class Footage(Protocol):
    """A clip whose frames are decoded one by one, on request."""

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
            InputError: the frame is damaged; the message names it.
        """
        ...


@runtime_checkable
class ExactFootage(Footage, Protocol):
    """Rendered footage, for which all correspondences are known exactly."""

    def correspond(
        self, source: int, target: int, places: Float[np.ndarray, "*b 2"]
    ) -> tuple[Float[np.ndarray, "*b 2"], Bool[np.ndarray, "*b"]]:
        """Where the content at `places` (x, y) of frame `source` lies in frame `target`, and whether it is
        visible there.

        Places beyond the frame's edges are allowed. Nothing outside `target` is visible.
        """
        ...


@dataclass(frozen=True)
class SamplingSpec:
    """How training samples are drawn from clips.

    Attributes:
        context_frames: number of frames of C_ref; a shorter clip is used as a whole.
        target_frames: number of frames of C_gt.
        max_key_frames: the most key-frames of a sample; their number is uniform in
            fewest_key_frames..key_frames.
        max_references: the most references of a key-frame; their number is uniform in
            fewest_references..references. 0: neither references nor key-frames.
        scale: HR size divided by LR size, uniform between the two values.
        augment: mirror, turn by 90 degrees, reverse time, and place the crop at random.
        input, jitter: how LR frames and references are damaged; by default not at all.

    Raises:
        InputError: numbers that are out of range or contradict each other.
    """

    context_frames: int = 24
    target_frames: int = 12
    max_key_frames: int = 3
    max_references: int = 5
    min_key_frames: int = 1
    min_references: int = 1
    scale: tuple[float, float] = (4.0, 4.0)
    augment: bool = True
    input: InputDamageConfig = field(default_factory=InputDamageConfig)
    jitter: ReferenceJitterConfig = field(default_factory=ReferenceJitterConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.target_frames <= self.context_frames:
            raise InputError(
                f"data.clip is {self.target_frames}; choose from 1 to data.frames, {self.context_frames}"
            )
        if not 1 <= self.max_key_frames <= self.target_frames:
            raise InputError(
                f"data.key_frames is {self.max_key_frames}; choose from 1 to data.clip, {self.target_frames}"
            )
        if not 1 <= self.min_key_frames <= self.max_key_frames:
            raise InputError(f"{self.min_key_frames} to {self.max_key_frames} key-frames; choose 1 or more")
        if self.max_references and not 1 <= self.min_references <= self.max_references:
            raise InputError(
                f"data.fewest_references is {self.min_references}; choose from 1 to data.references, "
                f"{self.max_references}"
            )
        if not 1.0 <= self.scale[0] <= self.scale[1] <= 8.0:
            raise InputError(f"data.scale is {self.scale}; choose two between 1 and 8, the lower one first")


class ClipSample(NamedTuple):
    """What one training step uses of a clip, before any network and any crop.

    Frames of C_ref that are not needed are left out, so T is at most `SamplingSpec.frames`. All fields show
    the
    same view: they are mirrored, turned and reversed alike.

    Attributes:
        name: clip and frames, for messages.
        clip: only the clip's name.
        hr: whole frames of C_ref in order.
        lr: MATLAB-bicubic reductions of the frames in `hr`, damaged as `SamplingSpec.input` says; H =
            round(h s), W = round(w s).
        first, count: C_gt is `hr[first : first + count]`.
        scale: exact HR size divided by LR size, (rows, columns).
        key_frames: key-frames, ascending places in C_gt.
        candidates: reference frames, places in `hr`; -1 is an empty slot. The key-frame may be among them.
        warps: where each HR pixel of a key-frame lies in each reference, (x, y) in pixels of the reference;
            0 in empty slots. None if this is not known exactly.
        confidence: 1 where that place shows the same content, else 0; None if `warps` is None.
        flows: exact LR flow of each frame of C_gt to the next one (zero for the last) and to the previous one
            (zero for the first), (x, y) in LR pixels; None if `warps` is None.
        references: the frames in `hr` as they are used as references, if these may be jittered; else None.
        damage: how `lr` was damaged; "" if it was not.
    """

    name: str
    clip: str
    hr: UInt8[np.ndarray, "T H W 3"]
    lr: UInt8[np.ndarray, "T h w 3"]
    first: int
    count: int
    scale: tuple[float, float]
    key_frames: Int[np.ndarray, "k"]
    candidates: Int[np.ndarray, "k n"]
    warps: Float[np.ndarray, "k n H W 2"] | None = None
    confidence: Float[np.ndarray, "k n H W 1"] | None = None
    flows: Float[np.ndarray, "2 count h w 2"] | None = None
    references: UInt8[np.ndarray, "T H W 3"] | None = None
    damage: str = ""


class FrameChoice(NamedTuple):
    """Which frames a sample is made of.

    Attributes:
        numbers: frames of C_ref, as numbers in the clip, in the sample's order of time.
        first: the place in C_ref at which C_gt begins.
        key_frames: key-frames, ascending places in C_gt.
        references: places in C_ref; -1 is an empty slot.
    """

    numbers: Int[np.ndarray, "T"]
    first: int
    key_frames: Int[np.ndarray, "k"]
    references: Int[np.ndarray, "k n"]


def choose_frames(spec: SamplingSpec, rng: np.random.Generator, count: int) -> FrameChoice:
    """Choose the frames of a sample from a clip of `count` frames."""
    length = min(count, spec.context_frames)
    numbers = int(rng.integers(count - length + 1)) + np.arange(length)
    if spec.augment and rng.integers(2):
        numbers = numbers[::-1]
    first = int(rng.integers(length - spec.target_frames + 1))
    k = int(rng.integers(spec.min_key_frames, spec.max_key_frames + 1))
    key_frames = np.sort(rng.choice(spec.target_frames, k, replace=False)).astype(np.int32)
    references = np.full((len(key_frames), spec.max_references), -1, np.int32)
    if not spec.max_references:
        return FrameChoice(numbers, first, key_frames[:0], references[:0])
    for slots in references:
        filled = int(rng.integers(spec.min_references, spec.max_references + 1))
        slots[:filled] = rng.integers(length, size=filled)
    return FrameChoice(numbers, first, key_frames, references)


def draw_sample(
    spec: SamplingSpec, clip: Footage, rng: np.random.Generator, scale: float | None = None
) -> ClipSample:
    """Draw one sample.

    Args:
        scale: HR size divided by LR size; None: it is drawn, too.

    Raises:
        InputError: the clip has fewer frames than C_gt, its frames are too small for the scale, or one of
            them is damaged.
    """
    if clip.count < spec.target_frames:
        raise InputError(
            f"{clip.name}: has {clip.count} frames, fewer than the {spec.target_frames} of a training sample;"
            " leave it out or set data.clip lower"
        )
    numbers, first, key_frames, references = choose_frames(spec, rng, clip.count)
    used = np.union1d(np.arange(first, first + spec.target_frames), references[references >= 0])
    candidates = np.where(references >= 0, np.searchsorted(used, references), -1).astype(np.int32)
    view, lr_size = _draw_view(spec, rng, clip, draw_scale(spec, rng) if scale is None else scale)
    hr = np.stack([view.pixels(clip.frame(int(number))) for number in numbers[used]])
    sample = ClipSample(
        name=f"{clip.name} frames {numbers[first]} to {numbers[first + spec.target_frames - 1]}",
        clip=clip.name,
        hr=hr,
        lr=np.stack([imresize(frame, size=lr_size) for frame in hr]),
        first=int(np.searchsorted(used, first)),
        count=spec.target_frames,
        scale=(view.size[0] / lr_size[0], view.size[1] / lr_size[1]),
        key_frames=key_frames,
        candidates=candidates,
    )
    if isinstance(clip, ExactFootage):
        sample = _add_exact_matches(sample, clip, view, numbers[used])
    if spec.input.active or spec.jitter.share:
        # Drawn last, so that everything else is the same with and without damage.
        of_input, of_references = np.random.default_rng(int(rng.integers(2**63))).spawn(2)
        sample = _damage_lr(sample, spec.input.draw_damage(of_input), clip, view, numbers, used)
        sample = _jitter_references(sample, spec.jitter, of_references)
    return sample


def _damage_lr(
    sample: ClipSample,
    damage: Damage,
    clip: Footage,
    view: OrientedCrop,
    numbers: Int[np.ndarray, "T"],
    used: Int[np.ndarray, "u"],
) -> ClipSample:
    """The sample with damaged LR frames: all of C_ref as one clip, because codecs use neighbouring frames."""
    if not str(damage):
        return sample
    known = dict(zip(used.tolist(), sample.lr, strict=True))
    size = sample.lr.shape[1:3]
    whole = [
        known[place] if place in known else imresize(view.pixels(clip.frame(int(number))), size=size)
        for place, number in enumerate(numbers)
    ]
    damaged = damage(whole)
    return sample._replace(lr=np.stack([damaged[place] for place in used]), damage=str(damage))


def _jitter_references(
    sample: ClipSample, jitter: ReferenceJitterConfig, rng: np.random.Generator
) -> ClipSample:
    """The sample with jittered references; a reference of several key-frames is the same for all of them."""
    if not jitter.share:
        return sample
    references = sample.hr.copy()
    for place in np.unique(sample.candidates[sample.candidates >= 0]):
        references[place] = jitter(references[place], rng)
    return sample._replace(references=references)


def draw_unrelated_frame(
    clips: Items[Footage], clip_name: str, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """A frame of a clip other than `clip_name`; if clips are camera moves over images, one of another image.

    Only a few clips are drawn. If all of them show the same as `clip_name`, for example because there is
    only one clip, the frame comes from such a clip.
    """
    clip = clips[int(rng.integers(len(clips)))]
    for _ in range(MAX_DRAWS):
        if _image_name(clip.name) != _image_name(clip_name):
            break
        clip = clips[int(rng.integers(len(clips)))]
    return clip.frame(int(rng.integers(clip.count)))


def _image_name(name: str) -> str:
    return name.partition(MOVE)[0]


def draw_scale(spec: SamplingSpec, rng: np.random.Generator) -> float:
    """Draw the scale of a sample or of a whole batch: HR size divided by LR size."""
    return float(rng.uniform(*spec.scale))


def _draw_view(
    spec: SamplingSpec, rng: np.random.Generator, clip: Footage, scale: float
) -> tuple[OrientedCrop, tuple[int, int]]:
    """A part of the frames whose size fits the scale, with its orientation, and the LR size."""
    lr = [_lr_side(side, scale) for side in clip.size]
    if min(lr) < 1:
        raise InputError(f"{clip.name}: is too small to be reduced by {scale:.2f}; leave it out")
    height, width = (round(n * scale) for n in lr)
    if not spec.augment:
        return OrientedCrop(0, 0, height, width), (lr[0], lr[1])
    top, left = (
        int(rng.integers(side - cut + 1)) for side, cut in zip(clip.size, (height, width), strict=True)
    )
    transpose, rows, columns = (bool(bit) for bit in rng.integers(2, size=3))
    size = (lr[1], lr[0]) if transpose else (lr[0], lr[1])
    return OrientedCrop(top, left, height, width, transpose, rows, columns), size


def _lr_side(side: int, scale: float) -> int:
    """The largest number of LR pixels whose rounded HR size fits into `side`."""
    n = int((side + 0.5) / scale)
    return n if round(n * scale) <= side else n - 1


def _add_exact_matches(
    sample: ClipSample, clip: ExactFootage, view: OrientedCrop, numbers: Int[np.ndarray, "T"]
) -> ClipSample:
    """The sample with exact warps, confidence and flows."""
    (H, W), (h, w) = view.size, sample.lr.shape[1:3]
    k, n = sample.candidates.shape
    limit = np.array([W, H]) - 0.5
    warps, confidence = np.zeros((k, n, H, W, 2), np.float32), np.zeros((k, n, H, W, 1), np.float32)
    pixels = view.to_frame(_grid((H, W), (H, W)))
    for key, slot in zip(*np.nonzero(sample.candidates >= 0), strict=True):
        source, target = sample.first + sample.key_frames[key], sample.candidates[key, slot]
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
    """Pixel centres (x, y) of an image of `steps` (rows, columns), in pixels of its resize to `size`."""
    y, x = ((np.arange(n) + 0.5) * (N / n) - 0.5 for n, N in zip(steps, size, strict=True))
    return np.stack(np.meshgrid(x, y), axis=-1)
