"""Training samples from records: crops in space and time, with degraded references (paper, 8.1).

All randomness comes from the generator that is passed in: the same record and seed give the same sample.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from ldip_jax.data.crop_spec import BatchCounts, CropSpec
from ldip_jax.data.records import Record, open_record, record_provenance, record_scale
from ldip_jax.data.reference_degradation import OpenUnrelated, crop_lr_reference, degrade, distractor_makers
from ldip_jax.errors import InputError
from ldip_jax.matching import CONFIDENT

# A crop is used if at least this share of its pixels matches with confidence above 0.5; else another one is
# drawn, up to `MAX_DRAWS` in all.
MIN_MATCHED_SHARE = 0.2
MAX_DRAWS = 4


class Sample(NamedTuple):
    """A training sample with empty slots masked; a batch stacks samples along a new first axis.

    Attributes:
        lr, hr: frames, uint8 RGB.
        features, to_next, to_previous: as in `Record`, cropped.
        origin, step: place (y, x) of the first HR pixel in LR pixels of the crop, and LR pixels per HR pixel.
        key_frames, key_valid: key-frames, and whether a slot holds one.
        images, sizes: references on canvases of one size, uint8 RGB, and their true (height, width).
        warps, confidence: as in `Record`, in pixels of the degraded references.
        valid: whether a slot holds a reference.
        route_warps, route_confidence: as in `Record`, in HR pixels of the crop; None if detail is not
            carried.
    """

    lr: UInt8[np.ndarray, "t h w 3"]
    hr: UInt8[np.ndarray, "t H W 3"]
    features: Float[np.ndarray, "t h w c"]
    to_next: Float[np.ndarray, "t h w 2"]
    to_previous: Float[np.ndarray, "t h w 2"]
    origin: Float[np.ndarray, "2"]
    step: Float[np.ndarray, "2"]
    key_frames: Int[np.ndarray, "k"]
    key_valid: Float[np.ndarray, "k"]
    images: UInt8[np.ndarray, "k n R R 3"]
    sizes: Int[np.ndarray, "k n 2"]
    warps: Float[np.ndarray, "k n H W 2"]
    confidence: Float[np.ndarray, "k n H W 1"]
    valid: Float[np.ndarray, "k n"]
    route_warps: Float[np.ndarray, "t k H W 2"] | None = None
    route_confidence: Float[np.ndarray, "t k H W 1"] | None = None


class CropBox(NamedTuple):
    """A crop: the corner (y, x) and side of the LR window and of the HR crop."""

    lr_corner: tuple[int, int]
    lr_side: int
    hr_corner: tuple[int, int]
    hr_side: int

    def crop_lr(self, x: Any, *leading: int | slice) -> np.ndarray:
        """The crop of maps `*lead h w c`, some or all of them; maps may be cut already.

        Args:
            x: an array, or one of a record that is read when it is indexed (`open_record`).
            leading: what to take along the leading axes.
        """
        return _crop_maps(x, leading, self.lr_corner, self.lr_side)

    def crop_hr(self, x: Any, *leading: int | slice) -> np.ndarray:
        """The same at HR."""
        return _crop_maps(x, leading, self.hr_corner, self.hr_side)


def _crop_maps(x: Any, leading: tuple[int | slice, ...], corner: tuple[int, int], side: int) -> np.ndarray:
    top, left = (0, 0) if x.shape[-3:-1] == (side, side) else corner
    return x[(*leading, slice(top, top + side), slice(left, left + side))]


class SamplePlacement(NamedTuple):
    """Where a sample lies in a clip.

    Attributes:
        first: its first frame.
        key_frames: its key-frames, as places in the record's `keys`.
        box: its crop.
    """

    first: int
    key_frames: list[int]
    box: CropBox


def draw_crop(
    record: Record,
    open_unrelated: OpenUnrelated,
    rng: np.random.Generator,
    spec: CropSpec,
    name: str = "",
    counts: BatchCounts | None = None,
) -> Sample:
    """Draw a sample from a record.

    Args:
        record: the clip.
        open_unrelated: opens an image of another clip, for references that are unrelated to this one.
        name: the record's name, for messages.
        counts: of key-frames and references, as its batch has drawn them; None: from the ranges of `spec`.

    Raises:
        InputError: the record is shorter or smaller than a sample, has no key-frame with references, or lacks
            the routes that `spec` asks for.
    """
    counts = counts or BatchCounts(
        (1, spec.max_key_frames), (spec.min_references, spec.max_references), (0, 0)
    )
    sides = spec.sides(record.hr.shape[1] / record.lr.shape[1])
    place = place_crop(record, rng, spec, sides, partial(matched_share, record), name, counts)
    return cut_sample(record, place, open_unrelated, rng, spec, name, counts)


MatchedShare = Callable[[int, CropBox], float]
"""The share of a crop's pixels, in [0, 1], that match the candidates of one of the record's key-frames."""


def matched_share(record: Record, key_frame: int, box: CropBox) -> float:
    """See `MatchedShare`."""
    # Empty slots match nowhere.
    slots = np.flatnonzero(record.candidates[key_frame] >= 0).tolist()
    return float(np.mean([np.mean(box.crop_hr(record.confidence, key_frame, n) > CONFIDENT) for n in slots]))


def place_crop(
    record: Record,
    rng: np.random.Generator,
    spec: CropSpec,
    sides: tuple[int, int],
    matched_share: MatchedShare,
    name: str = "",
    counts: BatchCounts | None = None,
) -> SamplePlacement:
    """Draw where a sample lies; nothing that networks compute is read from the record.

    Args:
        sides: (HR, LR) sides of the crop.
        counts: of key-frames and references; None: the record's key-frames and candidates were drawn for
            this sample, so that all of them are used.

    Raises:
        InputError: see `crop`.
    """
    usable = np.flatnonzero((record.candidates >= 0).any(axis=1))
    if len(record.lr) < spec.target_frames or (spec.max_references and not usable.size):
        raise InputError(
            f"{name}: a record of {len(record.lr)} frames and {usable.size} key-frames with references;"
            f" a sample takes {spec.target_frames} frames: prepare longer records, or set data.clip lower"
        )
    first, key_frames = _choose_frames(record, usable, rng, spec, counts)
    return SamplePlacement(
        first, key_frames, _choose_box(record, key_frames, rng, sides, matched_share, name)
    )


def cut_sample(
    record: Record,
    placement: SamplePlacement,
    open_unrelated: OpenUnrelated,
    rng: np.random.Generator,
    spec: CropSpec,
    name: str = "",
    counts: BatchCounts | None = None,
) -> Sample:
    """A sample at a place of a clip, with degraded references.

    Args:
        record: the clip. The output of networks may be of whole frames or only of the crop.
        placement: see `place_crop`.
        open_unrelated, counts: as for `crop` and `place_crop`.

    Raises:
        InputError: the record lacks the routes that `spec` asks for.
    """
    first, key_frames, box = placement
    span = slice(first, first + spec.target_frames)
    scale = np.array([record.hr.shape[i] / record.lr.shape[i] for i in (1, 2)])
    shape = (spec.max_key_frames, spec.max_references)
    sample = Sample(
        lr=box.crop_lr(record.lr, span),
        hr=box.crop_hr(record.hr, span),
        features=box.crop_lr(record.features, span),
        to_next=box.crop_lr(record.to_next, span).copy(),
        to_previous=box.crop_lr(record.to_previous, span).copy(),
        origin=((np.array(box.hr_corner) + 0.5) / scale - 0.5 - np.array(box.lr_corner)).astype(np.float32),
        step=(1.0 / scale).astype(np.float32),
        key_frames=np.zeros(spec.max_key_frames, np.int32),
        key_valid=np.zeros(spec.max_key_frames, np.float32),
        images=np.zeros((*shape, spec.reference_side, spec.reference_side, 3), np.uint8),
        sizes=np.ones((*shape, 2), np.int32),
        warps=np.zeros((*shape, box.hr_side, box.hr_side, 2), np.float32),
        confidence=np.zeros((*shape, box.hr_side, box.hr_side, 1), np.float32),
        valid=np.zeros(shape, np.float32),
    )
    if spec.routes:
        sample = _add_routes(sample, record, span, key_frames, box, name)
    # The first and last frames of the crop have no neighbour beyond it.
    sample.to_next[-1] = sample.to_previous[0] = 0.0
    all_at_lr = rng.random() < spec.self_references
    for slot, k in enumerate(key_frames):
        sample.key_frames[slot], sample.key_valid[slot] = record.key_frames[k] - first, 1.0
        slots = np.flatnonzero(record.candidates[k] >= 0)
        n = len(slots)
        if counts is not None:
            fewest, most = (min(bound, len(slots)) for bound in counts.references)
            n = int(rng.integers(fewest, most + 1))
        for position, j in enumerate(rng.permutation(slots)[:n]):
            image, warp, confidence = _make_reference(
                record, open_unrelated, k, int(j), box, rng, spec, float(scale[0]), all_at_lr
            )
            h, w = image.shape[:2]
            sample.images[slot, position, :h, :w] = image
            sample.sizes[slot, position] = h, w
            sample.warps[slot, position], sample.confidence[slot, position] = warp, confidence
            sample.valid[slot, position] = 1.0
    return sample


def _add_routes(
    sample: Sample, record: Record, span: slice, key_frames: Sequence[int], box: CropBox, name: str
) -> Sample:
    """The sample with the routes from its frames to its key-frames."""
    if record.route_warps is None or record.route_confidence is None:
        raise InputError(
            f"{name}: contains no routes for carried detail; make the records again, or set"
            " config.propagation=hrip"
        )
    shape = (len(sample.lr), len(sample.key_frames), box.hr_side, box.hr_side)
    warps, confidence = np.zeros((*shape, 2), np.float32), np.zeros((*shape, 1), np.float32)
    corner = np.array(box.hr_corner[::-1], np.float32)
    for slot, k in enumerate(key_frames):
        warps[:, slot] = box.crop_hr(record.route_warps, span, k) - corner
        confidence[:, slot] = box.crop_hr(record.route_confidence, span, k).astype(np.float32)
    return sample._replace(route_warps=warps, route_confidence=confidence)


def _choose_frames(
    record: Record, usable: np.ndarray, rng: np.random.Generator, spec: CropSpec, counts: BatchCounts | None
) -> tuple[int, list[int]]:
    """The sample's first frame, and its key-frames, chosen from the `usable` ones."""
    count = len(record.lr)
    if not spec.max_references:
        return int(rng.integers(count - spec.target_frames + 1)), []
    first_key_frame = int(rng.choice(usable))
    key = int(record.key_frames[first_key_frame])
    first = int(rng.integers(max(0, key - spec.target_frames + 1), min(key, count - spec.target_frames) + 1))
    others = [
        int(k)
        for k in usable
        if k != first_key_frame and 0 <= record.key_frames[k] - first < spec.target_frames
    ]
    more = len(others)
    if counts is not None:
        more = min(int(rng.integers(counts.key_frames[0] - 1, counts.key_frames[1])), more)
    return first, [first_key_frame, *rng.permutation(np.array(others, int))[:more].tolist()]


@dataclass(frozen=True)
class RecordCropper:
    """Opens a record and draws a sample from it; unrelated references come from the other `files`.

    Records may have different scales. All samples of a batch have the same one, so that they can be stacked.

    Attributes:
        files: the records.
        spec: how they are cropped.
        sides: the (HR, LR) sides of each record's crops.
    """

    files: Sequence[Path]
    spec: CropSpec
    sides: Mapping[Path, tuple[int, int]]

    @classmethod
    def from_files(cls, files: Sequence[Path], spec: CropSpec) -> "RecordCropper":
        """Read the scales of all records.

        Raises:
            InputError: see `record_scale`.
        """
        return cls(files, spec, {file: spec.sides(record_scale(file)) for file in files})

    def draw_batch_settings(
        self, batch: int, rng: np.random.Generator
    ) -> tuple[tuple[int, int], BatchCounts]:
        """Draw the sides of a batch's crops, and its numbers of key-frames and references.

        The probability of sides is the share of records with these sides. The first batch is the largest.
        """
        sides = self.sides[self.files[int(rng.integers(len(self.files)))]]
        if not batch:
            sides = max(self.sides.values())
        return sides, self.spec.draw_counts(rng, large=not batch)

    def __call__(
        self,
        file: Path,
        rng: np.random.Generator,
        batch_settings: tuple[tuple[int, int], BatchCounts] | None = None,
    ) -> Sample:
        sides, counts = batch_settings or (self.sides[file], None)
        if self.sides[file] != sides:
            alike = [file for file in self.files if self.sides[file] == sides]
            file = alike[int(rng.integers(len(alike)))]
        with open_record(file) as record:
            return draw_crop(record, partial(self._unrelated_image, file), rng, self.spec, str(file), counts)

    def _unrelated_image(self, file: Path, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
        """A reference from a record of another clip; from any record if a few draws find no such record."""
        this_clip = record_provenance(file).get("clip")
        found = file
        for _ in range(MAX_DRAWS):
            found = self.files[int(rng.integers(len(self.files)))]
            clip = record_provenance(found).get("clip")
            if found != file and (this_clip is None or clip != this_clip):
                break
        with open_record(found) as record:
            return record.references[int(rng.integers(len(record.references)))]


def stack(samples: Sequence[Sample], slots: tuple[int, int]) -> Sample:
    """A batch with only the first `slots` slots for key-frames and for references.

    Raises:
        InputError: the samples have different scales.
    """
    k, n = slots
    if len({(sample.hr.shape, sample.lr.shape) for sample in samples}) > 1:
        raise InputError("records of several scales do not stack; set batch_size=1")
    leaves: Any = zip(*samples, strict=True)
    stacks: list[Any] = [None if parts[0] is None else np.stack(parts) for parts in leaves]
    batch = Sample(*stacks)
    key_frames = {name: getattr(batch, name)[:, :k] for name in ("key_frames", "key_valid")}
    if batch.route_warps is not None and batch.route_confidence is not None:
        key_frames |= {
            "route_warps": batch.route_warps[:, :, :k],
            "route_confidence": batch.route_confidence[:, :, :k],
        }
    names = ("images", "sizes", "warps", "confidence", "valid")
    return batch._replace(**key_frames, **{name: getattr(batch, name)[:, :k, :n] for name in names})


def _choose_box(
    record: Record,
    key_frames: Sequence[int],
    rng: np.random.Generator,
    sides: tuple[int, int],
    matched_share: MatchedShare,
    name: str,
) -> CropBox:
    """Where to crop: the first of a few random places that matches well enough, or else the best of them."""
    (h, w), (height, width) = record.lr.shape[1:3], record.hr.shape[1:3]
    hr, lr = sides
    if hr < 1:
        raise InputError(
            f"data.lr_crop is {lr}: at x{height / h:.2f} it covers no multiple of 32; set it higher"
        )
    if lr > min(h, w) or hr > min(height, width):
        raise InputError(
            f"{name}: frames of {width}x{height} (LR {w}x{h}) are smaller than a crop of {hr} (LR {lr});"
            " set data.crop lower"
        )
    best, best_share = None, -1.0
    for _ in range(MAX_DRAWS):
        corner = int(rng.integers(0, h - lr + 1)), int(rng.integers(0, w - lr + 1))
        # The HR crop lies within what the LR window covers.
        low = [-(-c * n // m) for c, n, m in zip(corner, (height, width), (h, w), strict=True)]
        high = [(c + lr) * n // m - hr for c, n, m in zip(corner, (height, width), (h, w), strict=True)]
        hr_corner = tuple(int(rng.integers(a, max(a, b) + 1)) for a, b in zip(low, high, strict=True))
        box = CropBox(corner, lr, (hr_corner[0], hr_corner[1]), hr)
        matched = matched_share(key_frames[0], box) if key_frames else 1.0
        if matched > best_share:
            best, best_share = box, matched
        if matched >= MIN_MATCHED_SHARE:
            break
    assert best is not None
    return best


def _make_reference(
    record: Record,
    open_unrelated: OpenUnrelated,
    key_frame: int,
    slot: int,
    box: CropBox,
    rng: np.random.Generator,
    spec: CropSpec,
    scale: float,
    all_at_lr: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A reference as LRRF gets it: image, warp and confidence."""
    index = int(record.candidates[key_frame, slot])
    warp = box.crop_hr(record.warps, key_frame, slot).astype(np.float32)
    confidence = box.crop_hr(record.confidence, key_frame, slot).astype(np.float32)
    make_distractor = (
        distractor_makers(open_unrelated)[int(rng.integers(4))] if rng.random() < spec.distractors else None
    )
    y, x = _reference_corner(record.references.shape[1:3], warp, confidence, rng, spec)
    side = spec.reference_side
    image = record.references[index, y : y + side, x : x + side]
    warp = warp - np.array([x, y], np.float32)
    if make_distractor is not None:
        image, confidence = make_distractor(image, confidence, rng)
    kind = rng.random()
    if all_at_lr or kind < spec.self_references:
        if record.lr_references is not None and make_distractor is None:
            low = record.lr_references[index]
            return (*crop_lr_reference(low, warp, (y, x), side, record.hr.shape[1:3]), confidence)
        down, up = scale, 1.0
    elif kind < spec.self_references + spec.sharp_references:
        down, up = 1.0, 1.0
    else:
        down = rng.uniform(1.0, 4.0)
        up = rng.uniform(1.0, down)
    return (*degrade(image, warp, down, up), confidence)


def _reference_corner(
    size: tuple[int, int],
    warp: np.ndarray,
    confidence: np.ndarray,
    rng: np.random.Generator,
    spec: CropSpec,
) -> tuple[int, int]:
    """Corner (y, x) of the part of a reference that is kept, which lies around what matches."""
    confident = confidence[..., 0] > CONFIDENT
    places = warp[confident] if confident.any() else warp.reshape(-1, 2)
    middle = np.median(places, axis=0)[::-1] + rng.uniform(-spec.window_jitter, spec.window_jitter, 2)
    highest = [max(0, n - spec.reference_side) for n in size]
    y, x = (
        int(np.clip(round(m - spec.reference_side / 2), 0, top))
        for m, top in zip(middle, highest, strict=True)
    )
    return y, x
