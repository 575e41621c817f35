"""The frozen networks' part of live samples: only what crops need, in a few programs of fixed shapes.

For a batch of clips:

1. Key-frames and references are matched at one fixed size, as whole frames: a matcher finds little in a crop.
   The key-frame is the LR frame, resized; records match the backbone's image of it.
2. Each sample's crop is placed where enough of it matches.
3. The backbone runs on the LR crop and `HALO` pixels around it. Features, flows, routes and the images of
   key-frames are cut to the crop on the device.
4. Matches are refined on the HR crop and `MARGIN` pixels around it.

Every device computes its own samples, and its share of all pairs of the batch.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array
from PIL import Image

from ldip_jax.data.clips import ClipSample
from ldip_jax.data.crops import (
    CropBox,
    CropSpec,
    Sample,
    SamplePlacement,
    cut_sample,
    matched_share,
    place_crop,
)
from ldip_jax.data.records import Record
from ldip_jax.data.reference_degradation import OpenUnrelated
from ldip_jax.matching.dense import DenseMatcher
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.networks.backbone import Flows
from ldip_jax.training import live_programs
from ldip_jax.training.frozen import bare_record
from ldip_jax.training.live_programs import HALO, MARGIN, BackboneOutputs, PairInputs, WindowInputs

# Pairs that a device matches at a time.
PAIRS_PER_DEVICE = 4

PairKey = tuple[int, int, int]
"""A pair: its sample, and the places of its key-frame and its candidate in the record."""


class CoarseMatches(NamedTuple):
    """A part of the batch's pairs, matched as whole frames. Arrays are on the devices."""

    pairs: list[PairKey]
    flow: Array
    confidence: Array
    confident: Array


class LiveSampler:
    """Makes the samples of a batch from its clips."""

    def __init__(
        self,
        net: LDIP,
        params: dict[str, Any],
        matcher: DenseMatcher | None,
        spec: CropSpec,
        *,
        batch_size: int,
        canvas: tuple[int, int] = (1, 1),
        scale: tuple[float, float] = (4.0, 4.0),
    ):
        """
        Args:
            net, params: the backbone, and the flow network that HRIP follows, if it is another one.
            matcher: finds the references' content in key-frames; None if clips bring their own warps.
            spec: how crops are drawn.
            batch_size: samples of a batch in this process; its devices share them.
            canvas: the largest shorter and longer side of all clips.
            scale: the lowest and the highest.
        """
        devices = jax.local_devices()
        self._mesh = Mesh(np.array(devices[: np.gcd(len(devices), batch_size)]), ("devices",))
        self._net, self._spec, self._matcher = net, spec, matcher
        self._batch_size, self._canvas = batch_size, canvas
        self._scale_varies, self._max_scale = scale[0] != scale[1], scale[1] + 0.5
        self._halo = HALO if spec.max_references else 0
        self._params = self._replicated({"params": params})
        self._programs: dict[Any, Callable[[Any, Any], Any]] = {}

    def __call__(
        self,
        clips: Sequence[ClipSample],
        rngs: Sequence[np.random.Generator],
        open_unrelated: Sequence[OpenUnrelated],
        sides: tuple[int, int],
    ) -> list[Sample]:
        """Samples with all slots for key-frames and references.

        Args:
            clips: as many as samples, up to `batch_size`, all of about one scale.
            rngs: each sample's source of randomness.
            open_unrelated: each opens an image of another clip than the sample's.
            sides: (HR, LR) sides of the crops, see `CropPlan.sides`.

        Raises:
            InputError: frames are smaller than a crop.
        """
        records = [bare_record(clip) for clip in clips]
        coarse = self._match_coarsely(records)
        confident = {
            key: x for part in coarse for key, x in zip(part.pairs, np.asarray(part.confident), strict=False)
        }
        placements = [
            place_crop(
                record, rng, self._spec, sides, partial(_coarse_share, record, confident, i), clip.name
            )
            for i, (clip, record, rng) in enumerate(zip(clips, records, rngs, strict=True))
        ]
        outputs = self._run_backbone(clips, records, placements, sides)
        matched = {}
        for part in coarse:
            matched |= self._refine(part, clips, records, placements, outputs, sides)
        samples = []
        for i, (record, place) in enumerate(zip(records, placements, strict=True)):
            record = _add_outputs(record, place.box, jax.tree.map(lambda x, i=i: x[i], outputs), matched, i)
            samples.append(cut_sample(record, place, open_unrelated[i], rngs[i], self._spec, clips[i].name))
        return samples

    def can_match(self, sizes: Iterable[tuple[int, int]]) -> bool:
        """Whether frames of these sizes (height, width) can be matched."""
        fits = (min(size) <= self._canvas[0] and max(size) <= self._canvas[1] for size in sizes)
        return self._matcher is None or all(fits)

    def _match_coarsely(self, records: Sequence[Record]) -> list[CoarseMatches]:
        """Match all pairs of the batch, a few per device at a time; nothing waits for the devices."""
        pairs = list(_pairs(records))
        if not pairs:
            return []
        matcher = self._matcher
        if matcher is None:
            raise ValueError("clips without exact warps need a matcher")
        size = matcher.matching_size(self._canvas)
        run = self._program("match", partial(live_programs.match, matcher.flow))
        params = self._replicated(matcher.params)
        parts = []
        for batch_pairs in self._device_batches(pairs):
            images = [
                [
                    _resize(_to_landscape(image), size)
                    for image in (records[i].lr[records[i].key_frames[k]], reference)
                ]
                for i, k, n in batch_pairs
                for reference in [records[i].references[records[i].candidates[k, n]]]
            ]
            batch = tuple(np.stack(part) for part in zip(*images, strict=True))
            parts.append(CoarseMatches(batch_pairs, *run(params, self._shard(batch))))
        return parts

    def _run_backbone(
        self,
        clips: Sequence[ClipSample],
        records: Sequence[Record],
        placements: Sequence[SamplePlacement],
        sides: tuple[int, int],
    ) -> BackboneOutputs:
        """What the backbone finds, on the host."""
        spec, exact = self._spec, records[0].to_next.size > 0
        matches = spec.max_references > 0 and records[0].warps.size == 0
        windows = [
            self._window_inputs(clip, record, place, exact)
            for clip, record, place in zip(clips, records, placements, strict=True)
        ]
        windows += [windows[0]] * (self._batch_size - len(windows))
        if not matches and not spec.routes:
            # The side of the HR crop is of no consequence, and must not make another program.
            sides = 0, sides[1]
        function = partial(live_programs.run_backbone, self._net, sides, matches, spec.routes)
        run = self._program(("run_backbone", sides, matches), function)
        batch = jax.tree.map(lambda *parts: np.stack(parts), *windows)
        return jax.device_get(run(self._params, self._shard(batch)))

    def _window_inputs(
        self, clip: ClipSample, record: Record, placement: SamplePlacement, exact: bool
    ) -> WindowInputs:
        size, box = record.lr.shape[1:3], placement.box
        hr_size = record.hr.shape[1:3]
        wide = [box.lr_side + 2 * self._halo] * 2
        if not self._scale_varies:
            wide = [min(n, side) for n, side in zip(wide, size, strict=True)]
        corner = _move_inside(box.lr_corner, [self._halo] * 2, wide, size)
        step = np.array([h / H for h, H in zip(size, hr_size, strict=True)])
        origin = (np.array(box.hr_corner) + 0.5) * step - 0.5 - corner
        margin = (np.array(self._margin_corner(box, hr_size)) + 0.5) * step - 0.5 - corner
        key_frames = (
            np.resize(record.key_frames, self._spec.max_key_frames)
            if len(record.key_frames)
            else np.zeros(self._spec.max_key_frames)
        )
        flows: Any = (_cut_window(x, corner, wide) for x in (record.to_next, record.to_previous) if exact)
        parts: dict[str, Any] = {
            "frames": _cut_window(record.lr, corner, wide),
            "corner": (np.array(box.lr_corner) - corner).astype(np.int32),
            "key_frames": key_frames.astype(np.int32),
            "origin": origin.astype(np.float32),
            "step": step.astype(np.float32),
            "margin": margin.astype(np.float32),
            "flows": Flows(*flows) if exact else None,
        }
        return WindowInputs(**parts)

    @staticmethod
    def _margin_corner(box: CropBox, size: Sequence[int]) -> tuple[int, int]:
        """First pixel of an HR crop with its margin, which stays inside the frame if that is large enough."""
        return _move_inside(box.hr_corner, [MARGIN] * 2, [box.hr_side + 2 * MARGIN] * 2, size)

    def _refine(
        self,
        part: CoarseMatches,
        clips: Sequence[ClipSample],
        records: Sequence[Record],
        placements: Sequence[SamplePlacement],
        outputs: BackboneOutputs,
        sides: tuple[int, int],
    ) -> dict[PairKey, tuple[np.ndarray, np.ndarray]]:
        """Warps and confidence of some pairs at the crops."""
        assert self._matcher is not None
        assert outputs.key_frame_images is not None
        inputs = []
        for i, k, n in part.pairs:
            record, box = records[i], placements[i].box
            reference = record.references[record.candidates[k, n]]
            size = reference.shape[:2]
            place = self._margin_corner(box, size)
            canvas = np.zeros((*self._canvas, 3), np.uint8)
            lying = _to_landscape(reference)
            canvas[: lying.shape[0], : lying.shape[1]] = lying
            pair: dict[str, Any] = {
                "images": np.asarray(outputs.key_frame_images[i, k]),
                "references": canvas,
                "is_portrait": np.array(size[0] > size[1]),
                "size": np.array(size, np.float32),
                "place": np.array(place, np.float32),
                "corner": (np.array(box.hr_corner) - place).astype(np.int32),
                "scale": np.array(clips[i].scale, np.float32),
            }
            inputs.append(PairInputs(**pair))
        refiner = self._matcher.refiner
        params = self._replicated(None if refiner is None else refiner.params)
        run = self._program(("refine", sides[0]), partial(live_programs.refine, sides[0], self._max_scale))
        pairs = self._shard(jax.tree.map(lambda *leaves: np.stack(leaves), *inputs))
        found = jax.device_get(run(params, (part.flow, part.confidence, pairs)))
        return dict(zip(part.pairs, zip(*found, strict=True), strict=False))

    def _device_batches(self, pairs: list[PairKey]) -> Iterable[list[PairKey]]:
        """As many pairs at a time as the devices take; the last ones are repeated."""
        count = PAIRS_PER_DEVICE * self._mesh.size
        for first in range(0, len(pairs), count):
            batch_pairs = pairs[first : first + count]
            yield [*batch_pairs, *[batch_pairs[-1]] * (count - len(batch_pairs))]

    def _replicated(self, params: Any) -> Any:
        return jax.device_put(params, NamedSharding(self._mesh, PartitionSpec()))

    def _shard(self, batch: Any) -> Any:
        return jax.device_put(batch, NamedSharding(self._mesh, PartitionSpec("devices")))

    def _program(self, name: Any, f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """`f(params, batch)` compiled, with each device computing its own part of the batch."""
        if name not in self._programs:
            specs = PartitionSpec(), PartitionSpec("devices")
            sharded = jax.shard_map(
                f, mesh=self._mesh, in_specs=specs, out_specs=PartitionSpec("devices"), check_vma=False
            )
            self._programs[name] = jax.jit(sharded)
        return self._programs[name]


def _pairs(records: Sequence[Record]) -> Iterable[PairKey]:
    """All pairs that have no exact match."""
    for i, record in enumerate(records):
        if not record.warps.size:
            for k, n in np.argwhere(record.candidates >= 0).tolist():
                yield i, k, n


def _to_landscape(image: np.ndarray) -> np.ndarray:
    """The image, rows and columns exchanged if it is higher than wide: pairs of both kinds have one size."""
    return image.swapaxes(0, 1) if image.shape[0] > image.shape[1] else image


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Antialiased bicubic, on the host, because the sizes of frames vary with the scale."""
    height, width = size
    whole = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(whole.resize((width, height), Image.Resampling.BICUBIC))


def _coarse_share(
    record: Record, confident: dict[PairKey, np.ndarray], sample: int, key_frame: int, box: CropBox
) -> float:
    """The share of a crop that matches, found in coarse matches if these are not exact."""
    if record.warps.size:
        return matched_share(record, key_frame, box)
    size = record.hr.shape[1:3]
    shares = []
    for n in np.flatnonzero(record.candidates[key_frame] >= 0):
        found = confident[sample, key_frame, int(n)]
        found = found.T if size[0] > size[1] else found
        rows, columns = (
            slice(c * m // full, -(-(c + box.hr_side) * m // full))
            for c, m, full in zip(box.hr_corner, found.shape, size, strict=True)
        )
        shares.append(float(np.mean(found[rows, columns])))
    return float(np.mean(shares))


def _move_inside(
    corner: Sequence[int], around: Sequence[int], wide: Sequence[int], size: Sequence[int]
) -> tuple[int, int]:
    """First pixel (y, x) of a window around a crop, moved into the frame as far as that is large enough."""
    y, x = (
        int(np.clip(c - a, 0, max(0, n - w))) for c, a, w, n in zip(corner, around, wide, size, strict=True)
    )
    return y, x


def _cut_window(x: np.ndarray, corner: Sequence[int], wide: Sequence[int]) -> np.ndarray:
    """A window of maps `t h w c`; its edges repeat if the frame is smaller."""
    (top, left), (height, width) = corner, wide
    x = x[:, top : top + height, left : left + width]
    missing = height - x.shape[1], width - x.shape[2]
    return np.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), mode="edge") if any(missing) else x


def _add_outputs(
    record: Record,
    box: CropBox,
    outputs: BackboneOutputs,
    matched: dict[PairKey, tuple[np.ndarray, np.ndarray]],
    sample: int,
) -> Record:
    """The record with what networks found at the crop."""
    record = record._replace(features=outputs.features)
    if not record.to_next.size:
        record = record._replace(to_next=outputs.flows.to_next, to_previous=outputs.flows.to_previous)
    if outputs.route_warps is not None:
        # As of whole frames.
        places = outputs.route_warps + np.array(box.hr_corner[::-1], np.float32)
        record = record._replace(route_warps=places, route_confidence=outputs.route_confidence)
    if record.warps.size or not record.candidates.size:
        return record
    shape = (*record.candidates.shape, box.hr_side, box.hr_side)
    warps, confidence = np.zeros((*shape, 2), np.float32), np.zeros((*shape, 1), np.float32)
    for (i, k, n), found in matched.items():
        if i == sample:
            warps[k, n], confidence[k, n] = found
    return record._replace(warps=warps, confidence=confidence)
