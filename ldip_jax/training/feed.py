"""Training batches and validation samples: from records, or from clips with the frozen networks run live."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ldip_jax.data.camera_moves import CameraMoveClips
from ldip_jax.data.clips import (
    ClipSample,
    Footage,
    SamplingSpec,
    draw_sample,
    draw_scale,
    draw_unrelated_frame,
)
from ldip_jax.data.crop_spec import BatchCounts, CropSpec
from ldip_jax.data.crops import RecordCropper, Sample, stack
from ldip_jax.data.datasets import open_clips, sampling_spec
from ldip_jax.data.records import load_record
from ldip_jax.data.source import Items, SampleStream
from ldip_jax.data.synthetic import SyntheticClips
from ldip_jax.errors import InputError
from ldip_jax.matching.dense import DenseMatcher
from ldip_jax.models.ldip import LDIP
from ldip_jax.training.config import Config, crop_spec
from ldip_jax.training.features import MeasuredClip
from ldip_jax.training.frozen import FrozenNetworks, frozen_flow, frozen_matcher
from ldip_jax.training.live import LiveSampler
from ldip_jax.training.record_making import check_records
from ldip_jax.training.setup import Run


class BatchSettings(NamedTuple):
    """What the clips of a global batch have in common.

    Attributes:
        scale: HR size divided by LR size, on which the sides of crops depend.
        counts: of key-frames and references.
    """

    scale: float
    counts: BatchCounts


class Feed:
    """This process's part of every global batch, in order; its `state` is the position to resume from.

    The samples of a global batch are the same whatever the number of processes. The slots for key-frames and
    references have one of two sizes, and a batch has the same in all processes. The first batch is the
    largest, so that too little memory shows at once.

    The next batch is made in the background while the last one is trained on, also by the frozen networks.
    """

    def __init__(self, config: Config, run: Run, process: tuple[int, int] = (0, 1), next_index: int = 0):
        """
        Args:
            process: index of this process, and the number of processes.
            next_index: the sample to start from, when a run is resumed.

        Raises:
            InputError: no data, held-out clips in the data, or data that does not fit the config.
        """
        data = config.data
        self._spec = crop_spec(config)
        self._process, self._seed = process, config.seed
        # The frozen networks, unless records hold their output; validation uses them too.
        self.sampler: LiveSampler | None = None
        options = {
            "seed": config.seed,
            "batch_size": config.batch_size,
            "process": process,
            "workers": data.workers,
            "next_index": next_index,
        }
        if data.records:
            files = check_records(data.records, run, data.heldout)
            crops = RecordCropper.from_files(files, self._spec)
            self._stream: SampleStream[Any] = SampleStream(
                files, crops, draw_batch_settings=crops.draw_batch_settings, **options
            )
        else:
            spec = sampling_spec(data)
            self._clips = open_clips(data, seed=config.seed)
            common = partial(_draw_batch_settings, spec, self._spec)
            self._stream = SampleStream(
                self._clips, partial(_draw_clip, spec), draw_batch_settings=common, **options
            )
            self.sampler = make_live_sampler(config, run, self._clips, config.batch_size // process[1])
        self._state = self._stream.state
        self._next_batch: Future[tuple[Sample, dict[str, int]]] | None = None
        self._thread = ThreadPoolExecutor(1, "feed")

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        made = self._next_batch or self._thread.submit(self._make_batch)
        batch, self._state = made.result()
        self._next_batch = self._thread.submit(self._make_batch)
        return batch

    def _make_batch(self) -> tuple[Sample, dict[str, int]]:
        first = self._stream.state["next_index"]
        common = self._stream.batch_settings
        drawn = next(self._stream)
        if self.sampler is None:
            return stack(drawn, common[1].slots), self._stream.state
        numbers = first + self._process[0] + self._process[1] * np.arange(len(drawn))
        rngs = [np.random.default_rng([self._seed, int(n)]) for n in numbers]
        open_unrelated = [partial(draw_unrelated_frame, self._clips, clip.clip) for clip in drawn]
        samples = self.sampler(drawn, rngs, open_unrelated, self._spec.sides(common.scale))
        return stack(samples, common.counts.slots), self._stream.state

    @property
    def state(self) -> dict[str, int]:
        """What to store in order to resume from here."""
        return self._state

    def close(self) -> None:
        """Stop the workers."""
        self._thread.shutdown(cancel_futures=True)
        self._stream.close()

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _draw_batch_settings(
    spec: SamplingSpec, crops: CropSpec, batch: int, rng: np.random.Generator
) -> BatchSettings:
    scale = draw_scale(spec, rng)
    if not batch:
        # The lowest scale needs the largest LR crop, or the highest one gives the largest GT.
        scale = spec.scale[0] if crops.hr_side else spec.scale[1]
    return BatchSettings(scale, crops.draw_counts(rng, large=not batch))


def _draw_clip(
    spec: SamplingSpec, clip: Footage, rng: np.random.Generator, batch_settings: BatchSettings
) -> ClipSample:
    counts = batch_settings.counts
    if counts.references[1]:
        spec = replace(
            spec,
            min_key_frames=counts.key_frames[0],
            max_key_frames=counts.key_frames[1],
            min_references=counts.references[0],
            max_references=counts.references[1],
        )
    return draw_sample(spec, clip, rng, batch_settings.scale)


def make_live_sampler(config: Config, run: Run, clips: Items[Footage], batch_size: int) -> LiveSampler:
    """The frozen networks of live training.

    Raises:
        InputError: the config's matcher is a folder of matches, which are not those of training clips.
    """
    flow, matcher = frozen_flow(run), frozen_matcher(config, run)
    if matcher is not None and not isinstance(matcher, DenseMatcher):
        raise InputError(f"config.matcher={config.matcher}: choose gmflow or flow for training")
    net = LDIP(run.net.backbone.clone(parent=None, name=None), flow_net=flow and flow[0])
    params = {"backbone": run.backbone.params, **({"flow_net": flow[1]} if flow else {})}
    sizes = _sizes(clips)
    scale = config.data.scale
    return LiveSampler(
        net,
        params,
        matcher,
        crop_spec(config),
        batch_size=batch_size,
        canvas=(max(min(size) for size in sizes), max(max(size) for size in sizes)),
        scale=(float(scale[0]), float(scale[1])),
    )


def _sizes(clips: Items[Footage]) -> set[tuple[int, int]]:
    # Rendering clips, only to learn the size that all of them have, would take seconds.
    if isinstance(clips, SyntheticClips | CameraMoveClips):
        return {clips.size}
    return {clips[i].size for i in range(len(clips))}


def measured_clips(config: Config, run: Run, count: int) -> Iterator[MeasuredClip]:
    """A few training clips; the same in every process."""
    data = config.data
    if data.records:
        for file in check_records(data.records, run, data.heldout)[:count]:
            record = load_record(file)
            yield MeasuredClip(record.features, record.lr, record.hr)
        return
    clips, spec = open_clips(data, seed=config.seed), sampling_spec(data)
    networks = FrozenNetworks(run.net.backbone.clone(parent=None, name=None), run.backbone.params, None)
    for i in range(count):
        rng = np.random.default_rng([2, i])
        clip = draw_sample(spec, clips[int(rng.integers(len(clips)))], rng)
        span = slice(clip.first, clip.first + clip.count)
        frames = jnp.asarray(clip.lr[None, span], jnp.float32) / 255.0
        yield MeasuredClip(np.asarray(networks.features(frames)[0][0]), clip.lr[span], clip.hr[span])


def validation_samples(config: Config, run: Run, sampler: LiveSampler | None = None) -> list[Sample]:
    """The same few samples for every validation; none if the config names no validation data.

    Args:
        sampler: the frozen networks, if they are loaded already.

    Raises:
        InputError: see `Feed`.
    """
    data, spec = config.data, crop_spec(config)
    slots = (spec.max_key_frames, spec.max_references)
    count = config.validation_samples
    if data.validation_records:
        files = check_records(data.validation_records, run, "")
        make = RecordCropper.from_files(files, spec)
        chosen = [(files[i % len(files)], np.random.default_rng([1, i])) for i in range(count)]
        return [stack([make(file, rng)], slots) for file, rng in chosen]
    if data.dataset != "synthetic" and not data.validation_split:
        return []
    clips = open_clips(data, data.validation_split, seed=config.seed + 1)
    if sampler is None or not sampler.can_match(_sizes(clips)):
        sampler = make_live_sampler(config, run, clips, 1)
    clip_spec = sampling_spec(data)
    samples = []
    for i in range(count):
        rng = np.random.default_rng([1, i])
        clip = draw_sample(clip_spec, clips[i % len(clips)], rng)
        sides = spec.sides(clip.hr.shape[1] / clip.lr.shape[1])
        (sample,) = sampler([clip], [rng], [partial(draw_unrelated_frame, clips, clip.clip)], sides)
        samples.append(stack([sample], slots))
    return samples
