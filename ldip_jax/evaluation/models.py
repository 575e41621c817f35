"""The networks of an evaluation: one for each kind of weights, put together again for each frame size."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from ldip_jax.errors import InputError
from ldip_jax.evaluation.bicubic import Bicubic
from ldip_jax.evaluation.protocols import Column
from ldip_jax.inference.model import Model, load_model
from ldip_jax.inference.references import Rules
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.weights.export import export_file, shipped_names
from ldip_jax.weights.rules import flatten

EXPORT = "export.safetensors"


def resolve_checkpoint(text: str) -> str:
    """The export of a run's folder or of a shipped name; "default", "none" and files stay as they are.

    Raises:
        InputError: a folder without an export, or no such file.
    """
    path = export_file(text)
    if text in ("default", "none") and not path.exists():
        return text
    if path.is_dir():
        if not (path / EXPORT).is_file():
            raise InputError(f"{text}: holds no {EXPORT}; give a training run's folder, or an export's file")
        return str(path / EXPORT)
    if not path.is_file():
        names = ", ".join(shipped_names())
        raise InputError(
            f"{text}: no such checkpoint; give a run's folder, an export, default, none or {names}"
        )
    return str(path)


@dataclass(frozen=True)
class Networks:
    """What is evaluated.

    Attributes:
        backbone: name or file of its weights.
        checkpoint: "default", "none" or an export, as `resolve_checkpoint` gives it.
        cross: an export without ICA, for the column that compares with it.
        matcher, key_stride, rules: see `Upscaler`.
    """

    backbone: str = "basicvsr-reds4"
    checkpoint: str = "default"
    cross: str | None = None
    matcher: str = "gmflow"
    key_stride: int = 8
    rules: Rules = field(default_factory=Rules)


class Models:
    """Upscalers as they are needed; those of one frame size are kept at a time."""

    def __init__(self, networks: Networks, say: Callable[[str], object]):
        self._networks, self._say = networks, say
        self._models: dict[tuple[str, bool], Model] = {}
        self._upscalers: dict[tuple[str, float | None], Upscaler | Bicubic] = {}
        self._identities: dict[tuple[str, bool], dict[str, str]] = {}
        self._size: tuple[tuple[int, int], tuple[int, int]] | None = None

    def model(self, column: Column, *, native: bool) -> Model | None:
        """The column's network, None where there are no weights for it.

        Args:
            native: whether HR is exactly x4 on both axes.

        Raises:
            InputError: weights that cannot be had, or do not belong together.
        """
        weights = {
            "none": "none",
            "bicubic": "none",
            "checkpoint": self._networks.checkpoint,
            "cross": self._networks.cross or "none",
        }[column.weights]
        alone = column.weights in ("none", "bicubic")
        if weights == "none" and not alone:
            return None
        if (weights, native) not in self._models:
            model = load_model(self._networks.backbone, weights, native=native, progress=self._say)
            self._models[weights, native] = model
            for note in model.notes:
                self._say(note)
        model = self._models[weights, native]
        if alone or model.export is not None:
            return model
        return None

    def identity(self, column: Column, *, native: bool) -> dict[str, str]:
        """What tells these weights from others: sha256 of the backbone's file and of LRRF's numbers."""
        key = (column.weights, native)
        if key not in self._identities:
            model = self.model(column, native=native)
            assert model is not None
            self._identities[key] = _identity(model)
        return self._identities[key]

    def upscaler(self, column: Column, lr: tuple[int, int], hr: tuple[int, int]) -> Upscaler | Bicubic | None:
        """The column's network for frames of these sizes; None where there are no weights for it."""
        if self._size != (lr, hr):
            self._upscalers.clear()
            self._size = (lr, hr)
        model = self.model(column, native=hr == (4 * lr[0], 4 * lr[1]))
        if model is None:
            return None
        if column.weights == "bicubic":
            return Bicubic(model, hr)
        rules, threshold = self._networks.rules, column.threshold
        if (column.weights, threshold) not in self._upscalers:
            if threshold is not None:
                rules = Rules(rules.self_refs, rules.exclude, threshold)
            self._upscalers[column.weights, threshold] = Upscaler(
                model,
                lr,
                hr,
                key_stride=self._networks.key_stride,
                rules=rules,
                matcher=self._networks.matcher,
                progress=self._say,
            )
        return self._upscalers[column.weights, threshold]


def _identity(model: Model) -> dict[str, str]:
    identity = {"backbone": model.backbone.sha256}
    if model.export is not None:
        digest = hashlib.sha256(json.dumps(model.export.config, sort_keys=True).encode())
        for name, array in sorted(flatten(model.export.groups).items()):
            digest.update(name.encode() + array.tobytes())
        identity["export"] = digest.hexdigest()
    return identity
