"""Batches for the steps: from records, or from clips with the frozen networks run here and now."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from ldip_jax.data.clips import ClipSample, Footage, draw, draw_scale, unrelated
from ldip_jax.data.crops import CropPlan, RecordCrop, Sample, crop, fullest, stack
from ldip_jax.data.datasets import clip_plan, open_clips
from ldip_jax.data.records import load_record
from ldip_jax.data.source import Items, Stream
from ldip_jax.matching.choice import choose_matcher
from ldip_jax.training.config import Config, crop_plan
from ldip_jax.training.detail_maps import Example
from ldip_jax.training.frozen import FrozenWork
from ldip_jax.training.provenance import check_records
from ldip_jax.training.setup import Run
from ldip_jax.weights.flow import flow_network


class Feed:
    """This process's part of every global batch, in order; its `state` says where to go on.

    The samples of a global batch are the same whatever the number of processes. Slots for key-frames and
    references are cut to what the local batch needs where this process is alone and the scale is fixed (so
    that at most key_frames x references programs are compiled), else all are kept.
    """

    def __init__(self, config: Config, run: Run, process: tuple[int, int] = (0, 1), next_index: int = 0):
        """
        Args:
            process: number of this process, and how many there are.
            next_index: take up a run at this sample.

        Raises:
            InputError: no data, held-out clips among it, or data that does not fit the config.
        """
        data = config.data
        self._plan = crop_plan(config)
        self._process, self._seed, self._batch_size = process, config.seed, config.batch_size
        self._full = process[1] > 1 or data.scale[0] != data.scale[1]
        # The frozen networks, where no record has their work done; for validation too.
        self.work: FrozenWork | None = None
        options = {
            "seed": config.seed,
            "batch_size": config.batch_size,
            "process": process,
            "workers": data.workers,
            "next_index": next_index,
        }
        if data.records:
            files = check_records(data.records, run, data.heldout)
            crops = RecordCrop.of(files, self._plan)
            self._stream: Stream[Any] = Stream(files, crops, common=crops.common, **options)
        else:
            plan = clip_plan(data)
            # One scale for all of a batch, in whatever process: its sides depend on it.
            self._scale = partial(draw_scale, plan)
            self._clips = open_clips(data, seed=config.seed)
            self._stream = Stream(self._clips, partial(draw, plan), common=self._scale, **options)
            self.work = frozen_work(config, run)

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        first = self._stream.state["next_index"]
        drawn = next(self._stream)
        samples = drawn
        if self.work is not None:
            numbers = first + self._process[0] + self._process[1] * np.arange(len(drawn))
            scale = self._scale(np.random.default_rng([self._seed, first // self._batch_size]))
            sides = self._plan.sides(scale)
            samples = [self._sample(clip, int(n), sides) for clip, n in zip(drawn, numbers, strict=True)]
        most = (self._plan.keys, self._plan.references)
        return stack(samples, most if self._full else fullest(samples))

    def _sample(self, clip: ClipSample, number: int, sides: tuple[int, int]) -> Sample:
        assert self.work is not None
        rng = np.random.default_rng([self._seed, number])
        return _live(self.work, clip, self._clips, rng, self._plan, sides)

    @property
    def state(self) -> dict[str, int]:
        """What to store to go on from here."""
        return self._stream.state

    def close(self) -> None:
        """End the workers."""
        self._stream.close()

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _live(
    work: FrozenWork,
    clip: ClipSample,
    clips: Items[Footage],
    rng: np.random.Generator,
    plan: CropPlan,
    sides: tuple[int, int] | None = None,
) -> Sample:
    """A sample with the frozen networks run here and now: all that was drawn is used, so all is matched."""
    other = partial(unrelated, clips, clip.clip)
    return crop(work(clip), other, rng, plan, clip.name, sides, all_drawn=True)


def examples(config: Config, run: Run, count: int) -> Iterator[Example]:
    """A few training clips; the same in every process."""
    data = config.data
    if data.records:
        for file in check_records(data.records, run, data.heldout)[:count]:
            record = load_record(file)
            yield Example(record.features, record.lr, record.hr)
        return
    clips, plan = open_clips(data, seed=config.seed), clip_plan(data)
    work = FrozenWork(run.net.backbone.clone(parent=None, name=None), run.backbone.params, None)
    for i in range(count):
        rng = np.random.default_rng([2, i])
        clip = draw(plan, clips[int(rng.integers(len(clips)))], rng)
        span = slice(clip.first, clip.first + clip.count)
        frames = jnp.asarray(clip.lr[None, span], jnp.float32) / 255.0
        yield Example(np.asarray(work.features(frames)[0][0]), clip.lr[span], clip.hr[span])


def frozen_work(config: Config, run: Run) -> FrozenWork:
    """The frozen networks of a run; made-up clips bring their own matches and need no matcher."""
    network = run.net.backbone.clone(parent=None, name=None)
    net = flow_network(run.flow)
    flow = None if net is None or run.flow is None else (net, run.flow.params)
    matcher = None
    if config.data.dataset not in ("synthetic", "stills"):
        matcher = choose_matcher(config.matcher, run.backbone.params["spynet"], flow=flow)
    return FrozenWork(network, run.backbone.params, matcher, flow)


def validation_samples(config: Config, run: Run, work: FrozenWork | None = None) -> list[Sample]:
    """The same few samples at every validation; none where the config names no data for it.

    Args:
        work: the frozen networks, if they are there already.

    Raises:
        InputError: see `Feed`.
    """
    data, plan = config.data, crop_plan(config)
    most = (plan.keys, plan.references)
    count = config.validation_samples
    if data.validation_records:
        files = check_records(data.validation_records, run, "")
        make = RecordCrop.of(files, plan)
        chosen = [(files[i % len(files)], np.random.default_rng([1, i])) for i in range(count)]
        return [stack([make(file, rng)], most) for file, rng in chosen]
    if data.dataset != "synthetic" and not data.validation_split:
        return []
    clips = open_clips(data, data.validation_split, seed=config.seed + 1)
    work, clip_draw = work or frozen_work(config, run), clip_plan(data)
    samples = []
    for i in range(count):
        rng = np.random.default_rng([1, i])
        clip = draw(clip_draw, clips[i % len(clips)], rng)
        samples.append(stack([_live(work, clip, clips, rng, plan)], most))
    return samples
