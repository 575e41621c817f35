"""A whole evaluation: every clip by every column at every scale, each kept in a file as soon as it is done.

What is done already, by an earlier run or by another process beside this one, is not done again.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ldip_jax
from ldip_jax.atomic import atomic_open
from ldip_jax.errors import InputError
from ldip_jax.evaluation.cases import Case
from ldip_jax.evaluation.compare import Distance
from ldip_jax.evaluation.datasets import Dataset, Source
from ldip_jax.evaluation.footage import Bytes, Footage
from ldip_jax.evaluation.models import Models, Networks
from ldip_jax.evaluation.protocols import Column, Protocol, Scale, show_scale
from ldip_jax.evaluation.samples import Samples, profile_row
from ldip_jax.evaluation.temporal import TemporalScore
from ldip_jax.evaluation.unit import average_unit, main_keys, run_unit
from ldip_jax.inference.references import Still
from ldip_jax.media.clip import Clip
from ldip_jax.media.color import as_float
from ldip_jax.media.reader import open_clip

Say = Callable[[str], object]
UNITS, SAMPLES = "units", "samples"


@dataclass(frozen=True)
class Plan:
    """What is evaluated, and how.

    Attributes:
        multiple: HR frames are cut to multiples of so many pixels, so that clips of any size share programs.
        lr_dir: a folder with LR clips of the same names, in place of those made from ground truth.
        shown: the clip that the report shows; None: the first one.
        shard: this process's number and how many there are: each takes every n-th clip.
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
    shown: str | None = None
    shard: tuple[int, int] = (0, 1)


@dataclass
class Outcome:
    """What there is at the end: finished units, failed clips with the reason, columns without weights."""

    units: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    waiting: int = 0


def slug(*parts: str) -> str:
    """A file name for names of any kind; what is lost is made up for by a few digits of a hash."""
    text = "_".join(parts)
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "_" for c in text)[:100]
    return f"{kept}_{hashlib.sha256('|'.join(parts).encode('utf-8', 'replace')).hexdigest()[:8]}"


class Evaluation:
    """A plan and its clips; `run` does the work of this process, `outcome` reads what all have done."""

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
        # Clips of one size one after the other: each size is compiled once.
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
            InputError: weights that cannot be had, or do not belong together.
        """
        for native in {scale == (4.0, 4.0) for scale in self.plan.scales}:
            for column in self.plan.columns:
                self._models.model(column, native=native)

    def run(self) -> None:
        """Do what this process has to do and is not done yet."""
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
        """A clip's ground truth as the plan cuts and degrades it."""
        cut = self.plan.multiple
        size = (clip.height - clip.height % cut, clip.width - clip.width % cut)
        hr, lr = self.plan.protocol.sizes(size, scale)
        return Footage(clip, hr, lr, self.plan.protocol.degradation)

    def shown_clip(self) -> Clip | None:
        """The clip that the report shows."""
        return next((clip for source, clip in self._clips if source.name == self.shown), None)

    def unit_path(self, scale: Scale, source: Source, column: Column) -> Path:
        """Where the result of one unit is kept."""
        return self.plan.output / UNITS / f"{slug(show_scale(scale), column.name, source.name)}.json"

    def _fingerprint(self, footage: Footage, clip: Clip, source: Source, column: Column) -> str:
        """Of all that the unit's numbers depend on: another one means that it has to be done again."""
        plan = self.plan
        native = footage.hr == (4 * footage.lr[0], 4 * footage.lr[1])
        paths = [clip.path, *([plan.lr_dir / source.name] if plan.lr_dir else [])]
        facts = {
            "version": ldip_jax.__version__,
            "weights": self._models.identity(column, native=native),
            "matcher": plan.networks.matcher,
            "stride": plan.networks.key_stride,
            "rules": asdict(plan.networks.rules),
            "column": asdict(column),
            "protocol": plan.protocol.name,
            "convention": plan.convention,
            "sizes": [footage.hr, footage.lr],
            "lpips": plan.lpips is not None,
            "temporal": plan.temporal,
            "files": [_listing(path) for path in paths],
            "middle": plan.dataset.middle,
            "sampled": source.name == self.shown,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _read(self, path: Path, fingerprint: str) -> dict[str, Any] | None:
        try:
            unit = json.loads(path.read_text())
            return unit if unit["fingerprint"] == fingerprint else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _run(self, scale: Scale, source: Source, clip: Clip, footage: Footage, column: Column) -> None:
        native = footage.hr == (4 * footage.lr[0], 4 * footage.lr[1])
        if self._models.model(column, native=native) is None:
            return
        path = self.unit_path(scale, source, column)
        fingerprint = self._fingerprint(footage, clip, source, column)
        if self._read(path, fingerprint) is not None:
            return
        case = self.plan.protocol.frames(self.plan.dataset, footage.count)
        stills = self._stills(scale, source, footage, case, column)
        upscaler = self._models.upscaler(column, footage.lr, footage.hr)
        assert upscaler is not None
        title = f"{source.name}, x{show_scale(scale)}, {column.name}"
        spynet = upscaler.model.params["backbone"]["spynet"] if self.plan.temporal else None
        samples = None
        if source.name == self.shown:
            first = next(footage.truth(case.scored[:1]))
            samples = Samples(self.plan.output / SAMPLES / path.stem, case.scored, profile_row(first))
        upscaler.watch = samples.references if samples else None
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
            "scale": list(scale),
            "hr": list(footage.hr),
            "lr": list(footage.lr),
            "inputs": list(case.inputs),
            "stills": [still.name for still in stills],
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
        own = Footage(clip, footage.lr, footage.lr, self.plan.protocol.degradation)
        if own.count != footage.count:
            raise InputError(f"{clip.path}: has {own.count} frames, the ground truth {footage.count}")
        return own.ordered(case.inputs)

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
                raise InputError("its references are to come from another clip, but there is none")
            source, clip = next(entry for entry in self._clips if entry[0].name == other)
            footage = self.footage(clip, scale)
            case = self.plan.protocol.frames(self.plan.dataset, footage.count)
        frames = case.references
        if column.references == "ends":
            frames = (frames[0], frames[-1])
        stem = source.name.replace("/", "-")
        return [
            Still(f"{stem}-{frame:08d}", as_float(image))
            for frame, image in zip(frames, footage.truth(frames), strict=True)
        ]

    def outcome(self) -> Outcome:
        """Everything that is there by now, whoever made it."""
        outcome = Outcome(failures=dict(self.failures))
        for scale, source, clip in self._jobs():
            try:
                footage = self.footage(clip, scale)
                native = footage.hr == (4 * footage.lr[0], 4 * footage.lr[1])
                for column in self.plan.columns:
                    if self._models.model(column, native=native) is None:
                        if column.name not in outcome.absent:
                            outcome.absent.append(column.name)
                        continue
                    fingerprint = self._fingerprint(footage, clip, source, column)
                    unit = self._read(self.unit_path(scale, source, column), fingerprint)
                    if unit is None:
                        outcome.waiting += 1
                    else:
                        outcome.units.append(unit)
            except InputError as error:
                outcome.failures[source.name] = str(error)
        return outcome


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _listing(path: Path) -> list[tuple[str, int]]:
    """Names and sizes of a clip's files: another version of the clip has others."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [(file.name, file.stat().st_size) for file in files if file.is_file()]
