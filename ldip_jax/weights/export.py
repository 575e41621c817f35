"""Exports: trained components in one `.safetensors` file, with their settings and provenance."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ldip_jax.errors import InputError
from ldip_jax.models.carry import PROPAGATIONS
from ldip_jax.models.trainable import trainable_shapes
from ldip_jax.untrusted import printable
from ldip_jax.weights.formats import read_checkpoint, write_safetensors
from ldip_jax.weights.limits import reporting_damage
from ldip_jax.weights.load import EXPORT_FORMAT, Weights, is_sha256
from ldip_jax.weights.rules import as_params, check_params, flatten

GROUPS = ("lrrf", "as_head", "as_decoder")
TYPES = {"float32": np.float32, "bfloat16": jnp.bfloat16}
SHIPPED = Path(__file__).parent / "shipped"
# See `Export.hrip_reach`: a reach of two frames is within 0.01 dB of all frames.
HRIP_REACH, LONGEST_REACH = 2, 64
# The metadata entry "use" of shipped weights for which a clip's own frames bring no gain.
WITH_STILLS = "with stills"


@dataclass(frozen=True)
class Export:
    """Weights for one backbone.

    Attributes:
        groups: parameters by component: "lrrf", "as_head", "as_decoder", as present; float32.
        config: the modules' settings: {"lrrf": {...}, "as_head": {...}, "hook": ...};
            and {"flow": {"name": ..., "sha256": ...}}, the network whose optical flow LRRF was trained with,
            if that is not the backbone's own; and {"propagation": ..., "hrip_reach": ...}, how detail gets
            from key-frames to the other frames (see `LDIP`), if that is not "hrip".
        backbone: the backbone's name, for messages.
        backbone_sha256: of the backbone's original checkpoint file.
        provenance: free text entries: data, steps, commit.
        has_checksum: whether a checksum in the file covers all of it.
    """

    groups: dict[str, dict[str, Any]]
    config: dict[str, Any]
    backbone: str
    backbone_sha256: str
    provenance: dict[str, str]
    has_checksum: bool = False

    @property
    def propagation(self) -> str:
        """How detail gets from key-frames to the other frames."""
        return self.config.get("propagation", PROPAGATIONS[0])

    @property
    def hrip_reach(self) -> int:
        """The number of frames around a key-frame over which HRIP makes the detail that is carried.

        With weights that were trained for HRIP, the detail is complete only after HRIP.
        """
        return self.config.get("hrip_reach", HRIP_REACH if self.propagation == PROPAGATIONS[0] else 0)

    @property
    def gains_only_from_stills(self) -> bool:
        """Whether the weights' metadata says that they gain only from the user's reference images."""
        return self.provenance.get("use") == WITH_STILLS


def save_export(path: str | Path, export: Export, dtype: str = "float32") -> None:
    """Write an export atomically; names are Flax paths joined by `/`.

    Args:
        path: the file, replaced if it exists.
        export: what to write.
        dtype: the stored type, "float32" or "bfloat16".

    Raises:
        InputError: the file cannot be written.
        ValueError: a group that is not in `GROUPS`.
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


def is_shipped(what: str | Path) -> bool:
    """Whether these weights come with this package: "default", or the name of a shipped export."""
    return str(what) in ("default", *shipped_names())


def export_file(what: str | Path) -> Path:
    """The file of a shipped export, given its name; anything else is taken as a file's path."""
    return SHIPPED / f"{what}.safetensors" if what in shipped_names() else Path(what)


def read_export(path: str | Path) -> Export:
    """An export, for whatever backbone; shapes are not checked.

    Raises:
        InputError: no such file, damaged, or not an export.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.metadata.get("format") != EXPORT_FORMAT:
        raise InputError(f"{path}: not an LRRF export (a .safetensors file with format {EXPORT_FORMAT})")
    text = dict(checkpoint.metadata)
    with reporting_damage(path):
        text.pop("format")
        config = json.loads(text.pop("config"), parse_constant=_refuse_non_finite)
        backbone, sha256 = printable(text.pop("backbone")), text.pop("backbone_sha256")
        groups = as_params(checkpoint.arrays)
        if type(config) is not dict or not is_sha256(sha256):
            raise ValueError("its description is not that of an export")
        # Modules accept these two as well, but they are not options.
        fields = {
            f"{name}.{option}"
            for name in GROUPS
            for option in ("name", "parent")
            if option in config.get(name, ())
        }
        fields |= set(config) - {*GROUPS, "hook", "flow", "propagation", "hrip_reach"}
        reach = config.get("hrip_reach", 0)
        if type(reach) is not int or not 0 <= reach <= LONGEST_REACH:
            raise ValueError("the hrip_reach in its config is not valid")
        if config.get("propagation", PROPAGATIONS[0]) not in PROPAGATIONS:
            raise InputError(
                f"{path}: its propagation {printable(str(config['propagation']))} is unknown to this version"
            )
        if "flow" in config:
            name, digest = (config["flow"][key] for key in ("name", "sha256"))
            if type(name) is not str or len(config["flow"]) != 2 or not is_sha256(digest):
                raise ValueError("the flow in its config is not valid")
    if fields:
        raise InputError(
            f"{path}: its config has {printable(', '.join(sorted(fields)))}, unknown to this version"
        )
    if unknown := set(groups) - set(GROUPS):
        raise InputError(f"{path}: holds {printable(', '.join(sorted(unknown)))}, unknown to this version")
    if ("as_head" in groups) != ("as_decoder" in groups):
        raise InputError(f"{path}: has one of as_head and as_decoder without the other; export it again")
    return Export(groups, config, backbone, sha256, text, checkpoint.has_checksum)


def _refuse_non_finite(text: str) -> None:
    raise ValueError(f"{text} in its config")


def is_export(path: str | Path) -> bool:
    """Whether the file exists and says that it is an export.

    Raises:
        InputError: damaged, or the file does not contain weights.
    """
    return os.path.exists(path) and read_checkpoint(path).metadata.get("format") == EXPORT_FORMAT


def load_export(path: str | Path, *, backbone: Weights) -> Export:
    """An export for this backbone, with names, shapes and values checked.

    Raises:
        InputError: see `read_export`; or it is for another backbone, or does not fit this version's networks.
    """
    export = read_export(path)
    if export.backbone_sha256 != backbone.sha256:
        raise InputError(
            f"{path}: made for the backbone {export.backbone} (sha256 {export.backbone_sha256[:8]}), not for"
            f" {backbone.name} (sha256 {backbone.sha256[:8]}); give the matching --backbone"
        )
    with reporting_damage(path):
        shapes = trainable_shapes(export.groups, export.config, str(path))
    check_params(export.groups, shapes, f"{path}, as an LRRF export")
    return export


def shipped_export(backbone: str, kind: str) -> Path | None:
    """The export for a backbone that comes with this package, if there is one.

    Args:
        backbone: name of the backbone's weights.
        kind: "x4" for the backbone's own scale, "x4-self" for that scale without reference images.
    """
    name = f"{backbone}-{kind}"
    return export_file(name) if name in shipped_names() else None
