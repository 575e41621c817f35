"""LDIP's trainable components, as the config of an export describes them."""

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any

import jax
from flax import linen as nn
from jaxtyping import PRNGKeyArray

from ldip_jax.errors import InputError
from ldip_jax.models.arbitrary_scale import (
    ArbitraryScale,
    ArbitraryScaleDecoder,
    init_decoder,
    init_head,
)
from ldip_jax.models.decoder import HOOKS
from ldip_jax.models.lrrf import LRRF, init_lrrf

INITIALISERS = {"lrrf": init_lrrf, "as_head": init_head, "as_decoder": init_decoder}


def quick_jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` for functions that run once or twice: on CPUs it compiles much faster, to slower code."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function, compiler_options=options if jax.default_backend() == "cpu" else None)


def initialise(init: Callable[[PRNGKeyArray], Any], key: PRNGKeyArray) -> Any:
    """Initial parameters, `init(key)`, in one program."""
    return quick_jit(init)(key)


def trainable_modules(
    groups: Collection[str], config: Mapping[str, Any], band_pixels: int | None = None
) -> dict[str, Any]:
    """The components named in `groups`: "lrrf", "as_head", "as_decoder".

    Args:
        config: {"lrrf": arguments of `LRRF`, "as_head": arguments of `ArbitraryScale`}; both are optional.
        band_pixels: pixels per band of rows; None for whole frames.

    Raises:
        TypeError: arguments that the modules do not have.
    """
    makers = {"lrrf": LRRF, "as_head": ArbitraryScale, "as_decoder": ArbitraryScaleDecoder}
    return {
        name: maker(**config.get(name, {}), band_pixels=band_pixels)
        for name, maker in makers.items()
        if name in groups
    }


def trainable_shapes(groups: Collection[str], config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The shapes that the parameters of `groups` must have.

    Args:
        source: the file that the config comes from, for the message.

    Raises:
        InputError: the config asks for something that this version does not know.
    """
    try:
        if config.get("hook", HOOKS[0]) not in HOOKS:
            raise ValueError(f"hook {config['hook']!r}")
        modules = trainable_modules(groups, config).items()
        return {name: jax.tree.map(lambda leaf: leaf, _shapes(name, module)) for name, module in modules}
    except (TypeError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{source}: its config is unknown to this version ({reason})") from error


# Cached, because tracing takes a second.
@lru_cache(maxsize=16)
def _shapes(name: str, module: nn.Module) -> Any:
    return jax.eval_shape(lambda: INITIALISERS[name](module, jax.random.key(0)))
