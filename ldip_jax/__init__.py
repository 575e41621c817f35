"""Long-distance, reference-guided, arbitrary-scale video super-resolution in JAX and Flax."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["InputError", "__version__", "upscale"]

from ldip_jax.errors import InputError

if TYPE_CHECKING:
    from ldip_jax.inference.api import upscale


def __getattr__(name: str) -> Any:
    # Importing jax takes a second: only who asks for it pays.
    if name == "upscale":
        from ldip_jax.inference.api import upscale

        return upscale
    raise AttributeError(f"module 'ldip_jax' has no attribute {name!r}")
