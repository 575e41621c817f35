"""Long-distance, reference-guided, arbitrary-scale video super-resolution in JAX and Flax."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ldip_jax.errors import InputError

__version__ = "0.1.0"
__all__ = [
    "LDIP",
    "LRRF",
    "InputError",
    "KeyFrames",
    "Reference",
    "Upscaler",
    "__version__",
    "load_pretrained",
    "match_references",
    "upscale",
]

if TYPE_CHECKING:
    from ldip_jax.inference.api import Upscaler, upscale
    from ldip_jax.inference.library import load_pretrained, match_references
    from ldip_jax.models.ldip import LDIP, KeyFrames
    from ldip_jax.models.lrrf import LRRF
    from ldip_jax.models.ref_align import Reference

# Importing jax takes a second, so these modules are imported only if needed.
_WHERE = {
    "LDIP": "models.ldip",
    "LRRF": "models.lrrf",
    "KeyFrames": "models.ldip",
    "Reference": "models.ref_align",
    "Upscaler": "inference.api",
    "load_pretrained": "inference.library",
    "match_references": "inference.library",
    "upscale": "inference.api",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'ldip_jax' has no attribute {name!r}")
    return getattr(import_module(f"ldip_jax.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
