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
from ldip_jax.data.crops import Box, CropPlan, Place, Sample, cut, matched_share, place_crop
from ldip_jax.data.degraded import Elsewhere
from ldip_jax.data.records import Record
from ldip_jax.matching.dense import DenseMatcher
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.networks.backbone import Flows
from ldip_jax.training import programs
from ldip_jax.training.frozen import bare_record
from ldip_jax.training.programs import HALO, MARGIN, Pairs, Seen, Windows

# Pairs that a device matches at a time.
PAIRS = 4

PairKey = tuple[int, int, int]
"""A pair: its sample, and the places of its key-frame and its candidate in the record."""


class Coarse(NamedTuple):
    """A part of the batch's pairs, matched as whole frames. Arrays are on the devices."""

    keys: list[PairKey]
    flow: Array
    confidence: Array
    sure: Array


class LiveWork:
    """Makes the samples of a batch from its clips."""

    def __init__(
        self,
        net: LDIP,
        params: dict[str, Any],
        matcher: DenseMatcher | None,
        plan: CropPlan,
        *,
        batch_size: int,
        canvas: tuple[int, int] = (1, 1),
        scale: tuple[float, float] = (4.0, 4.0),
    ):
        """
        Args:
            net, params: the backbone, and the flow network that HRIP follows, if it is another one.
            matcher: finds the references' content in key-frames; None if clips bring their own warps.
            plan: how crops are drawn.
            batch_size: samples of a batch in this process; its devices share them.
            canvas: the largest shorter and longer side of all clips.
            scale: the lowest and the highest.
        """
        devices = jax.local_devices()
        self._mesh = Mesh(np.array(devices[: np.gcd(len(devices), batch_size)]), ("own",))
        self._net, self._plan, self._matcher = net, plan, matcher
        self._batch_size, self._canvas = batch_size, canvas
        self._varies, self._most = scale[0] != scale[1], scale[1] + 0.5
        self._halo = HALO if plan.references else 0
        self._params = self._replicated({"params": params})
        self._programs: dict[Any, Callable[[Any, Any], Any]] = {}

    def __call__(
        self,
        clips: Sequence[ClipSample],
        rngs: Sequence[np.random.Generator],
        others: Sequence[Elsewhere],
        sides: tuple[int, int],
    ) -> list[Sample]:
        """Samples with all slots for key-frames and references.

        Args:
            clips: as many as samples, up to `batch_size`, all of about one scale.
            rngs: each sample's source of randomness.
            others: each opens an image of another clip than the sample's.
            sides: (HR, LR) sides of the crops, see `CropPlan.sides`.

        Raises:
            InputError: frames are smaller than a crop.
        """
        records = [bare_record(clip) for clip in clips]
        coarse = self._coarse(records)
        sure = {key: x for part in coarse for key, x in zip(part.keys, np.asarray(part.sure), strict=False)}
        places = [
            place_crop(record, rng, self._plan, sides, partial(_share, record, sure, i), clip.name)
            for i, (clip, record, rng) in enumerate(zip(clips, records, rngs, strict=True))
        ]
        seen = self._seen(clips, records, places, sides)
        matched = {}
        for part in coarse:
            matched |= self._refined(part, clips, records, places, seen, sides)
        samples = []
        for i, (record, place) in enumerate(zip(records, places, strict=True)):
            record = _filled(record, place.box, jax.tree.map(lambda x, i=i: x[i], seen), matched, i)
            samples.append(cut(record, place, others[i], rngs[i], self._plan, clips[i].name))
        return samples

    def takes(self, sizes: Iterable[tuple[int, int]]) -> bool:
        """Whether frames of these sizes (height, width) can be matched."""
        fits = (min(size) <= self._canvas[0] and max(size) <= self._canvas[1] for size in sizes)
        return self._matcher is None or all(fits)

    def _coarse(self, records: Sequence[Record]) -> list[Coarse]:
        """Match all pairs of the batch, a few per device at a time; nothing waits for the devices."""
        pairs = list(_pairs(records))
        if not pairs:
            return []
        matcher = self._matcher
        if matcher is None:
            raise ValueError("clips without exact warps need a matcher")
        size = matcher.matching_size(self._canvas)
        run = self._program("match", partial(programs.match, matcher.flow))
        params = self._replicated(matcher.params)
        parts = []
        for some in self._parts(pairs):
            images = [
                [_resized(_lying(image), size) for image in (records[i].lr[records[i].keys[k]], reference)]
                for i, k, n in some
                for reference in [records[i].references[records[i].candidates[k, n]]]
            ]
            batch = tuple(np.stack(part) for part in zip(*images, strict=True))
            parts.append(Coarse(some, *run(params, self._spread(batch))))
        return parts

    def _seen(
        self,
        clips: Sequence[ClipSample],
        records: Sequence[Record],
        places: Sequence[Place],
        sides: tuple[int, int],
    ) -> Seen:
        """What the backbone finds, on the host."""
        plan, exact = self._plan, records[0].to_next.size > 0
        matches = plan.references > 0 and records[0].warps.size == 0
        windows = [
            self._window(clip, record, place, exact)
            for clip, record, place in zip(clips, records, places, strict=True)
        ]
        windows += [windows[0]] * (self._batch_size - len(windows))
        if not matches and not plan.routes:
            # The side of the HR crop is of no consequence, and must not make another program.
            sides = 0, sides[1]
        see = partial(programs.see, self._net, sides, matches, plan.routes)
        run = self._program(("see", sides, matches), see)
        batch = jax.tree.map(lambda *parts: np.stack(parts), *windows)
        return jax.device_get(run(self._params, self._spread(batch)))

    def _window(self, clip: ClipSample, record: Record, place: Place, exact: bool) -> Windows:
        size, box = record.lr.shape[1:3], place.box
        hr_size = record.hr.shape[1:3]
        wide = [box.lr + 2 * self._halo] * 2
        if not self._varies:
            wide = [min(n, side) for n, side in zip(wide, size, strict=True)]
        corner = _kept_inside(box.lr_corner, [self._halo] * 2, wide, size)
        step = np.array([h / H for h, H in zip(size, hr_size, strict=True)])
        origin = (np.array(box.hr_corner) + 0.5) * step - 0.5 - corner
        margin = (np.array(self._margin_corner(box, hr_size)) + 0.5) * step - 0.5 - corner
        keys = np.resize(record.keys, self._plan.keys) if len(record.keys) else np.zeros(self._plan.keys)
        flows: Any = (_part(x, corner, wide) for x in (record.to_next, record.to_previous) if exact)
        parts: dict[str, Any] = {
            "frames": _part(record.lr, corner, wide),
            "corner": (np.array(box.lr_corner) - corner).astype(np.int32),
            "keys": keys.astype(np.int32),
            "origin": origin.astype(np.float32),
            "step": step.astype(np.float32),
            "margin": margin.astype(np.float32),
            "flows": Flows(*flows) if exact else None,
        }
        return Windows(**parts)

    @staticmethod
    def _margin_corner(box: Box, size: Sequence[int]) -> tuple[int, int]:
        """First pixel of an HR crop with its margin, which stays inside the frame if that is large enough."""
        return _kept_inside(box.hr_corner, [MARGIN] * 2, [box.hr + 2 * MARGIN] * 2, size)

    def _refined(
        self,
        part: Coarse,
        clips: Sequence[ClipSample],
        records: Sequence[Record],
        places: Sequence[Place],
        seen: Seen,
        sides: tuple[int, int],
    ) -> dict[PairKey, tuple[np.ndarray, np.ndarray]]:
        """Warps and confidence of some pairs at the crops."""
        assert self._matcher is not None
        assert seen.images is not None
        inputs = []
        for i, k, n in part.keys:
            record, box = records[i], places[i].box
            reference = record.references[record.candidates[k, n]]
            size = reference.shape[:2]
            place = self._margin_corner(box, size)
            canvas = np.zeros((*self._canvas, 3), np.uint8)
            lying = _lying(reference)
            canvas[: lying.shape[0], : lying.shape[1]] = lying
            pair: dict[str, Any] = {
                "images": np.asarray(seen.images[i, k]),
                "references": canvas,
                "upright": np.array(size[0] > size[1]),
                "size": np.array(size, np.float32),
                "place": np.array(place, np.float32),
                "corner": (np.array(box.hr_corner) - place).astype(np.int32),
                "scale": np.array(clips[i].scale, np.float32),
            }
            inputs.append(Pairs(**pair))
        refiner = self._matcher.refiner
        params = self._replicated(None if refiner is None else refiner.params)
        run = self._program(("refine", sides[0]), partial(programs.refine, sides[0], self._most))
        pairs = self._spread(jax.tree.map(lambda *leaves: np.stack(leaves), *inputs))
        found = jax.device_get(run(params, (part.flow, part.confidence, pairs)))
        return dict(zip(part.keys, zip(*found, strict=True), strict=False))

    def _parts(self, pairs: list[PairKey]) -> Iterable[list[PairKey]]:
        """As many pairs at a time as the devices take; the last ones are repeated."""
        count = PAIRS * self._mesh.size
        for first in range(0, len(pairs), count):
            some = pairs[first : first + count]
            yield [*some, *[some[-1]] * (count - len(some))]

    def _replicated(self, params: Any) -> Any:
        return jax.device_put(params, NamedSharding(self._mesh, PartitionSpec()))

    def _spread(self, batch: Any) -> Any:
        return jax.device_put(batch, NamedSharding(self._mesh, PartitionSpec("own")))

    def _program(self, name: Any, f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """`f(params, batch)` compiled, with each device computing its own part of the batch."""
        if name not in self._programs:
            specs = PartitionSpec(), PartitionSpec("own")
            own = jax.shard_map(
                f, mesh=self._mesh, in_specs=specs, out_specs=PartitionSpec("own"), check_vma=False
            )
            self._programs[name] = jax.jit(own)
        return self._programs[name]


def _pairs(records: Sequence[Record]) -> Iterable[PairKey]:
    """All pairs that have no exact match."""
    for i, record in enumerate(records):
        if not record.warps.size:
            for k, n in np.argwhere(record.candidates >= 0).tolist():
                yield i, k, n


def _lying(image: np.ndarray) -> np.ndarray:
    """The image, rows and columns exchanged if it is higher than wide: pairs of both kinds have one size."""
    return image.swapaxes(0, 1) if image.shape[0] > image.shape[1] else image


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Antialiased bicubic, on the host, because the sizes of frames vary with the scale."""
    height, width = size
    whole = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(whole.resize((width, height), Image.Resampling.BICUBIC))


def _share(record: Record, sure: dict[PairKey, np.ndarray], sample: int, key: int, box: Box) -> float:
    """The share of a crop that matches, found in coarse matches if these are not exact."""
    if record.warps.size:
        return matched_share(record, key, box)
    size = record.hr.shape[1:3]
    shares = []
    for n in np.flatnonzero(record.candidates[key] >= 0):
        found = sure[sample, key, int(n)]
        found = found.T if size[0] > size[1] else found
        rows, columns = (
            slice(c * m // full, -(-(c + box.hr) * m // full))
            for c, m, full in zip(box.hr_corner, found.shape, size, strict=True)
        )
        shares.append(float(np.mean(found[rows, columns])))
    return float(np.mean(shares))


def _kept_inside(
    corner: Sequence[int], around: Sequence[int], wide: Sequence[int], size: Sequence[int]
) -> tuple[int, int]:
    """First pixel (y, x) of a window around a crop, moved into the frame as far as that is large enough."""
    y, x = (
        int(np.clip(c - a, 0, max(0, n - w))) for c, a, w, n in zip(corner, around, wide, size, strict=True)
    )
    return y, x


def _part(x: np.ndarray, corner: Sequence[int], wide: Sequence[int]) -> np.ndarray:
    """A window of maps `t h w c`; its edges repeat if the frame is smaller."""
    (top, left), (height, width) = corner, wide
    x = x[:, top : top + height, left : left + width]
    missing = height - x.shape[1], width - x.shape[2]
    return np.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), mode="edge") if any(missing) else x


def _filled(
    record: Record,
    box: Box,
    seen: Seen,
    matched: dict[PairKey, tuple[np.ndarray, np.ndarray]],
    sample: int,
) -> Record:
    """The record with what networks found at the crop."""
    record = record._replace(features=seen.features)
    if not record.to_next.size:
        record = record._replace(to_next=seen.flows.to_next, to_previous=seen.flows.to_previous)
    if seen.route_warps is not None:
        # As of whole frames.
        places = seen.route_warps + np.array(box.hr_corner[::-1], np.float32)
        record = record._replace(route_warps=places, route_sure=seen.route_sure)
    if record.warps.size or not record.candidates.size:
        return record
    shape = (*record.candidates.shape, box.hr, box.hr)
    warps, confidence = np.zeros((*shape, 2), np.float32), np.zeros((*shape, 1), np.float32)
    for (i, k, n), found in matched.items():
        if i == sample:
            warps[k, n], confidence[k, n] = found
    return record._replace(warps=warps, confidence=confidence)
