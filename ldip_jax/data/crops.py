"""One training sample out of a record: a crop in space and time, with degraded references (paper, 8.1).

Everything random in it comes from the generator that is passed in: the same record and seed, the same sample.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from ldip_jax.data.records import Record, load_record, record_provenance, record_scale
from ldip_jax.errors import InputError
from ldip_jax.matching import CONFIDENT

# Crops are drawn again, a few times, until this share of them is surely matched.
MATCHED_SHARE = 0.2
TRIES = 4
LOWEST_BLUR, HIGHEST_BLUR = 4.0, 12.0

Elsewhere = Callable[[np.random.Generator], UInt8[np.ndarray, "h w 3"]]
"""Opens an image of another clip, uint8 RGB of any size."""


@dataclass(frozen=True)
class CropPlan:
    """What is cut out and what is done to references.

    Attributes:
        frames: frames of a sample.
        hr: side of the GT crop; 0: the largest multiple of 32 that `lr` covers.
        lr: side of the LR crop; 0: `hr` by the scale, or else the smallest multiple of 16 that covers it.
        window: side of the part of a reference that is kept, and of its canvas, HR pixels.
        jitter: how far the window may lie from the middle of what matches, HR pixels.
        keys, references: the most key-frames of a sample, and references of one; 1 to that many are drawn.
        fewest_references: the least references of a key-frame, where it has as many.
        self_references: share of samples with all references at LR size, as without stills at inference;
            and of the others' references that are.
        sharp_references: share of references given as they are, as stills are at inference; the rest is
            degraded as in the paper.
        distractors: share of references made useless: of another clip, of elsewhere, black, or blurred.
    """

    frames: int = 12
    hr: int = 256
    lr: int = 0
    window: int = 256
    jitter: int = 64
    keys: int = 3
    references: int = 5
    fewest_references: int = 1
    self_references: float = 0.0
    sharp_references: float = 0.0
    distractors: float = 0.0

    def sides(self, scale: float) -> tuple[int, int]:
        """(HR, LR) side of a crop at a scale."""
        if self.hr:
            covered = self.hr / scale
            return self.hr, int(covered) if covered.is_integer() else math.ceil(covered / 16) * 16
        return int(self.lr * scale) // 32 * 32, self.lr


class Sample(NamedTuple):
    """A training sample, empty slots masked; a batch stacks them on a new first axis.

    Attributes:
        lr, hr: frames in [0, 1].
        features, to_next, to_previous: as in `Record`, cropped.
        origin, step: place (y, x) of the first HR pixel in LR pixels of the crop, and LR pixels per HR pixel.
        key_index, key_valid: key-frames, and whether a slot holds one.
        images, sizes: references on canvases, in [0, 1], and their true (height, width).
        warps, confidence: as in `Record`, in pixels of the degraded references.
        valid: whether a slot holds a reference.
    """

    lr: UInt8[np.ndarray, "t h w 3"]
    hr: UInt8[np.ndarray, "t H W 3"]
    features: Float[np.ndarray, "t h w c"]
    to_next: Float[np.ndarray, "t h w 2"]
    to_previous: Float[np.ndarray, "t h w 2"]
    origin: Float[np.ndarray, "2"]
    step: Float[np.ndarray, "2"]
    key_index: Int[np.ndarray, "k"]
    key_valid: Float[np.ndarray, "k"]
    images: UInt8[np.ndarray, "k n R R 3"]
    sizes: Int[np.ndarray, "k n 2"]
    warps: Float[np.ndarray, "k n H W 2"]
    confidence: Float[np.ndarray, "k n H W 1"]
    valid: Float[np.ndarray, "k n"]


class _Box(NamedTuple):
    """A crop: the LR window's corner and side, the HR crop's corner and side."""

    lr_corner: tuple[int, int]
    lr: int
    hr_corner: tuple[int, int]
    hr: int

    def of_lr(self, x: np.ndarray) -> np.ndarray:
        (y, x0), n = self.lr_corner, self.lr
        return x[..., y : y + n, x0 : x0 + n, :]

    def of_hr(self, x: np.ndarray) -> np.ndarray:
        (y, x0), n = self.hr_corner, self.hr
        return x[..., y : y + n, x0 : x0 + n, :]


def crop(
    record: Record,
    other: Elsewhere,
    rng: np.random.Generator,
    plan: CropPlan,
    name: str = "",
    sides: tuple[int, int] | None = None,
    *,
    all_drawn: bool = False,
) -> Sample:
    """Draw a sample.

    Args:
        record: the clip.
        other: opens an image of another clip, for references that have nothing to do with this one.
        name: the record's, for messages.
        sides: (HR, LR) side of the crop; by default as the plan says for the record's scale.
        all_drawn: the record's key-frames and candidates have been drawn for this sample already: take all.

    Raises:
        InputError: the record is shorter or smaller than a sample, or has no key-frame.
    """
    count = len(record.lr)
    usable = np.flatnonzero((record.candidates >= 0).any(axis=1))
    if count < plan.frames or (plan.references and not usable.size):
        raise InputError(
            f"{name}: a record of {count} frames and {usable.size} key-frames with references; the plan takes"
            f" {plan.frames} frames: prepare longer records, or set data.clip lower"
        )
    first, chosen = _moments(record, usable, rng, plan, all_drawn)
    if sides is None:
        sides = plan.sides(record.hr.shape[1] / record.lr.shape[1])
    box = _place(record, chosen, rng, sides, name)
    span = slice(first, first + plan.frames)
    scale = np.array([record.hr.shape[i] / record.lr.shape[i] for i in (1, 2)])
    shape = (plan.keys, plan.references)
    sample = Sample(
        lr=box.of_lr(record.lr[span]),
        hr=box.of_hr(record.hr[span]),
        features=box.of_lr(record.features[span]),
        to_next=box.of_lr(record.to_next[span]).copy(),
        to_previous=box.of_lr(record.to_previous[span]).copy(),
        origin=((np.array(box.hr_corner) + 0.5) / scale - 0.5 - np.array(box.lr_corner)).astype(np.float32),
        step=(1.0 / scale).astype(np.float32),
        key_index=np.zeros(plan.keys, np.int32),
        key_valid=np.zeros(plan.keys, np.float32),
        images=np.zeros((*shape, plan.window, plan.window, 3), np.uint8),
        sizes=np.ones((*shape, 2), np.int32),
        warps=np.zeros((*shape, box.hr, box.hr, 2), np.float32),
        confidence=np.zeros((*shape, box.hr, box.hr, 1), np.float32),
        valid=np.zeros(shape, np.float32),
    )
    # No neighbour beyond the ends of the crop in time.
    sample.to_next[-1] = sample.to_previous[0] = 0.0
    alone = rng.random() < plan.self_references
    for slot, k in enumerate(chosen):
        sample.key_index[slot], sample.key_valid[slot] = record.keys[k] - first, 1.0
        slots = np.flatnonzero(record.candidates[k] >= 0)
        fewest = min(plan.fewest_references, len(slots))
        most = min(plan.references, len(slots))
        n = most if all_drawn else int(rng.integers(fewest, most + 1))
        for place, j in enumerate(rng.permutation(slots)[:n]):
            image, warp, confidence = _reference(
                record, other, k, int(j), box, rng, plan, float(scale[0]), alone
            )
            h, w = image.shape[:2]
            sample.images[slot, place, :h, :w] = image
            sample.sizes[slot, place] = h, w
            sample.warps[slot, place], sample.confidence[slot, place] = warp, confidence
            sample.valid[slot, place] = 1.0
    return sample


def _moments(
    record: Record, usable: np.ndarray, rng: np.random.Generator, plan: CropPlan, all_drawn: bool
) -> tuple[int, list[int]]:
    """The sample's first frame, and its key-frames out of the `usable`."""
    count = len(record.lr)
    if not plan.references:
        return int(rng.integers(count - plan.frames + 1)), []
    anchor = int(rng.choice(usable))
    key = int(record.keys[anchor])
    first = int(rng.integers(max(0, key - plan.frames + 1), min(key, count - plan.frames) + 1))
    others = [int(k) for k in usable if k != anchor and 0 <= record.keys[k] - first < plan.frames]
    more = len(others) if all_drawn else min(int(rng.integers(0, plan.keys)), len(others))
    return first, [anchor, *rng.permutation(np.array(others, int))[:more].tolist()]


@dataclass(frozen=True)
class RecordCrop:
    """Opens a record and draws a sample of it, with others of `files` for references that do not belong.

    Records may be of several scales: a batch is of one, so that its samples stack.

    Attributes:
        files: the records.
        plan: how they are cropped.
        sides: of each record's crops, (HR, LR).
    """

    files: Sequence[Path]
    plan: CropPlan
    sides: Mapping[Path, tuple[int, int]]

    @classmethod
    def of(cls, files: Sequence[Path], plan: CropPlan) -> "RecordCrop":
        """
        Raises:
            InputError: see `record_scale`.
        """
        return cls(files, plan, {file: plan.sides(record_scale(file)) for file in files})

    def common(self, rng: np.random.Generator) -> tuple[int, int]:
        """The sides of a batch's crops: each as often as there are records with them."""
        return self.sides[self.files[int(rng.integers(len(self.files)))]]

    def __call__(self, file: Path, rng: np.random.Generator, sides: tuple[int, int] | None = None) -> Sample:
        if sides is not None and self.sides[file] != sides:
            alike = [file for file in self.files if self.sides[file] == sides]
            file = alike[int(rng.integers(len(alike)))]
        return crop(load_record(file), partial(self._other, file), rng, self.plan, str(file))

    def _other(self, file: Path, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
        """A reference of a record of another clip; of any record where a few are all of the same."""
        own = record_provenance(file).get("clip")
        found = file
        for _ in range(TRIES):
            found = self.files[int(rng.integers(len(self.files)))]
            clip = record_provenance(found).get("clip")
            if found != file and (own is None or clip != own):
                break
        references = load_record(found).references
        return references[int(rng.integers(len(references)))]


def stack(samples: Sequence[Sample], slots: tuple[int, int]) -> Sample:
    """A batch, its slots for key-frames and for references cut down to `slots` of each.

    Raises:
        InputError: samples of several scales.
    """
    k, n = slots
    if len({(sample.hr.shape, sample.lr.shape) for sample in samples}) > 1:
        raise InputError("records of several scales do not stack; set batch_size=1")
    batch = Sample(*(np.stack(leaves) for leaves in zip(*samples, strict=True)))
    keys = {name: getattr(batch, name)[:, :k] for name in ("key_index", "key_valid")}
    names = ("images", "sizes", "warps", "confidence", "valid")
    return batch._replace(**keys, **{name: getattr(batch, name)[:, :k, :n] for name in names})


def fullest(samples: Sequence[Sample]) -> tuple[int, int]:
    """The most key-frames of a sample, and the most references of a key-frame."""
    return (
        max(int(sample.key_valid.sum()) for sample in samples),
        max(int(sample.valid.sum(axis=1).max(initial=0)) for sample in samples),
    )


def _place(
    record: Record, keys: Sequence[int], rng: np.random.Generator, sides: tuple[int, int], name: str
) -> _Box:
    """Where to crop: of a few places the first that is matched well, or the best."""
    (h, w), (height, width) = record.lr.shape[1:3], record.hr.shape[1:3]
    hr, lr = sides
    if hr < 1:
        raise InputError(f"data.lr is {lr}: at x{height / h:.2f} it covers no multiple of 32; set it higher")
    if lr > min(h, w) or hr > min(height, width):
        raise InputError(
            f"{name}: frames of {width}x{height} (LR {w}x{h}) are smaller than a crop of {hr} (LR {lr});"
            " set data.crop lower"
        )
    best, best_share = None, -1.0
    for _ in range(TRIES):
        corner = int(rng.integers(0, h - lr + 1)), int(rng.integers(0, w - lr + 1))
        # The HR crop lies where the LR window covers it.
        low = [-(-c * n // m) for c, n, m in zip(corner, (height, width), (h, w), strict=True)]
        high = [(c + lr) * n // m - hr for c, n, m in zip(corner, (height, width), (h, w), strict=True)]
        hr_corner = tuple(int(rng.integers(a, max(a, b) + 1)) for a, b in zip(low, high, strict=True))
        box = _Box(corner, lr, (hr_corner[0], hr_corner[1]), hr)
        share = float(np.mean(box.of_hr(record.confidence[keys[0]]) > CONFIDENT)) if keys else 1.0
        if share > best_share:
            best, best_share = box, share
        if share >= MATCHED_SHARE:
            break
    assert best is not None
    return best


def _reference(
    record: Record,
    other: Elsewhere,
    key: int,
    slot: int,
    box: _Box,
    rng: np.random.Generator,
    plan: CropPlan,
    scale: float,
    alone: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A reference as LRRF gets it: image, warp and confidence."""
    image = record.references[record.candidates[key, slot]]
    warp = box.of_hr(record.warps[key, slot]).astype(np.float32)
    confidence = box.of_hr(record.confidence[key, slot]).astype(np.float32)
    spoil = _spoilers(other)[int(rng.integers(4))] if rng.random() < plan.distractors else None
    y, x = _window(image.shape[:2], warp, confidence, rng, plan)
    side = plan.window
    image = image[y : y + side, x : x + side]
    warp = warp - np.array([x, y], np.float32)
    if spoil is not None:
        image, confidence = spoil(image, confidence, rng)
    kind = rng.random()
    if alone or kind < plan.self_references:
        down, up = scale, 1.0
    elif kind < plan.self_references + plan.sharp_references:
        down, up = 1.0, 1.0
    else:
        down = rng.uniform(1.0, 4.0)
        up = rng.uniform(1.0, down)
    return (*_degrade(image, warp, down, up), confidence)


def _window(
    size: tuple[int, int],
    warp: np.ndarray,
    confidence: np.ndarray,
    rng: np.random.Generator,
    plan: CropPlan,
) -> tuple[int, int]:
    """Corner (y, x) of the reference's part that is kept: around what matches."""
    sure = confidence[..., 0] > CONFIDENT
    places = warp[sure] if sure.any() else warp.reshape(-1, 2)
    middle = np.median(places, axis=0)[::-1] + rng.uniform(-plan.jitter, plan.jitter, 2)
    highest = [max(0, n - plan.window) for n in size]
    y, x = (int(np.clip(round(m - plan.window / 2), 0, top)) for m, top in zip(middle, highest, strict=True))
    return y, x


def _degrade(image: np.ndarray, warp: np.ndarray, down: float, up: float) -> tuple[np.ndarray, np.ndarray]:
    """Shrunk by `down`, then enlarged by `up`, both antialiased bicubic; the warp goes along."""
    h, w = image.shape[:2]
    small = _resize(image, (max(1, round(h / down)), max(1, round(w / down))))
    final = _resize(small, (max(1, round(h / down * up)), max(1, round(w / down * up))))
    factor = np.array([final.shape[1] / w, final.shape[0] / h], np.float32)
    return final, (warp + 0.5) * factor - 0.5


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


Spoiler = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def _spoilers(other: Elsewhere) -> tuple[Spoiler, ...]:
    """Ways to make a reference useless. What does not match gets next to no confidence from a matcher."""

    def unsure(confidence: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return confidence * np.float32(rng.uniform(0.0, 0.05))

    def unrelated(image, confidence, rng):
        picture = other(rng)
        h, w = min(image.shape[0], picture.shape[0]), min(image.shape[1], picture.shape[1])
        y, x = int(rng.integers(picture.shape[0] - h + 1)), int(rng.integers(picture.shape[1] - w + 1))
        return picture[y : y + h, x : x + w], unsure(confidence, rng)

    def elsewhere(image, confidence, rng):
        return np.roll(image, (image.shape[0] // 2, image.shape[1] // 2), (0, 1)), unsure(confidence, rng)

    def black(image, confidence, rng):
        return np.zeros_like(image), unsure(confidence, rng)

    def blurred(image, confidence, rng):
        h, w = image.shape[:2]
        factor = rng.uniform(LOWEST_BLUR, HIGHEST_BLUR)
        small = _resize(image, (max(1, round(h / factor)), max(1, round(w / factor))))
        return _resize(small, (h, w)), confidence

    return unrelated, elsewhere, black, blurred
