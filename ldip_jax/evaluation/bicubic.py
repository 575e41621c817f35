"""Bicubic interpolation in an upscaler's place: the bottom line of tables of arbitrary scales."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from ldip_jax.inference.model import Model
from ldip_jax.inference.references import Choice, Still
from ldip_jax.ops.imresize import imresize


class Bicubic:
    """MATLAB's `imresize`; runs and is scored as an `Upscaler` is, and looks at no references.

    Attributes:
        model: the networks of the evaluation, for what else is computed with them.
    """

    def __init__(self, model: Model, out: tuple[int, int]):
        self.model = model
        self.choices: dict[int, list[Choice]] = {}
        self.watch: Any = None
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

    def work(self, count: int, stills: int = 0) -> dict[str, int]:
        """See `Upscaler.work`."""
        return {"resize": count}

    def costs(self) -> dict[str, float]:
        """See `Upscaler.costs`."""
        return {"resize": 1.0}
