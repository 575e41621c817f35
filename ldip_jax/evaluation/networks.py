"""The networks of an evaluation: a model for each kind of weights, and upscalers for one frame size."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from ldip_jax.errors import InputError
from ldip_jax.evaluation.linear_transfer import LinearTransfer
from ldip_jax.evaluation.protocols import Column
from ldip_jax.inference.model import Model, load_model
from ldip_jax.inference.mrefsr import MRefSRUpscaler
from ldip_jax.inference.mrefsr_model import MRefSRModel as MRefSRModel
from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.references import ReferenceChoice, ReferenceRules
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.matching.choice import load_matcher
from ldip_jax.ops.imresize import imresize
from ldip_jax.weights.export import export_file, shipped_names
from ldip_jax.weights.rules import flatten


class Bicubic:
    """MATLAB's `imresize` with the interface of an `Upscaler`; references are ignored."""

    def __init__(self, out: tuple[int, int]):
        self.choices: dict[int, list[ReferenceChoice]] = {}
        self.on_key_frame: Any = None
        self._out = out

    def frames(
        self,
        frames: Iterable[Float[np.ndarray, "h w 3"]],
        stills: Iterable[Still] = (),
        advance: Callable[[str], None] = lambda _: None,
    ) -> Iterator[Float[np.ndarray, "H W 3"]]:
        """See `Upscaler.frames`."""
        for frame in frames:
            yield np.clip(imresize(frame, size=self._out), 0.0, 1.0).astype(np.float32)
            advance("resize")

    def work(self, count: int, stills: Sequence[Still] = ()) -> dict[str, int]:
        """See `Upscaler.work`."""
        return {"resize": count}

    def costs(self) -> dict[str, float]:
        """See `Upscaler.costs`."""
        return {"resize": 1.0}


EXPORT = "export.safetensors"


def resolve_checkpoint(text: str) -> str:
    """The export of a run's folder or of a shipped name; "default", "none" and files are returned unchanged.

    Raises:
        InputError: a folder has no export, or there is no such file.
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
        checkpoint: "default", "none" or an export, as `resolve_checkpoint` returns it.
        cross: an export without ICA, for the column that is compared with it.
        matcher, key_stride, rules, propagation: see `Upscaler`.
        mrefsr: MRefSR, for the columns of it; None if there are none.
        memory: bytes of memory to keep to; None: what is free, less a margin. See `Upscaler`.
    """

    backbone: str = "basicvsr-reds4"
    checkpoint: str = "default"
    cross: str | None = None
    matcher: str = "gmflow"
    key_stride: int = 8
    rules: ReferenceRules = field(default_factory=ReferenceRules)
    propagation: str | None = None
    mrefsr: MRefSRModel | None = None
    memory: int | None = None


Method = Upscaler | Bicubic | LinearTransfer | MRefSRUpscaler
"""What makes a column's frames."""
_ALONE = ("none", "bicubic", "transfer", "mrefsr")


class Models:
    """Makes upscalers when they are needed; only those of the current frame size are kept."""

    def __init__(self, networks: Networks, say: Callable[[str], object]):
        self._networks, self._say = networks, say
        self._models: dict[tuple[str, bool], Model] = {}
        self._upscalers: dict[tuple[str, float | None, str | None], Upscaler] = {}
        self._others: dict[str, LinearTransfer | MRefSRUpscaler] = {}
        self._identities: dict[tuple[str, bool], dict[str, str]] = {}
        self._size: tuple[tuple[int, int], tuple[int, int]] | None = None

    def model(self, column: Column, *, native: bool) -> Model | None:
        """The column's network; None if there are no weights for it.

        Args:
            native: whether HR is exactly x4 on both axes.

        Raises:
            InputError: weights are not available, or do not belong together.
        """
        alone = column.weights in _ALONE
        weights = {
            **dict.fromkeys(_ALONE, "none"),
            "checkpoint": self._networks.checkpoint,
            "cross": self._networks.cross or "none",
        }[column.weights]
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
        """What identifies the weights: SHA-256 of the backbone's file and of the export's content."""
        key = (column.weights, native)
        if key not in self._identities:
            model = self.model(column, native=native)
            assert model is not None
            self._identities[key] = _identity(model)
            if column.weights == "mrefsr" and self._networks.mrefsr is not None:
                self._identities[key] = self._networks.mrefsr.sha256
        return self._identities[key]

    def propagation(self, column: Column, *, native: bool) -> str | None:
        """How this column brings detail from key-frames to other frames; None without LRRF."""
        model = self.model(column, native=native)
        if model is None or not model.refined:
            return None
        return column.propagation or self._networks.propagation or model.net.propagation

    def repeats(self, column: Column, *, native: bool) -> bool:
        """Whether the column exists for a propagation that the other columns use anyway."""
        if column.propagation is None:
            return False
        usual = self.propagation(replace(column, propagation=None), native=native)
        return usual in (None, column.propagation)

    def upscaler(self, column: Column, lr: tuple[int, int], hr: tuple[int, int]) -> Method | None:
        """The column's upscaler for frames of these sizes; None if there are no weights for it."""
        if self._size != (lr, hr):
            self._upscalers.clear()
            self._others.clear()
            self._size = (lr, hr)
        model = self.model(column, native=hr == (4 * lr[0], 4 * lr[1]))
        if model is None:
            return None
        if column.weights == "bicubic":
            return Bicubic(hr)
        if column.weights in ("transfer", "mrefsr"):
            if column.weights not in self._others:
                self._others[column.weights] = self._other(column.weights, model, lr, hr)
            return self._others[column.weights]
        rules, threshold = self._networks.rules, column.threshold
        propagation = column.propagation or self._networks.propagation if model.refined else None
        key = (column.weights, threshold, propagation)
        if key not in self._upscalers:
            if threshold is not None:
                rules = replace(rules, threshold=threshold)
            export = model.export
            self._upscalers[key] = Upscaler(
                model,
                lr,
                hr,
                key_stride=self._networks.key_stride,
                rules=rules,
                matcher=self._networks.matcher,
                propagation=propagation,
                # The same as the default of `ldip upscale`.
                backbone_only_if_unmatched=self._networks.checkpoint == "default"
                and export is not None
                and export.wants_stills,
                memory=self._networks.memory,
                progress=self._say,
            )
        return self._upscalers[key]

    def _other(
        self, method: str, model: Model, lr: tuple[int, int], hr: tuple[int, int]
    ) -> LinearTransfer | MRefSRUpscaler:
        if method == "mrefsr":
            assert self._networks.mrefsr is not None
            return MRefSRUpscaler(self._networks.mrefsr, lr, hr)
        spynet = model.params["backbone"]["spynet"]
        matcher = load_matcher(self._networks.matcher, spynet, progress=self._say)
        return LinearTransfer(Upscaler(model, lr, hr, progress=self._say), matcher)


def _identity(model: Model) -> dict[str, str]:
    identity = {"backbone": model.backbone.sha256}
    if model.export is not None:
        digest = hashlib.sha256(json.dumps(model.export.config, sort_keys=True).encode())
        for name, array in sorted(flatten(model.export.groups).items()):
            digest.update(name.encode() + array.tobytes())
        identity["export"] = digest.hexdigest()
    return identity
