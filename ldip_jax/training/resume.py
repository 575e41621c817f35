"""Whether a stored run and the one that is starting are the same."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldip_jax.errors import InputError
from ldip_jax.training.leaves import some
from ldip_jax.weights.rules import flatten

# What a resumed run may change: how long it trains, what it says and stores, where its data lies. Everything
# else (networks, what is trained, samples, batch, optimizer, seed) would make it another run.
MAY_CHANGE = frozenset(
    {"steps", "log_every", "validate_every", "validation_samples", "checkpoint_every"}
    | {"keep_last", "patience", "data.workers", "data.data_dir", "data.validation_records"}
)
_ABSENT = object()


def check_same_run(stored: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Compare the configuration and the frozen weights of a checkpoint with those of this run.

    Args:
        stored: "config" (as JSON gives it) and "frozen" (sha256 by name) of the checkpoint.
        now: the same of this run.
        path: of the checkpoint, for messages.

    Raises:
        InputError: they differ in something that a resumed run may not change; names it.
    """
    before, after = _flat(stored["config"]), _flat(now["config"])
    changed = [
        f"{name} ({_show(before, name)} there, {_show(after, name)} now)"
        for name in sorted(before.keys() | after.keys())
        if before.get(name, _ABSENT) != after.get(name, _ABSENT) and name not in MAY_CHANGE
    ]
    if changed:
        raise InputError(
            f"{path}: of a run with another config: {some(changed)}; set that back, or give another --workdir"
        )
    weights = [
        name
        for name in sorted(stored["frozen"].keys() | now["frozen"].keys())
        if stored["frozen"].get(name) != now["frozen"].get(name)
    ]
    if weights:
        raise InputError(
            f"{path}: trained with other frozen weights: {some(weights)}; bring those back, or give another"
            " --workdir"
        )


def _show(config: Mapping[str, Any], name: str) -> str:
    return str(config.get(name, "absent"))


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields by the names that the command line has for them."""
    return {name.replace("/", "."): value for name, value in flatten(config).items()}
