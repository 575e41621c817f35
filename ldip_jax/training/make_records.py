"""Records made once from a prepared data set, so that training need not run the frozen networks.

python -m ldip_jax.data.prepare records --config configs/ldip_basicvsr_x4.py --output RECORDS --count 1000
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ldip_jax.data.clips import draw
from ldip_jax.data.datasets import clip_plan, open_clips
from ldip_jax.data.records import save_record
from ldip_jax.data.source import Stream
from ldip_jax.errors import InputError
from ldip_jax.models.backbone import BACKBONES
from ldip_jax.models.ldip import LDIP
from ldip_jax.progress import Progress
from ldip_jax.training.config import Config
from ldip_jax.training.feed import frozen_work
from ldip_jax.training.provenance import check_record, made_with
from ldip_jax.training.setup import Run, frozen_backbone
from ldip_jax.weights.flow import load_flow


def read_config(path: str, overrides: Sequence[str]) -> Config:
    """A plan with `--config.NAME=VALUE` applied, as train.py reads it.

    Raises:
        InputError: no such plan, or no such field.
    """
    values = flags.FlagValues()
    arguments = ["prepare", f"--config={path}", *overrides]
    holder = config_flags.DEFINE_config_file(
        "config", lock_config=True, flag_values=values, sys_argv=arguments
    )
    try:
        rest = values(arguments)
    except (flags.Error, OSError, ImportError, AttributeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"--config {path}: {reason}; choose a file of configs/ and fields that it has"
        ) from error
    if len(rest) > 1:
        raise InputError(f"{rest[1]}: no such flag; --help lists them")
    return holder.value


def make_records(config: Config, output: Path, count: int, split: str = "train") -> None:
    """Write records 0 to count - 1 of a config; those that are there already stay.

    Raises:
        InputError: no data, nothing to write to, or records of another backbone in the way.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{output}: cannot be written ({error.strerror}); choose another --output"
        ) from error
    if count < 1:
        raise InputError(f"--count {count}: choose 1 or more")
    clips = open_clips(config.data, split, seed=config.seed)
    # Nothing that is trained is made. The folder is for the backbone of debug plans, which is no record.
    backbone = frozen_backbone(config.backbone, output / "backbone")
    net = LDIP(BACKBONES[backbone.network](**backbone.config, band_pixels=config.band_pixels or None))
    run = Run(net, backbone, {"backbone": backbone.params}, {}, {}, load_flow(config.flow))
    about = {**made_with(run), "matcher": config.matcher, "split": split}
    todo = [n for n in range(count) if not _is_there(_file(output, n), run)]
    if not todo:
        print(f"{output}: all {count} records are there already", file=sys.stderr)
        return
    work = frozen_work(config, run)
    stream = Stream(
        clips,
        partial(draw, clip_plan(config.data, spare=True)),
        seed=config.seed,
        batch_size=1,
        workers=config.data.workers,
        next_index=todo[0],
    )
    with stream, Progress("making records", {"record": len(todo)}, {"record": 1.0}) as progress:
        for number in todo:
            if stream.state["next_index"] != number:
                stream.seek(number)
            (sample,) = next(stream)
            clip = {"clip": sample.clip, "frames": sample.name}
            save_record(_file(output, number), work(sample), {**about, **clip})
            progress.advance("record")


def _file(output: Path, number: int) -> Path:
    return output / f"{number:06d}.safetensors"


def _is_there(file: Path, run: Run) -> bool:
    if not file.exists():
        return False
    try:
        check_record(file, run)
    except InputError as error:
        raise InputError(f"{error}; or choose another --output") from error
    return True
