"""Which frozen networks records were made with, and whether they are a run's own."""

from pathlib import Path

from ldip_jax.data.heldout import read_heldout, refuse_held_out
from ldip_jax.data.records import record_files, record_provenance
from ldip_jax.errors import InputError
from ldip_jax.training.setup import Run
from ldip_jax.weights.flow import flow_identity
from ldip_jax.weights.load import Weights


def made_with(run: Run) -> dict[str, str]:
    """What a record of this run's frozen networks says of them."""
    return {"backbone_sha256": run.backbone.sha256, **_flow(run.flow)}


def _flow(weights: Weights | None) -> dict[str, str]:
    identity = flow_identity(weights)
    return {"flow": identity["name"], "flow_sha256": identity["sha256"]}


def check_record(file: Path, run: Run) -> dict[str, str]:
    """What a record was made with.

    Raises:
        InputError: with another backbone or optical flow than the run's; or it is no record.
    """
    # Records that say nothing of a flow were made with the backbone's own.
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
    """The records of a folder, none of other networks or of a held-out clip.

    Raises:
        InputError: one is; or there are none.
    """
    files = record_files(folder)
    names = []
    for file in files:
        names.append(check_record(file, run).get("clip", file.stem))
    if heldout:
        refuse_held_out(names, read_heldout(heldout), str(folder))
    return files
