"""A whole evaluation: every clip by every variant at every scale. Each result is saved as soon as it is
there.

What an earlier run or another process has already done is not done again.
"""

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

import ldip_jax
from ldip_jax.atomic import atomic_open
from ldip_jax.data.alterations import Alteration
from ldip_jax.data.codecs import Codec
from ldip_jax.errors import InputError
from ldip_jax.evaluation.clip_result import ClipResult, FrameScore, ScoredClip, read_clip_result
from ldip_jax.evaluation.datasets import Bytes, ClipFrames, ClipSource, Dataset
from ldip_jax.evaluation.linear_transfer import LinearTransfer
from ldip_jax.evaluation.metrics import TemporalScore, psnr_and_ssim
from ldip_jax.evaluation.protocols import FrameSelection, Protocol, Scale, Variant, show_scale
from ldip_jax.evaluation.samples import ReportImages, profile_row
from ldip_jax.evaluation.scores import (
    HIGHEST_PSNR,
    Distance,
    is_always_computed,
    primary_names,
    score_frame,
    score_names,
)
from ldip_jax.evaluation.variant_upscalers import Method, NetworkChoice, UpscalerCache
from ldip_jax.inference.reference_images import Still
from ldip_jax.media.clip import Clip
from ldip_jax.media.color import as_float
from ldip_jax.media.reader import open_clip
from ldip_jax.progress import Progress

Image = Float[np.ndarray, "H W 3"]


def mean_outputs(outputs: Sequence[tuple[int, ...]], images: Iterable[Image]) -> Iterator[Image]:
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


def score_clip(
    title: str,
    footage: ClipFrames,
    lr_frames: Iterable[np.ndarray],
    selection: FrameSelection,
    stills: Sequence[Still],
    upscaler: Method,
    convention: str,
    *,
    lpips: Distance | None = None,
    temporal: TemporalScore | None = None,
    on_frame: Callable[[int, Image], object] | None = None,
) -> ScoredClip:
    """Upscale the selected inputs of a clip and score the results.

    Args:
        title: shown beside the progress bar.
        lr_frames: the LR frames, 8 bits.
        convention: see `CONVENTIONS`; PSNR and SSIM on Y and RGB, with no border cropped, are always
            computed.
        lpips: computes LPIPS; None: it is not computed.
        temporal: computes tOF; None: it is not computed.
        on_frame: called with the number of each scored frame in the clip, and its image.

    Raises:
        InputError: a frame cannot be read.
    """
    began = time.perf_counter()
    scored: list[FrameScore] = []
    work = upscaler.work(len(selection.inputs), stills)
    with Progress(title, work, upscaler.costs()) as progress:
        images = upscaler.frames(map(as_float, lr_frames), stills, progress.advance)
        results = mean_outputs(selection.outputs, images)
        pairs = zip(selection.scored, footage.hr_frames(selection.scored), results, strict=True)
        for frame, truth, image in pairs:
            truth = as_float(truth)
            score = score_frame(truth, image, lpips)
            if not is_always_computed(convention):
                psnr, ssim = psnr_and_ssim(convention, truth, image)
                score = replace(score, psnr=min(psnr, HIGHEST_PSNR), ssim=ssim)
            if temporal is not None:
                score = replace(score, tof=temporal(frame, truth, image))
            scored.append(FrameScore(frame, score))
            if on_frame is not None:
                on_frame(frame, image)
    choices = {
        str(key): [choice.as_json() for choice in chosen] for key, chosen in sorted(upscaler.choices.items())
    }
    return ScoredClip(
        frames=scored,
        key_frames=sorted({selection.inputs[key] for key in upscaler.choices}),
        references=choices,
        seconds=round(time.perf_counter() - began, 2),
    )


Notify = Callable[[str], object]
RESULTS, SAMPLES = "units", "samples"


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated, and how.

    Attributes:
        size_multiple: HR frames are cropped to multiples of this many pixels, so that clips of different
            sizes share compiled programs.
        lr_dir: a folder with LR clips of the same names, used instead of LR frames made from ground truth.
        codec: compresses whole LR clips before the protocol selects frames of them.
        references: how many references in HR; None: as the protocol says.
        alterations: what is done to references in HR, in this order.
        report_clip: the clip that the report shows; None: the first one.
        shard: this process's number, and the number n of processes: each does every n-th clip.
    """

    dataset: Dataset
    protocol: Protocol
    scales: tuple[Scale, ...]
    variants: tuple[Variant, ...]
    convention: str
    networks: NetworkChoice
    output: Path
    lpips: Distance | None = None
    temporal: bool = False
    size_multiple: int = 1
    lr_dir: Path | None = None
    codec: Codec | None = None
    references: int | None = None
    alterations: tuple[Alteration, ...] = ()
    report_clip: str | None = None
    shard: tuple[int, int] = (0, 1)


@dataclass
class Outcome:
    """The results of all processes so far.

    Attributes:
        results: finished clips.
        failures: clips that are skipped, and why.
        without_weights: variants without weights.
        repeated: variants that would do the same as another one.
        missing: number of results that are not there yet.
    """

    results: list[ClipResult] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    without_weights: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    missing: int = 0


def slug(*parts: str) -> str:
    """A file name for names of any kind; characters may be replaced, so a part of a hash keeps it unique."""
    text = "_".join(parts)
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "_" for c in text)[:100]
    return f"{safe}_{hashlib.sha256('|'.join(parts).encode('utf-8', 'replace')).hexdigest()[:8]}"


class Evaluation:
    """Evaluates clips: `run` does the work of this process, `outcome` reads the results of all of them."""

    def __init__(self, config: EvaluationConfig, sources: Sequence[ClipSource], notify: Notify):
        self.config, self._notify = config, notify
        self._score_names = score_names(config.convention, temporal=config.temporal)
        self._models = UpscalerCache(config.networks, notify)
        self.failures: dict[str, str] = {}
        self._clips: list[tuple[ClipSource, Clip]] = []
        for source in sources:
            try:
                self._clips.append((source, open_clip(source.path)))
            except InputError as error:
                self._skip(source, error)
        # Clips of one size come one after the other, so that each size is compiled only once.
        self._clips.sort(key=lambda entry: (entry[1].height, entry[1].width, entry[0].name))
        names = [source.name for source, _ in self._clips]
        self.report_clip = config.report_clip if config.report_clip in names else (sorted(names) or [""])[0]

    def _skip(self, source: ClipSource, error: InputError) -> None:
        self.failures[source.name] = str(error)
        self._notify(f"{source.name} is skipped: {error}")

    def _jobs(self) -> Iterator[tuple[Scale, ClipSource, Clip]]:
        for scale in self.config.scales:
            for source, clip in self._clips:
                if source.name not in self.failures:
                    yield scale, source, clip

    def prepare(self) -> None:
        """Fetch and check all weights, before any work.

        Raises:
            InputError: weights are not available, or do not belong together.
        """
        for native in {scale == (4.0, 4.0) for scale in self.config.scales}:
            for variant in self.config.variants:
                self._models.model(variant, native=native)

    def run(self) -> None:
        """Do this process's part of the work, except for results that exist already."""
        index, count = self.config.shard
        mine = {source.name for source, _ in self._clips[index::count]}
        for scale, source, clip in self._jobs():
            if source.name not in mine:
                continue
            try:
                footage = self.footage(clip, scale)
                for variant in self.config.variants:
                    self._evaluate_clip(scale, source, clip, footage, variant)
            except InputError as error:
                self._skip(source, error)

    def footage(self, clip: Clip, scale: Scale) -> ClipFrames:
        """A clip's ground truth and LR frames, cropped and degraded as the command says."""
        cut = self.config.size_multiple
        size = (clip.height - clip.height % cut, clip.width - clip.width % cut)
        hr, lr = self.config.protocol.sizes(size, scale)
        return ClipFrames(clip, hr, lr, self.config.protocol.degradation, self.config.codec)

    def _select_frames(self, footage: ClipFrames) -> FrameSelection:
        return self.config.protocol.frames(self.config.dataset, footage.count, self.config.references)

    def open_report_clip(self) -> Clip | None:
        """The clip that the report shows."""
        return next((clip for source, clip in self._clips if source.name == self.report_clip), None)

    def result_path(self, scale: Scale, source: ClipSource, variant: Variant) -> Path:
        """The file with the result of one clip by one variant."""
        return self.config.output / RESULTS / f"{slug(show_scale(scale), variant.name, source.name)}.json"

    def _fingerprint(self, footage: ClipFrames, clip: Clip, source: ClipSource, variant: Variant) -> str:
        """A hash of all that the scores depend on; if it has changed, the clip is evaluated again."""
        config = self.config
        native = footage.hr_size == (4 * footage.lr_size[0], 4 * footage.lr_size[1])
        paths = [clip.path, *([config.lr_dir / source.name] if config.lr_dir else [])]
        other_clips = [other.name for other, _ in self._clips] if variant.references == "unrelated" else []
        facts = {
            "version": ldip_jax.__version__,
            "weights": self._models.weight_hashes(variant, native=native),
            "matcher": config.networks.matcher,
            "stride": config.networks.key_stride,
            "rules": asdict(config.networks.rules),
            "by default": config.networks.checkpoint == "default",
            "propagation": self._models.propagation(variant, native=native),
            "column": asdict(variant),
            "protocol": config.protocol.name,
            "convention": config.convention,
            "sizes": [footage.hr_size, footage.lr_size],
            "lpips": config.lpips is not None,
            "temporal": config.temporal,
            "files": [_listing(path) for path in paths],
            "others": sorted(other_clips),
            "middle": config.dataset.middle_only,
            "sampled": source.name == self.report_clip,
        }
        # Added only if set, so that results from before these settings existed stay valid.
        if config.codec is not None:
            facts["input codec"] = str(config.codec)
        if config.networks.soften is not None:
            facts["soften"] = config.networks.soften
        if config.references is not None and variant.references != "own":
            facts["references in HR"] = config.references
        if config.alterations and variant.references != "own":
            facts["references altered"] = [alteration.text for alteration in config.alterations]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _stored_result(self, path: Path, fingerprint: str) -> ClipResult | None:
        try:
            result = read_clip_result(json.loads(path.read_text()), self._score_names)
            return result if result.fingerprint == fingerprint else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _evaluate_clip(
        self, scale: Scale, source: ClipSource, clip: Clip, footage: ClipFrames, variant: Variant
    ) -> None:
        native = footage.hr_size == (4 * footage.lr_size[0], 4 * footage.lr_size[1])
        if self._models.model(variant, native=native) is None or self._models.is_repeated(
            variant, native=native
        ):
            return
        path = self.result_path(scale, source, variant)
        fingerprint = self._fingerprint(footage, clip, source, variant)
        if self._stored_result(path, fingerprint) is not None:
            return
        selection = self._select_frames(footage)
        stills = self._reference_images(scale, source, footage, selection, variant)
        model = self._models.model(variant, native=native)
        upscaler = self._models.upscaler(variant, footage.lr_size, footage.hr_size)
        assert model is not None
        assert upscaler is not None
        if isinstance(upscaler, LinearTransfer):
            upscaler.truth = partial(footage.hr_frames, selection.inputs)
        title = f"{source.name}, x{show_scale(scale)}, {variant.name}"
        spynet = model.params["backbone"]["spynet"] if self.config.temporal else None
        samples = None
        if source.name == self.report_clip:
            first = next(footage.hr_frames(selection.scored[:1]))
            samples = ReportImages(
                self.config.output / SAMPLES / path.stem, selection.scored, profile_row(first)
            )
        upscaler.on_key_frame = samples.save_references if samples else None
        scored = score_clip(
            title,
            footage,
            self._lr_frames(source, footage, selection),
            selection,
            stills,
            upscaler,
            self.config.convention,
            lpips=self.config.lpips,
            temporal=TemporalScore(spynet) if spynet is not None else None,
            on_frame=samples.save_frame if samples else None,
        )
        result = ClipResult(
            **vars(scored),
            fingerprint=fingerprint,
            clip=source.name,
            variant=variant.name,
            propagation=self._models.propagation(variant, native=native),
            scale=scale,
            hr=list(footage.hr_size),
            lr=list(footage.lr_size),
            inputs=list(selection.inputs),
            stills=[still.name for still in stills],
            input_codec=str(self.config.codec) if self.config.codec else None,
            ref_alter=[alteration.text for alteration in self.config.alterations] if stills else [],
            samples=samples.finish() if samples else None,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_open(path) as file:
            file.write(json.dumps(result.as_json(self._score_names)).encode())
        values = result.average.named(self._score_names)
        psnr, ssim = (values[name] for name in primary_names(self.config.convention))
        self._notify(f"{title}: {_number(psnr, 2)} dB, SSIM {_number(ssim, 4)}, {result.seconds:.0f} s")

    def _lr_frames(
        self, source: ClipSource, footage: ClipFrames, selection: FrameSelection
    ) -> Iterator[Bytes]:
        """The LR frames: made from ground truth, or the user's own."""
        if self.config.lr_dir is None:
            return footage.lr_frames(selection.inputs)
        clip = open_clip(self.config.lr_dir / source.name)
        if (clip.height, clip.width) != footage.lr_size:
            wanted = f"{footage.lr_size[1]}x{footage.lr_size[0]}"
            raise InputError(f"{clip.path}: is {clip.width}x{clip.height}, where {wanted} is needed")
        lr_clip = ClipFrames(clip, footage.lr_size, footage.lr_size, None, self.config.codec)
        if lr_clip.count != footage.count:
            raise InputError(f"{clip.path}: has {lr_clip.count} frames, the ground truth {footage.count}")
        return lr_clip.lr_frames(selection.inputs)

    def _reference_images(
        self,
        scale: Scale,
        source: ClipSource,
        footage: ClipFrames,
        selection: FrameSelection,
        variant: Variant,
    ) -> list[Still]:
        """The reference images that a variant is given."""
        if variant.references == "own":
            return []
        if variant.references == "unrelated":
            names = sorted(name.name for name, _ in self._clips if name.name not in self.failures)
            other_clip = names[(names.index(source.name) + 1) % len(names)]
            if other_clip == source.name:
                raise InputError("its references must come from another clip, but there is no other")
            source, clip = next(entry for entry in self._clips if entry[0].name == other_clip)
            footage = self.footage(clip, scale)
            selection = self._select_frames(footage)
        frames = selection.references
        if variant.references == "ends":
            frames = (frames[0], frames[-1])
        stem = source.name.replace("/", "-")
        names = [f"{stem}-{frame:08d}" for frame in frames]
        return [
            Still(name, as_float(self._alter(name, image)))
            for name, image in zip(names, footage.hr_frames(frames), strict=True)
        ]

    def _alter(self, name: str, image: Bytes) -> Bytes:
        """A reference after all alterations; its noise depends only on its name."""
        rng = np.random.default_rng(zlib.crc32(name.encode("utf-8", "replace")))
        for alteration in self.config.alterations:
            image = alteration(image, rng)
        return image

    def outcome(self) -> Outcome:
        """The results so far, of all processes."""
        outcome = Outcome(failures=dict(self.failures))
        for scale, source, clip in self._jobs():
            try:
                footage = self.footage(clip, scale)
                native = footage.hr_size == (4 * footage.lr_size[0], 4 * footage.lr_size[1])
                for variant in self.config.variants:
                    if self._models.model(variant, native=native) is None:
                        outcome.without_weights.append(variant.name)
                        continue
                    if self._models.is_repeated(variant, native=native):
                        outcome.repeated.append(variant.name)
                        continue
                    fingerprint = self._fingerprint(footage, clip, source, variant)
                    result = self._stored_result(self.result_path(scale, source, variant), fingerprint)
                    if result is None:
                        outcome.missing += 1
                    else:
                        outcome.results.append(result)
            except InputError as error:
                outcome.failures[source.name] = str(error)
        outcome.without_weights = list(dict.fromkeys(outcome.without_weights))
        outcome.repeated = list(dict.fromkeys(outcome.repeated))
        return outcome


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _listing(path: Path) -> list[tuple[str, int]]:
    """Names and sizes of a clip's files, by which another version of the clip is recognised."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [(file.name, file.stat().st_size) for file in files if file.is_file()]
