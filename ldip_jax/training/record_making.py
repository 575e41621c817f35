"""Records: making them from a data set, and checking that they were made with a run's frozen networks."""

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from ldip_jax.data.clips import SamplingSpec, draw_sample
from ldip_jax.data.datasets import named_fingerprints, open_clips, sampling_spec
from ldip_jax.data.heldout import read_heldout, refuse_held_out
from ldip_jax.data.records import record_files, record_provenance, save_record
from ldip_jax.data.source import SampleStream
from ldip_jax.errors import InputError
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.networks import BACKBONES
from ldip_jax.progress import Progress
from ldip_jax.training.config import TrainingConfig, check_config
from ldip_jax.training.frozen import frozen_networks
from ldip_jax.training.setup import Run, frozen_backbone
from ldip_jax.weights.flow import flow_identity, load_flow
from ldip_jax.weights.load import Weights


def network_provenance(run: Run) -> dict[str, str]:
    """What a record that was made with this run's frozen networks says about them."""
    return {"backbone_sha256": run.backbone.sha256, **_flow_provenance(run.flow)}


def _flow_provenance(weights: Weights | None) -> dict[str, str]:
    identity = flow_identity(weights)
    return {"flow": identity["name"], "flow_sha256": identity["sha256"]}


def check_record(file: Path, run: Run) -> dict[str, str]:
    """What a record was made with.

    Raises:
        InputError: another backbone or optical flow than the run's; or the file is not a record.
    """
    # Records that say nothing about a flow were made with the backbone's own.
    found = {**_flow_provenance(None), **record_provenance(file)}
    current = network_provenance(run)
    if found.get("backbone_sha256") != current["backbone_sha256"]:
        raise InputError(f"{file}: made with another backbone; prepare records with config.backbone")
    if found["flow_sha256"] != current["flow_sha256"]:
        raise InputError(
            f"{file}: made with the optical flow {found['flow']}, not {current['flow']}; prepare records with"
            " this config.flow, or set it to that of the records"
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
    spec = sampling_spec(config.data, for_records=True)
    provenance = {
        **network_provenance(run),
        "matcher": config.matcher,
        "split": split,
        DAMAGE: _describe_damage(spec),
    }
    missing = [n for n in range(first, last) if not _exists(_file(output, n), run, provenance[DAMAGE])]
    if not missing:
        print(f"{output}: all {last - first} records exist already", file=sys.stderr)
        return
    networks, known = frozen_networks(config, run), dict(named_fingerprints(clips))
    stream = SampleStream(
        clips,
        partial(draw_sample, spec),
        seed=config.seed,
        batch_size=1,
        workers=config.data.workers,
        next_index=missing[0],
    )
    with stream, Progress("making records", {"record": len(missing)}, {"record": 1.0}) as progress:
        for number in missing:
            if stream.state["next_index"] != number:
                stream.seek(number)
            (sample,) = next(stream)
            clip = {"clip": sample.clip, "frames": sample.name, "input": sample.damage or "clean"}
            # The clips of a data set that was prepared by an earlier version have no fingerprints.
            if (fingerprint := known.get(sample.clip, "")) is not None:
                clip["fingerprint"] = fingerprint
            save_record(_file(output, number), networks(sample), {**provenance, **clip})
            progress.advance("record")


def _file(output: Path, number: int) -> Path:
    return output / f"{number:06d}.safetensors"


def _describe_damage(spec: SamplingSpec) -> str:
    """The damage that clips and references may have, as a record describes it; "" for none."""
    description = {}
    if spec.input.active:
        description["input"] = asdict(spec.input)
    if spec.jitter.share:
        description["reference_jitter"] = asdict(spec.jitter)
    return json.dumps(description, sort_keys=True) if description else ""


def _exists(file: Path, run: Run, damage: str) -> bool:
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
