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
from ldip_jax.evaluation.protocols import Variant
from ldip_jax.inference.model import Model, load_model
from ldip_jax.inference.mrefsr import MRefSRUpscaler
from ldip_jax.inference.mrefsr_model import MRefSRModel as MRefSRModel
from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.references import ReferenceChoice, ReferenceRules
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.matching.loading import load_matcher
from ldip_jax.ops.imresize import imresize
from ldip_jax.weights.export import export_file, shipped_names
from ldip_jax.weights.rules import flatten


class Bicubic:
    """MATLAB's `imresize` with the interface of an `Upscaler`; references are ignored."""

    def __init__(self, out_size: tuple[int, int]):
        self.choices: dict[int, list[ReferenceChoice]] = {}
        self.on_key_frame: Any = None
        self._out_size = out_size

    def frames(
        self,
        frames: Iterable[Float[np.ndarray, "h w 3"]],
        stills: Iterable[Still] = (),
        advance: Callable[[str], None] = lambda _: None,
    ) -> Iterator[Float[np.ndarray, "H W 3"]]:
        """See `Upscaler.frames`."""
        for frame in frames:
            yield np.clip(imresize(frame, size=self._out_size), 0.0, 1.0).astype(np.float32)
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
class NetworkChoice:
    """What is evaluated.

    Attributes:
        backbone: name or file of its weights.
        checkpoint: "default", "none" or an export, as `resolve_checkpoint` returns it.
        cross: an export without ICA, for the variant that is compared with it.
        matcher, key_stride, rules, propagation: see `Upscaler`.
        mrefsr: MRefSR, for its variants; None if there are none.
        memory: bytes of memory to keep to; None: what is free, less a margin. See `Upscaler`.
        soften: see `Upscaler`.
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
    soften: float | None = None


Method = Upscaler | Bicubic | LinearTransfer | MRefSRUpscaler
"""What makes a variant's frames."""
_WITHOUT_EXPORT = ("none", "bicubic", "transfer", "mrefsr")


class UpscalerCache:
    """Makes upscalers when they are needed; only those of the current frame size are kept."""

    def __init__(self, networks: NetworkChoice, notify: Callable[[str], object]):
        self._networks, self._notify = networks, notify
        self._models: dict[tuple[str, bool], Model] = {}
        self._upscalers: dict[tuple[str, float | None, str | None], Upscaler] = {}
        self._baselines: dict[str, LinearTransfer | MRefSRUpscaler] = {}
        self._identities: dict[tuple[str, bool], dict[str, str]] = {}
        self._size: tuple[tuple[int, int], tuple[int, int]] | None = None

    def model(self, variant: Variant, *, native: bool) -> Model | None:
        """The variant's network; None if there are no weights for it.

        Args:
            native: whether HR is exactly x4 on both axes.

        Raises:
            InputError: weights are not available, or do not belong together.
        """
        backbone_only = variant.weights in _WITHOUT_EXPORT
        weights = {
            **dict.fromkeys(_WITHOUT_EXPORT, "none"),
            "checkpoint": self._networks.checkpoint,
            "cross": self._networks.cross or "none",
        }[variant.weights]
        if weights == "none" and not backbone_only:
            return None
        if (weights, native) not in self._models:
            model = load_model(self._networks.backbone, weights, native=native, progress=self._notify)
            self._models[weights, native] = model
            for note in model.notes:
                self._notify(note)
        model = self._models[weights, native]
        if backbone_only or model.export is not None:
            return model
        return None

    def weight_hashes(self, variant: Variant, *, native: bool) -> dict[str, str]:
        """What identifies the weights: SHA-256 of the backbone's file and of the export's content."""
        key = (variant.weights, native)
        if key not in self._identities:
            model = self.model(variant, native=native)
            assert model is not None
            self._identities[key] = _weight_hashes(model)
            if variant.weights == "mrefsr" and self._networks.mrefsr is not None:
                self._identities[key] = self._networks.mrefsr.sha256
        return self._identities[key]

    def propagation(self, variant: Variant, *, native: bool) -> str | None:
        """How this variant brings detail from key-frames to other frames; None without LRRF."""
        model = self.model(variant, native=native)
        if model is None or not model.refined:
            return None
        return variant.propagation or self._networks.propagation or model.net.propagation

    def is_repeated(self, variant: Variant, *, native: bool) -> bool:
        """Whether the variant's propagation is the one that the other variants use already."""
        if variant.propagation is None:
            return False
        usual = self.propagation(replace(variant, propagation=None), native=native)
        return usual in (None, variant.propagation)

    def upscaler(self, variant: Variant, lr: tuple[int, int], hr: tuple[int, int]) -> Method | None:
        """The variant's upscaler for frames of these sizes; None if there are no weights for it."""
        if self._size != (lr, hr):
            self._upscalers.clear()
            self._baselines.clear()
            self._size = (lr, hr)
        model = self.model(variant, native=hr == (4 * lr[0], 4 * lr[1]))
        if model is None:
            return None
        if variant.weights == "bicubic":
            return Bicubic(hr)
        if variant.weights in ("transfer", "mrefsr"):
            if variant.weights not in self._baselines:
                self._baselines[variant.weights] = self._make_baseline(variant.weights, model, lr, hr)
            return self._baselines[variant.weights]
        rules, threshold = self._networks.rules, variant.threshold
        propagation = variant.propagation or self._networks.propagation if model.refined else None
        key = (variant.weights, threshold, propagation)
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
                and export.gains_only_from_stills,
                memory=self._networks.memory,
                soften=self._networks.soften,
                progress=self._notify,
            )
        return self._upscalers[key]

    def _make_baseline(
        self, method: str, model: Model, lr: tuple[int, int], hr: tuple[int, int]
    ) -> LinearTransfer | MRefSRUpscaler:
        if method == "mrefsr":
            assert self._networks.mrefsr is not None
            return MRefSRUpscaler(self._networks.mrefsr, lr, hr)
        spynet = model.params["backbone"]["spynet"]
        matcher = load_matcher(self._networks.matcher, spynet, progress=self._notify)
        return LinearTransfer(Upscaler(model, lr, hr, progress=self._notify), matcher)


def _weight_hashes(model: Model) -> dict[str, str]:
    identity = {"backbone": model.backbone.sha256}
    if model.export is not None:
        digest = hashlib.sha256(json.dumps(model.export.config, sort_keys=True).encode())
        for name, array in sorted(flatten(model.export.groups).items()):
            digest.update(name.encode() + array.tobytes())
        identity["export"] = digest.hexdigest()
    return identity
