"""Trained LRRF weights in one `.safetensors` file, with what they were trained on and for."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ldip_jax.errors import InputError
from ldip_jax.models.assemble import trainable_shapes
from ldip_jax.weights.formats import read_checkpoint, write_safetensors
from ldip_jax.weights.limits import damage_named, printable
from ldip_jax.weights.load import EXPORT_FORMAT, Weights, is_sha256
from ldip_jax.weights.rules import as_params, check_params, flatten

GROUPS = ("lrrf", "as_head", "as_decoder")
TYPES = {"float32": np.float32, "bfloat16": jnp.bfloat16}
SHIPPED = Path(__file__).parent / "shipped"
# What shipped weights say in their metadata under "use" while the clip's own frames gain them nothing.
WITH_STILLS = "with stills"


@dataclass(frozen=True)
class Export:
    """Weights that go with one backbone.

    Attributes:
        groups: parameters by box: "lrrf", "as_head", "as_decoder", as present; float32.
        config: how the modules are put together: {"lrrf": {...}, "as_head": {...}, "hook": ...};
            and {"flow": {"name": ..., "sha256": ...}}, the network whose optical flow LRRF was trained with,
            where that is not the backbone's own.
        backbone: the backbone's name, for messages.
        backbone_sha256: of the backbone's original checkpoint file.
        provenance: free text entries: data, steps, commit.
    """

    groups: dict[str, dict[str, Any]]
    config: dict[str, Any]
    backbone: str
    backbone_sha256: str
    provenance: dict[str, str]

    @property
    def wants_stills(self) -> bool:
        """Whether the weights say of themselves that they gain from the user's stills alone."""
        return self.provenance.get("use") == WITH_STILLS


def save_export(path: str | Path, export: Export, dtype: str = "float32") -> None:
    """Write an export, whole or not at all; names are Flax paths joined by `/`.

    Args:
        path: the file, replaced if it exists.
        export: what to write.
        dtype: "float32" or "bfloat16", as stored.

    Raises:
        InputError: the file cannot be written.
        ValueError: a group that is none of `GROUPS`.
    """
    if unknown := set(export.groups) - set(GROUPS):
        raise ValueError(f"an export has the groups {GROUPS}, not {sorted(unknown)}")
    arrays = {
        name: np.asarray(leaf, np.float32).astype(TYPES[dtype])
        for name, leaf in flatten(export.groups).items()
    }
    metadata = {
        **export.provenance,
        "format": EXPORT_FORMAT,
        "config": json.dumps(export.config, sort_keys=True),
        "backbone": export.backbone,
        "backbone_sha256": export.backbone_sha256,
    }
    write_safetensors(path, arrays, metadata)


def shipped_names() -> list[str]:
    """Names of the exports that come with this package."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def export_file(what: str | Path) -> Path:
    """The file of a shipped export's name; anything else is a file's path already."""
    return SHIPPED / f"{what}.safetensors" if what in shipped_names() else Path(what)


def read_export(path: str | Path) -> Export:
    """An export as it is, whatever backbone it is for; shapes are not looked at.

    Raises:
        InputError: no such file, damaged, or not an export.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.metadata.get("format") != EXPORT_FORMAT:
        raise InputError(f"{path}: not an LRRF export (a .safetensors file with format {EXPORT_FORMAT})")
    text = dict(checkpoint.metadata)
    with damage_named(path):
        text.pop("format")
        config = json.loads(text.pop("config"), parse_constant=_no_number)
        backbone, sha256 = printable(text.pop("backbone")), text.pop("backbone_sha256")
        groups = as_params(checkpoint.arrays)
        if type(config) is not dict or not is_sha256(sha256):
            raise ValueError("its description is none of an export")
        # A module takes these two as well, but they are no options.
        fields = {
            f"{name}.{option}"
            for name in GROUPS
            for option in ("name", "parent")
            if option in config.get(name, ())
        }
        fields |= set(config) - {*GROUPS, "hook", "flow"}
        if "flow" in config:
            name, digest = (config["flow"][key] for key in ("name", "sha256"))
            if type(name) is not str or len(config["flow"]) != 2 or not is_sha256(digest):
                raise ValueError("the flow in its config is none")
    if fields:
        raise InputError(
            f"{path}: its config has {printable(', '.join(sorted(fields)))}, unknown to this version"
        )
    if unknown := set(groups) - set(GROUPS):
        raise InputError(f"{path}: holds {printable(', '.join(sorted(unknown)))}, unknown to this version")
    if ("as_head" in groups) != ("as_decoder" in groups):
        raise InputError(f"{path}: has one of as_head and as_decoder without the other; export it again")
    return Export(groups, config, backbone, sha256, text)


def _no_number(text: str) -> None:
    raise ValueError(f"{text} in its config")


def is_export(path: str | Path) -> bool:
    """Whether there is such a file and it says that it is an export.

    Raises:
        InputError: damaged, or no weights at all.
    """
    return os.path.exists(path) and read_checkpoint(path).metadata.get("format") == EXPORT_FORMAT


def load_export(path: str | Path, *, backbone: Weights) -> Export:
    """An export for this backbone, its names, shapes and values checked.

    Raises:
        InputError: see `read_export`; or it is for another backbone, or does not fit the networks here.
    """
    export = read_export(path)
    if export.backbone_sha256 != backbone.sha256:
        raise InputError(
            f"{path}: made for the backbone {export.backbone} (sha256 {export.backbone_sha256[:8]}), not for"
            f" {backbone.name} (sha256 {backbone.sha256[:8]}); give the matching --backbone"
        )
    with damage_named(path):
        shapes = trainable_shapes(export.groups, export.config, str(path))
    check_params(export.groups, shapes, f"{path}, as an LRRF export")
    return export


def shipped_export(backbone: str, kind: str) -> Path | None:
    """The export that comes with this package, if there is one.

    Args:
        backbone: name of the backbone's weights.
        kind: "x4" for the backbone's own scale, "x4-self" for clips without stills there.
    """
    name = f"{backbone}-{kind}"
    return export_file(name) if name in shipped_names() else None
