"""A whole evaluation: every clip by every column at every scale. Each such unit is saved when it is done.

Units that an earlier run or another process has already done are not done again.
"""

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

import ldip_jax
from ldip_jax.atomic import atomic_open
from ldip_jax.data.alterations import Alteration
from ldip_jax.data.codecs import Codec
from ldip_jax.errors import InputError
from ldip_jax.evaluation.compare import HIGHEST_PSNR, SCORES, Distance, Scores, average, score_frame
from ldip_jax.evaluation.datasets import Bytes, Dataset, Footage, Source
from ldip_jax.evaluation.linear_transfer import LinearTransfer
from ldip_jax.evaluation.metrics import TemporalScore, measure
from ldip_jax.evaluation.networks import Method, Models, Networks
from ldip_jax.evaluation.protocols import Case, Column, Protocol, Scale, show_scale
from ldip_jax.evaluation.samples import Samples, profile_row
from ldip_jax.inference.reference_images import Still
from ldip_jax.media.clip import Clip
from ldip_jax.media.color import as_float
from ldip_jax.media.reader import open_clip
from ldip_jax.progress import Progress

Image = Float[np.ndarray, "H W 3"]
# What `score_frame` computes anyway.
_COVERED = ("basicsr-y", "basicsr-rgb")


def score_keys(convention: str, *, temporal: bool) -> tuple[str, ...]:
    """Names of a frame's scores."""
    keys = SCORES
    if convention not in _COVERED:
        keys += (f"psnr_{convention}", f"ssim_{convention}")
    return (*keys, "tof") if temporal else keys


def main_keys(convention: str) -> tuple[str, str]:
    """The names of PSNR and SSIM by the convention that the data set's tables follow."""
    suffix = convention.removeprefix("basicsr-") if convention in _COVERED else convention
    return f"psnr_{suffix}", f"ssim_{suffix}"


def average_unit(unit: dict[str, Any]) -> Scores:
    """The clip's scores: means over its frames; tOF over frames that have a previous frame."""
    frames = unit["frames"]
    keys = [key for key in frames[0] if key not in ("frame", "tof")]
    means = average(frames, keys)
    if "tof" in frames[0]:
        known = [frame["tof"] for frame in frames if frame["tof"] is not None]
        means["tof"] = sum(known) / len(known) if known else None
    return means


def combined(outputs: Sequence[tuple[int, ...]], images: Iterable[Image]) -> Iterator[Image]:
    """For each of `outputs`, the mean of the images at these places; reads no more images than it needs."""
    wanted = {place for places in outputs for place in places}
    held: dict[int, Image] = {}
    waiting = list(outputs)
    for place, image in enumerate(images):
        if place in wanted:
            held[place] = image
        while waiting and all(place in held for place in waiting[0]):
            chosen = [held.pop(place) for place in waiting.pop(0)]
            yield chosen[0] if len(chosen) == 1 else np.asarray(np.mean(chosen, axis=0, dtype=np.float32))
        if not waiting:
            return


def run_unit(
    title: str,
    footage: Footage,
    low: Iterable[np.ndarray],
    case: Case,
    stills: Sequence[Still],
    upscaler: Method,
    convention: str,
    *,
    lpips: Distance | None = None,
    temporal: TemporalScore | None = None,
    watch: Callable[[int, Image], object] | None = None,
) -> dict[str, Any]:
    """Upscale the inputs of a case and score the results.

    Args:
        title: shown beside the progress bar.
        low: the LR frames, 8 bits.
        convention: see `MEASURES`; PSNR and SSIM on Y and RGB, with no border cropped, are always computed.
        lpips: computes LPIPS; None: it is not computed.
        temporal: computes tOF; None: it is not computed.
        watch: called with the number of each scored frame in the clip, and its image.

    Returns:
        "frames": a row of scores for each scored frame; "key_frames": their numbers in the clip;
        "references": by key-frame, as a place among the inputs, which references were chosen or refused;
        "seconds": the time that it took.

    Raises:
        InputError: a frame cannot be read.
    """
    began = time.perf_counter()
    rows: list[dict[str, Any]] = []
    work = upscaler.work(len(case.inputs), stills)
    with Progress(title, work, upscaler.costs()) as progress:
        images = upscaler.frames(map(as_float, low), stills, progress.advance)
        results = combined(case.outputs, images)
        pairs = zip(case.scored, footage.truth(case.scored), results, strict=True)
        for frame, truth, image in pairs:
            truth = as_float(truth)
            row: dict[str, Any] = {"frame": frame, **score_frame(truth, image, lpips)}
            if convention not in _COVERED:
                values = measure(convention, truth, image)
                row |= dict(
                    zip(main_keys(convention), (min(values[0], HIGHEST_PSNR), values[1]), strict=True)
                )
            if temporal is not None:
                row["tof"] = temporal(frame, truth, image)
            rows.append(row)
            if watch is not None:
                watch(frame, image)
    choices = {
        str(key): [choice.as_json() for choice in chosen] for key, chosen in sorted(upscaler.choices.items())
    }
    return {
        "frames": rows,
        "key_frames": sorted({case.inputs[key] for key in upscaler.choices}),
        "references": choices,
        "seconds": round(time.perf_counter() - began, 2),
    }


Say = Callable[[str], object]
UNITS, SAMPLES = "units", "samples"


@dataclass(frozen=True)
class Plan:
    """What is evaluated, and how.

    Attributes:
        multiple: HR frames are cropped to multiples of this many pixels, so that clips of different sizes
            share compiled programs.
        lr_dir: a folder with LR clips of the same names, used instead of LR frames made from ground truth.
        codec: compresses whole LR clips before the protocol selects frames of them.
        alterations: what is done to references in HR, in this order.
        shown: the clip that the report shows; None: the first one.
        shard: this process's number, and the number n of processes: each does every n-th clip.
    """

    dataset: Dataset
    protocol: Protocol
    scales: tuple[Scale, ...]
    columns: tuple[Column, ...]
    convention: str
    networks: Networks
    output: Path
    lpips: Distance | None = None
    temporal: bool = False
    multiple: int = 1
    lr_dir: Path | None = None
    codec: Codec | None = None
    alterations: tuple[Alteration, ...] = ()
    shown: str | None = None
    shard: tuple[int, int] = (0, 1)


@dataclass
class Outcome:
    """The results of all processes so far.

    Attributes:
        units: finished units.
        failures: clips that are skipped, and why.
        absent: columns without weights.
        repeated: columns that would do the same as another one.
        waiting: number of units that are not done yet.
    """

    units: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    waiting: int = 0


def slug(*parts: str) -> str:
    """A file name for names of any kind; characters may be replaced, so a part of a hash keeps it unique."""
    text = "_".join(parts)
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "_" for c in text)[:100]
    return f"{kept}_{hashlib.sha256('|'.join(parts).encode('utf-8', 'replace')).hexdigest()[:8]}"


class Evaluation:
    """Evaluates clips as a `Plan` says: `run` does the work of this process, `outcome` reads that of all."""

    def __init__(self, plan: Plan, sources: Sequence[Source], say: Say):
        self.plan, self._say = plan, say
        self._models = Models(plan.networks, say)
        self.failures: dict[str, str] = {}
        self._clips: list[tuple[Source, Clip]] = []
        for source in sources:
            try:
                self._clips.append((source, open_clip(source.path)))
            except InputError as error:
                self._fail(source, error)
        # Clips of one size come one after the other, so that each size is compiled only once.
        self._clips.sort(key=lambda entry: (entry[1].height, entry[1].width, entry[0].name))
        names = [source.name for source, _ in self._clips]
        self.shown = plan.shown if plan.shown in names else (sorted(names) or [""])[0]

    def _fail(self, source: Source, error: InputError) -> None:
        self.failures[source.name] = str(error)
        self._say(f"{source.name} is skipped: {error}")

    def _jobs(self) -> Iterator[tuple[Scale, Source, Clip]]:
        for scale in self.plan.scales:
            for source, clip in self._clips:
                if source.name not in self.failures:
                    yield scale, source, clip

    def prepare(self) -> None:
        """Fetch and check all weights, before any work.

        Raises:
            InputError: weights are not available, or do not belong together.
        """
        for native in {scale == (4.0, 4.0) for scale in self.plan.scales}:
            for column in self.plan.columns:
                self._models.model(column, native=native)

    def run(self) -> None:
        """Do this process's part of the work, except for units that are already done."""
        index, count = self.plan.shard
        mine = {source.name for source, _ in self._clips[index::count]}
        for scale, source, clip in self._jobs():
            if source.name not in mine:
                continue
            try:
                footage = self.footage(clip, scale)
                for column in self.plan.columns:
                    self._run(scale, source, clip, footage, column)
            except InputError as error:
                self._fail(source, error)

    def footage(self, clip: Clip, scale: Scale) -> Footage:
        """A clip's ground truth and LR frames, cropped and degraded as `plan` says."""
        cut = self.plan.multiple
        size = (clip.height - clip.height % cut, clip.width - clip.width % cut)
        hr, lr = self.plan.protocol.sizes(size, scale)
        return Footage(clip, hr, lr, self.plan.protocol.degradation, self.plan.codec)

    def shown_clip(self) -> Clip | None:
        """The clip that the report shows."""
        return next((clip for source, clip in self._clips if source.name == self.shown), None)

    def unit_path(self, scale: Scale, source: Source, column: Column) -> Path:
        """The file with the result of one unit."""
        return self.plan.output / UNITS / f"{slug(show_scale(scale), column.name, source.name)}.json"

    def _fingerprint(self, footage: Footage, clip: Clip, source: Source, column: Column) -> str:
        """A hash of all that the unit's scores depend on; if it has changed, the unit is done again."""
        plan = self.plan
        native = footage.hr == (4 * footage.lr[0], 4 * footage.lr[1])
        paths = [clip.path, *([plan.lr_dir / source.name] if plan.lr_dir else [])]
        others = [other.name for other, _ in self._clips] if column.references == "unrelated" else []
        facts = {
            "version": ldip_jax.__version__,
            "weights": self._models.identity(column, native=native),
            "matcher": plan.networks.matcher,
            "stride": plan.networks.key_stride,
            "rules": asdict(plan.networks.rules),
            "by default": plan.networks.checkpoint == "default",
            "propagation": self._models.propagation(column, native=native),
            "column": asdict(column),
            "protocol": plan.protocol.name,
            "convention": plan.convention,
            "sizes": [footage.hr, footage.lr],
            "lpips": plan.lpips is not None,
            "temporal": plan.temporal,
            "files": [_listing(path) for path in paths],
            "others": sorted(others),
            "middle": plan.dataset.middle,
            "sampled": source.name == self.shown,
        }
        # Added only if set, so that results from before these settings existed stay valid.
        if plan.codec is not None:
            facts["input codec"] = str(plan.codec)
        if plan.alterations and column.references != "own":
            facts["references altered"] = [alteration.text for alteration in plan.alterations]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _read(self, path: Path, fingerprint: str) -> dict[str, Any] | None:
        try:
            unit = json.loads(path.read_text())
            return unit if unit["fingerprint"] == fingerprint else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _run(self, scale: Scale, source: Source, clip: Clip, footage: Footage, column: Column) -> None:
        native = footage.hr == (4 * footage.lr[0], 4 * footage.lr[1])
        if self._models.model(column, native=native) is None or self._models.repeats(column, native=native):
            return
        path = self.unit_path(scale, source, column)
        fingerprint = self._fingerprint(footage, clip, source, column)
        if self._read(path, fingerprint) is not None:
            return
        case = self.plan.protocol.frames(self.plan.dataset, footage.count)
        stills = self._stills(scale, source, footage, case, column)
        model = self._models.model(column, native=native)
        upscaler = self._models.upscaler(column, footage.lr, footage.hr)
        assert model is not None
        assert upscaler is not None
        if isinstance(upscaler, LinearTransfer):
            upscaler.truth = partial(footage.truth, case.inputs)
        title = f"{source.name}, x{show_scale(scale)}, {column.name}"
        spynet = model.params["backbone"]["spynet"] if self.plan.temporal else None
        samples = None
        if source.name == self.shown:
            first = next(footage.truth(case.scored[:1]))
            samples = Samples(self.plan.output / SAMPLES / path.stem, case.scored, profile_row(first))
        upscaler.on_key_frame = samples.references if samples else None
        unit = run_unit(
            title,
            footage,
            self._low(source, footage, case),
            case,
            stills,
            upscaler,
            self.plan.convention,
            lpips=self.plan.lpips,
            temporal=TemporalScore(spynet) if spynet is not None else None,
            watch=samples.frame if samples else None,
        )
        unit |= {
            "fingerprint": fingerprint,
            "clip": source.name,
            "column": column.name,
            "propagation": self._models.propagation(column, native=native),
            "scale": list(scale),
            "hr": list(footage.hr),
            "lr": list(footage.lr),
            "inputs": list(case.inputs),
            "stills": [still.name for still in stills],
            "input_codec": str(self.plan.codec) if self.plan.codec else None,
            "ref_alter": [alteration.text for alteration in self.plan.alterations] if stills else [],
            "samples": samples.finish() if samples else None,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_open(path) as file:
            file.write(json.dumps(unit).encode())
        psnr, ssim = (average_unit(unit)[key] for key in main_keys(self.plan.convention))
        self._say(f"{title}: {_number(psnr, 2)} dB, SSIM {_number(ssim, 4)}, {unit['seconds']:.0f} s")

    def _low(self, source: Source, footage: Footage, case: Case) -> Iterator[Bytes]:
        """The LR frames: made from ground truth, or the user's own."""
        if self.plan.lr_dir is None:
            return footage.low(case.inputs)
        clip = open_clip(self.plan.lr_dir / source.name)
        if (clip.height, clip.width) != footage.lr:
            wanted = f"{footage.lr[1]}x{footage.lr[0]}"
            raise InputError(f"{clip.path}: is {clip.width}x{clip.height}, where {wanted} is needed")
        own = Footage(clip, footage.lr, footage.lr, None, self.plan.codec)
        if own.count != footage.count:
            raise InputError(f"{clip.path}: has {own.count} frames, the ground truth {footage.count}")
        return own.low(case.inputs)

    def _stills(
        self, scale: Scale, source: Source, footage: Footage, case: Case, column: Column
    ) -> list[Still]:
        """The references in HR that a column is given."""
        if column.references == "own":
            return []
        if column.references == "unrelated":
            names = sorted(name.name for name, _ in self._clips if name.name not in self.failures)
            other = names[(names.index(source.name) + 1) % len(names)]
            if other == source.name:
                raise InputError("its references must come from another clip, but there is no other")
            source, clip = next(entry for entry in self._clips if entry[0].name == other)
            footage = self.footage(clip, scale)
            case = self.plan.protocol.frames(self.plan.dataset, footage.count)
        frames = case.references
        if column.references == "ends":
            frames = (frames[0], frames[-1])
        stem = source.name.replace("/", "-")
        names = [f"{stem}-{frame:08d}" for frame in frames]
        return [
            Still(name, as_float(self._altered(name, image)))
            for name, image in zip(names, footage.truth(frames), strict=True)
        ]

    def _altered(self, name: str, image: Bytes) -> Bytes:
        """A reference after all alterations; its noise depends only on its name."""
        rng = np.random.default_rng(zlib.crc32(name.encode("utf-8", "replace")))
        for alteration in self.plan.alterations:
            image = alteration(image, rng)
        return image

    def outcome(self) -> Outcome:
        """The results so far, of all processes."""
        outcome = Outcome(failures=dict(self.failures))
        for scale, source, clip in self._jobs():
            try:
                footage = self.footage(clip, scale)
                native = footage.hr == (4 * footage.lr[0], 4 * footage.lr[1])
                for column in self.plan.columns:
                    if self._models.model(column, native=native) is None:
                        outcome.absent.append(column.name)
                        continue
                    if self._models.repeats(column, native=native):
                        outcome.repeated.append(column.name)
                        continue
                    fingerprint = self._fingerprint(footage, clip, source, column)
                    unit = self._read(self.unit_path(scale, source, column), fingerprint)
                    if unit is None:
                        outcome.waiting += 1
                    else:
                        outcome.units.append(unit)
            except InputError as error:
                outcome.failures[source.name] = str(error)
        outcome.absent = list(dict.fromkeys(outcome.absent))
        outcome.repeated = list(dict.fromkeys(outcome.repeated))
        return outcome


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _listing(path: Path) -> list[tuple[str, int]]:
    """Names and sizes of a clip's files, by which another version of the clip is recognised."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [(file.name, file.stat().st_size) for file in files if file.is_file()]
