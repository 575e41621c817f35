"""Training batches and validation samples: from records, or from clips with the frozen networks run live."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ldip_jax.data.clips import ClipPlan, ClipSample, Footage, draw, draw_scale, unrelated
from ldip_jax.data.crops import CropPlan, RecordCrop, Sample, stack
from ldip_jax.data.datasets import clip_plan, open_clips
from ldip_jax.data.numbers import Numbers
from ldip_jax.data.records import load_record
from ldip_jax.data.source import Items, Stream
from ldip_jax.errors import InputError
from ldip_jax.matching.dense import DenseMatcher
from ldip_jax.models.ldip import LDIP
from ldip_jax.training.config import Config, crop_plan
from ldip_jax.training.features import Example
from ldip_jax.training.frozen import FrozenNetworks, frozen_flow, frozen_matcher
from ldip_jax.training.live import LiveWork
from ldip_jax.training.records import check_records
from ldip_jax.training.setup import Run


class Common(NamedTuple):
    """What the clips of a global batch have in common.

    Attributes:
        scale: HR size divided by LR size, on which the sides of crops depend.
        numbers: of key-frames and references.
    """

    scale: float
    numbers: Numbers


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
        self._plan = crop_plan(config)
        self._process, self._seed = process, config.seed
        # The frozen networks, unless records hold their output; validation uses them too.
        self.work: LiveWork | None = None
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
            self._clips = open_clips(data, seed=config.seed)
            common = partial(_common, plan, self._plan)
            self._stream = Stream(self._clips, partial(_drawn, plan), common=common, **options)
            self.work = live_work(config, run, self._clips, config.batch_size // process[1])
        self._state = self._stream.state
        self._ahead: Future[tuple[Sample, dict[str, int]]] | None = None
        self._thread = ThreadPoolExecutor(1, "feed")

    def __iter__(self) -> Iterator[Sample]:
        return self

    def __next__(self) -> Sample:
        made = self._ahead or self._thread.submit(self._make)
        batch, self._state = made.result()
        self._ahead = self._thread.submit(self._make)
        return batch

    def _make(self) -> tuple[Sample, dict[str, int]]:
        first = self._stream.state["next_index"]
        common = self._stream.common
        drawn = next(self._stream)
        if self.work is None:
            return stack(drawn, common[1].slots), self._stream.state
        numbers = first + self._process[0] + self._process[1] * np.arange(len(drawn))
        rngs = [np.random.default_rng([self._seed, int(n)]) for n in numbers]
        others = [partial(unrelated, self._clips, clip.clip) for clip in drawn]
        samples = self.work(drawn, rngs, others, self._plan.sides(common.scale))
        return stack(samples, common.numbers.slots), self._stream.state

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


def _common(plan: ClipPlan, crops: CropPlan, batch: int, rng: np.random.Generator) -> Common:
    scale = draw_scale(plan, rng)
    if not batch:
        # The lowest scale needs the largest LR crop, or the highest one gives the largest GT.
        scale = plan.scale[0] if crops.hr else plan.scale[1]
    return Common(scale, crops.numbers(rng, large=not batch))


def _drawn(plan: ClipPlan, clip: Footage, rng: np.random.Generator, common: Common) -> ClipSample:
    (fewest_keys, keys), (fewest, references) = common.numbers.keys, common.numbers.references
    if references:
        plan = replace(
            plan,
            fewest_key_frames=fewest_keys,
            key_frames=keys,
            fewest_references=fewest,
            references=references,
        )
    return draw(plan, clip, rng, common.scale)


def live_work(config: Config, run: Run, clips: Items[Footage], batch_size: int) -> LiveWork:
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
    return LiveWork(
        net,
        params,
        matcher,
        crop_plan(config),
        batch_size=batch_size,
        canvas=(max(min(size) for size in sizes), max(max(size) for size in sizes)),
        scale=(float(scale[0]), float(scale[1])),
    )


def _sizes(clips: Items[Footage]) -> set[tuple[int, int]]:
    return {clips[i].size for i in range(len(clips))}


def examples(config: Config, run: Run, count: int) -> Iterator[Example]:
    """A few training clips; the same in every process."""
    data = config.data
    if data.records:
        for file in check_records(data.records, run, data.heldout)[:count]:
            record = load_record(file)
            yield Example(record.features, record.lr, record.hr)
        return
    clips, plan = open_clips(data, seed=config.seed), clip_plan(data)
    work = FrozenNetworks(run.net.backbone.clone(parent=None, name=None), run.backbone.params, None)
    for i in range(count):
        rng = np.random.default_rng([2, i])
        clip = draw(plan, clips[int(rng.integers(len(clips)))], rng)
        span = slice(clip.first, clip.first + clip.count)
        frames = jnp.asarray(clip.lr[None, span], jnp.float32) / 255.0
        yield Example(np.asarray(work.features(frames)[0][0]), clip.lr[span], clip.hr[span])


def validation_samples(config: Config, run: Run, work: LiveWork | None = None) -> list[Sample]:
    """The same few samples for every validation; none if the config names no validation data.

    Args:
        work: the frozen networks, if they are loaded already.

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
    if work is None or not work.takes(_sizes(clips)):
        work = live_work(config, run, clips, 1)
    clip_draw = clip_plan(data)
    samples = []
    for i in range(count):
        rng = np.random.default_rng([1, i])
        clip = draw(clip_draw, clips[i % len(clips)], rng)
        sides = plan.sides(clip.hr.shape[1] / clip.lr.shape[1])
        (sample,) = work([clip], [rng], [partial(unrelated, clips, clip.clip)], sides)
        samples.append(stack([sample], most))
    return samples
