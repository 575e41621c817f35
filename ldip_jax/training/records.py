"""Records: making them from a data set, and checking that they were made with a run's frozen networks."""

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ldip_jax.data.clips import ClipPlan, draw
from ldip_jax.data.datasets import clip_plan, named_fingerprints, open_clips
from ldip_jax.data.heldout import read_heldout, refuse_held_out
from ldip_jax.data.records import record_files, record_provenance, save_record
from ldip_jax.data.source import Stream
from ldip_jax.errors import InputError
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.networks import BACKBONES
from ldip_jax.progress import Progress
from ldip_jax.training.config import TrainingConfig, check_config
from ldip_jax.training.frozen import frozen_networks
from ldip_jax.training.setup import Run, frozen_backbone
from ldip_jax.weights.flow import flow_identity, load_flow
from ldip_jax.weights.load import Weights


def made_with(run: Run) -> dict[str, str]:
    """What a record that was made with this run's frozen networks says about them."""
    return {"backbone_sha256": run.backbone.sha256, **_flow(run.flow)}


def _flow(weights: Weights | None) -> dict[str, str]:
    identity = flow_identity(weights)
    return {"flow": identity["name"], "flow_sha256": identity["sha256"]}


def check_record(file: Path, run: Run) -> dict[str, str]:
    """What a record was made with.

    Raises:
        InputError: another backbone or optical flow than the run's; or the file is not a record.
    """
    # Records that say nothing about a flow were made with the backbone's own.
    found = {**_flow(None), **record_provenance(file)}
    now = made_with(run)
    if found.get("backbone_sha256") != now["backbone_sha256"]:
        raise InputError(f"{file}: made with another backbone; prepare records with config.backbone")
    if found["flow_sha256"] != now["flow_sha256"]:
        raise InputError(
            f"{file}: made with the optical flow {found['flow']}, not {now['flow']}; prepare records with"
            " this config.flow, or set it as it was"
        )
    return found


def check_records(folder: str | Path, run: Run, heldout: str) -> list[Path]:
    """The records in a folder, none of which may be of other networks or of a held-out clip.

    Raises:
        InputError: one of them is, or there are no records.
    """
    files = record_files(folder)
    clips = []
    for file in files:
        found = check_record(file, run)
        clips.append((found.get("clip", file.stem), found.get("fingerprint")))
    if heldout:
        refuse_held_out(clips, read_heldout(heldout), str(folder))
    return files


# The entry of a record's metadata that describes its damage.
DAMAGE = "damage"


def make_records(
    config: TrainingConfig, output: Path, count: int, split: str = "train", part: tuple[int, int] = (0, 1)
) -> None:
    """Write records 0 to count - 1 of a config; existing ones are kept.

    Args:
        part: (i, n): only the i-th of n equal parts of them, from 0; n processes can share the work.

    Raises:
        InputError: the config cannot be used, no data, a folder that cannot be written, or existing records
            that were made differently.
    """
    check_config(config)
    if config.method != "ldip":
        raise InputError(f"config.method={config.method}: is trained on clips; records are for LDIP")
    first, last = (count * (part[0] + i) // part[1] for i in (0, 1))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{output}: cannot be written ({error.strerror}); choose another --output"
        ) from error
    if count < 1:
        raise InputError(f"--count {count}: choose 1 or more")
    clips = open_clips(config.data, split, seed=config.seed)
    # No trainable component is made. The folder is for the backbone of debug configs, which is not a record.
    backbone = frozen_backbone(config.backbone, output / "backbone")
    net = LDIP(BACKBONES[backbone.network](**backbone.config, band_pixels=config.band_pixels or None))
    run = Run(net, backbone, {"backbone": backbone.params}, {}, {}, load_flow(config.flow))
    plan = clip_plan(config.data, spare=True)
    about = {**made_with(run), "matcher": config.matcher, "split": split, DAMAGE: _damage_of(plan)}
    todo = [n for n in range(first, last) if not _is_there(_file(output, n), run, about[DAMAGE])]
    if not todo:
        print(f"{output}: all {last - first} records exist already", file=sys.stderr)
        return
    work, known = frozen_networks(config, run), dict(named_fingerprints(clips))
    stream = Stream(
        clips,
        partial(draw, plan),
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
            clip = {"clip": sample.clip, "frames": sample.name, "input": sample.damage or "clean"}
            # The clips of a data set that was prepared by an earlier version have no fingerprints.
            if (fingerprint := known.get(sample.clip, "")) is not None:
                clip["fingerprint"] = fingerprint
            save_record(_file(output, number), work(sample), {**about, **clip})
            progress.advance("record")


def _file(output: Path, number: int) -> Path:
    return output / f"{number:06d}.safetensors"


def _damage_of(plan: ClipPlan) -> str:
    """The damage that clips and references may have, as a record describes it; "" for none."""
    told = {}
    if plan.input.active:
        told["input"] = asdict(plan.input)
    if plan.jitter.share:
        told["reference_jitter"] = asdict(plan.jitter)
    return json.dumps(told, sort_keys=True) if told else ""


def _is_there(file: Path, run: Run, damage: str) -> bool:
    if not file.exists():
        return False
    try:
        found = check_record(file, run)
    except InputError as error:
        raise InputError(f"{error}; or choose another --output") from error
    if found.get(DAMAGE, "") != damage:
        raise InputError(
            f"{file}: made with another config.data.input or reference_jitter; choose another --output"
        )
    return True
