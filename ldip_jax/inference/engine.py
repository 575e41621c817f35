"""Inference over one window of frames: LR features of all, then HR features of one frame at a time.

Held for the window are LR features and, where LRRF runs, what the backward pass added to every frame
(bfloat16, in host memory). HR features never exist for more than a few frames.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.inference.programs import Programs, add, subtract
from ldip_jax.models.ref_align import Reference
from ldip_jax.ops.grid import Grid

Advance = Callable[[str], None]
"""Called with the name of a finished unit of work: "features", "match", "fuse", "backward",
"forward", "decode"."""


class WindowFeatures:
    """The backbone's LR features of a window's frames, and the flows between them.

    Attributes:
        frames: LR frames on the device, `1 h w 3` each.
        features: LR features of each frame.
    """

    def __init__(self, programs: Programs, frames: list[Float[np.ndarray, "h w 3"]], advance: Advance):
        self._programs = programs
        self._flows: dict[tuple[int, int], Array] = {}
        self.frames = [jnp.asarray(frame)[None] for frame in frames]
        self.features = self._recurrence(advance)

    def flow(self, here: int, there: int) -> Float[Array, "1 h w 2"]:
        """LR flow from one frame of the window to another; zero where that one lies outside."""
        if not 0 <= there < len(self.frames):
            b, h, w, _ = self.frames[here].shape
            shrink = self._programs.net.backbone.shrink
            return jnp.zeros((b, h // shrink, w // shrink, 2), jnp.float32)
        if (here, there) not in self._flows:
            self._flows[here, there] = self._programs.flow(self.frames[here], self.frames[there])
        return self._flows[here, there]

    def detail_flow(self, here: int, there: int) -> Float[Array, "1 h w 2"]:
        """The same from one frame to a neighbour by the network that HRIP follows."""
        if self._programs.net.flow_net is None or not 0 <= there < len(self.frames):
            return self.flow(here, there)
        return self._programs.detail_flow(self.frames[here], self.frames[there])

    def _recurrence(self, advance: Advance) -> list[Array]:
        backbone = self._programs.net.backbone
        inputs: list[tuple[Array, ...]] = [(self._programs.encode(frame),) for frame in self.frames]
        for branch in backbone.branches:
            count, towards = len(inputs), 1 if branch.reverse else -1
            carry = self._programs.carry(self.frames[0])
            for i in range(count)[::-towards]:
                flow = self.flow(i, i + towards)
                carry, out = self._programs.step(branch, carry, inputs[i], flow)
                inputs[i] = backbone.keep(inputs[i], out)
                if branch is backbone.branches[-1]:
                    # Nobody asks for the branches' outputs again: only the features stay.
                    inputs[i] = (self._programs.reconstruct(inputs[i]),)
                jax.block_until_ready(inputs[i])
                advance("features")
        return [features for (features,) in inputs]


def backbone_frames(
    programs: Programs, window: WindowFeatures, keep: range, grid: Grid | None, advance: Advance
) -> Iterator[Float[Array, "1 H W 3"]]:
    """The kept frames without LRRF."""
    for i in keep:
        image = programs.decode(programs.upscale(window.features[i], grid), window.frames[i], grid)
        jax.block_until_ready(image)
        advance("decode")
        yield image


def refined_frames(
    programs: Programs,
    window: WindowFeatures,
    keep: range,
    grid: Grid | None,
    references: Callable[[int], list[Reference]],
    keys: set[int],
    advance: Advance,
) -> Iterator[Float[Array, "1 H W 3"]]:
    """The kept frames with LRRF.

    Args:
        keep: frames asked for, places in the window.
        references: gives a key-frame's references, from its place in the window.
        keys: key-frames, places in the window.
    """
    count = len(window.frames)
    residuals: list[np.ndarray] = [np.empty(0)] * count
    previous = None
    for i in reversed(range(count)):
        hr = programs.upscale(window.features[i], grid)
        previous = jnp.zeros_like(hr) if previous is None else previous
        current = hr
        if i in keys:
            current = refine(programs, hr, references(i))
            advance("fuse")
        previous = programs.propagate(True, current, previous, window.detail_flow(i, i + 1))
        residuals[i] = np.asarray(subtract(previous, hr))
        advance("backward")
    assert previous is not None, "a window holds frames"
    previous = jnp.zeros_like(previous)
    for i in range(keep.stop):
        current = add(programs.upscale(window.features[i], grid), jnp.asarray(residuals[i]))
        residuals[i] = np.empty(0)
        previous = programs.propagate(False, current, previous, window.detail_flow(i, i - 1))
        if i in keep:
            image = programs.decode(previous, window.frames[i], grid)
            jax.block_until_ready(image)
            advance("forward")
            yield image


def refine(
    programs: Programs, hr: Float[Array, "1 H W 64"], references: list[Reference]
) -> Float[Array, "1 H W 64"]:
    """Ref-Align and Ref-Fusion of one key-frame; without references its features stay as they are."""
    if not references:
        return hr
    assert programs.net.lrrf is not None
    query = programs.query(hr)
    for layer in range(programs.net.lrrf.layers):
        state = programs.start(query)
        for reference in references:
            state = programs.absorb(layer, query, state, reference)
        query, best = programs.fuse(layer, query, state), state.best
    return programs.finish(hr, query, best, jnp.ones((1,), jnp.float32))
