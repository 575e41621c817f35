"""Splits a clip of any length into overlapping windows, and computes the LR features and flows of each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.inference.in_flight import InFlight
from ldip_jax.inference.programs import Programs, speed
from ldip_jax.inference.spill import Held, Holder, crop, load
from ldip_jax.inference.tiles import Size, Tile, Tiling, scaled_box, scaled_read, whole
from ldip_jax.ops.grid import Axis, Grid

# BUDGET: bytes that a window may hold between the passes, in memory or on disk. OVERLAP, MAX_OVERLAP: fewest
# and most frames that windows share on either side. MAX_LENGTH: most frames of a window, unless they share
# more than a third of that. These do not depend on the machine's memory, so that a clip is cut into the same
# windows everywhere.
BUDGET = 4 * 2**30
OVERLAP, MAX_OVERLAP = 6, 240
MAX_LENGTH = 240


class Window(NamedTuple):
    """Frames of a clip that are processed together.

    Attributes:
        frames: float32 RGB in [0, 1].
        first: place of `frames[0]` in the clip.
        keep: places in `frames` for which this window makes the output; the rest is context.
        last: whether the clip ends with this window.
    """

    frames: list[Float[np.ndarray, "h w 3"]]
    first: int
    keep: range
    last: bool


def overlap(key_stride: int) -> int:
    """Frames shared on either side: frames next to a seam have the same key-frames in both windows."""
    return min(max(key_stride, OVERLAP), MAX_OVERLAP)


def window_length(
    size: tuple[int, int],
    out_size: tuple[int, int],
    channels: int,
    propagation: str | None,
    overlap: int = OVERLAP,
) -> int:
    """Frames per window, so that what is held stays within `BUDGET`; at least three times the overlap.

    Args:
        size, out_size: (height, width) of LR frames and of HR features.
        channels: channels of LR features that the backbone holds for every frame.
        propagation: that of LRRF; None without LRRF. LRRF holds an HR image of every frame; HRIP also holds
            an HR residual in bfloat16.
        overlap: frames shared on either side.
    """
    per_frame = size[0] * size[1] * channels * 4
    if propagation is not None:
        residual = 0 if propagation == "carry" else 64 * 2
        per_frame += out_size[0] * out_size[1] * (residual + 3 * 2)
    return max(min(BUDGET // per_frame, MAX_LENGTH), 3 * overlap)


def windows(frames: Iterable[Any], length: int, overlap: int = OVERLAP) -> Iterator[Window]:
    """Windows of `length` frames, read as they are needed; the last may be shorter.

    Frames are only passed on. To count the work, they can be any objects, such as numbers.

    A frame next to a seam is in two windows. It is kept by the one that has at least `overlap` frames beyond
    it.
    """
    held: list[np.ndarray] = []
    first = begin = 0
    for frame in frames:
        if len(held) == length:
            end = length - overlap
            yield Window(list(held), first, range(begin, end), last=False)
            del held[: end - overlap]
            first, begin = first + end - overlap, overlap
        held.append(frame)
    if held:
        yield Window(held, first, range(begin, len(held)), last=True)


Advance = Callable[[str], None]
"""Called with the kind of each finished piece of work: "features", "match", "fuse", "backward", "forward",
"carry" or "decode"."""


class TileLayout(NamedTuple):
    """How a window's frames are processed within the memory that there is.

    Attributes:
        recurrence: tiles of the backbone's recurrence, in pixels of LR features.
        detail: tiles of all that follows.
        spill: whether what waits between the passes is kept on disk.
    """

    recurrence: Tiling
    detail: Tiling
    spill: bool = False


class DeviceFrames(Sequence[Float[Array, "1 h w 3"]]):
    """LR frames, put on the device when they are asked for."""

    def __init__(self, frames: Sequence[Float[np.ndarray, "h w 3"]]):
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, place: Any) -> Any:
        return jnp.asarray(self._frames[place])[None]


class WindowFeatures:
    """The backbone's LR features of a window's frames, and the flows between them.

    Methods that take a tile give its part of the map, for all that the tile reads; None: the whole map.

    Attributes:
        frames: LR frames, `1 h w 3` each, on the device when they are asked for.
        features: LR features of each frame, on the device or on disk.
        grid: the HR grid of the arbitrary-scale head; None for the backbone's own scale.
        tiles: the tiles of all that follows the recurrence.
        holder: keeps what waits between the passes.
        in_flight: the results that the device works on.
        size: (height, width) of HR features.
    """

    def __init__(
        self,
        programs: Programs,
        frames: list[Float[np.ndarray, "h w 3"]],
        advance: Advance,
        grid: Grid | None = None,
        layout: TileLayout | None = None,
        holder: Holder | None = None,
    ):
        self._programs, self.grid = programs, grid
        self._shrink = programs.net.backbone.shrink
        self._lr: Size = frames[0].shape[0] // self._shrink, frames[0].shape[1] // self._shrink
        self._layout = layout or TileLayout(whole(self._lr), whole(self._lr))
        self.size: Size = (4 * self._lr[0], 4 * self._lr[1])
        if grid is not None:
            self.size = (grid.rows.index.shape[0], grid.columns.index.shape[0])
        self._whole = whole(self._lr).tiles[0]
        self.tiles = self._layout.detail.tiles
        self.holder = holder or Holder(self._layout.spill)
        self.in_flight = InFlight()
        self.frames: Sequence[Array] = DeviceFrames(frames)
        if not self._layout.spill:
            self.frames = list(self.frames)
        self._flows: dict[tuple[int, int], Held] = {}
        self._detail_flows: dict[tuple[int, int], Held] = {}
        self._images: dict[int, Held] = {}
        # The frame whose HR features were made last, its tile, and these.
        self._last_hr: tuple[tuple[int, Tile], Array] | None = None
        self.features = self._recurrence(advance)

    def flow(self, here: int, there: int, tile: Tile | None = None) -> Float[Array, "1 h w 2"]:
        """LR flow from one frame of the window to another; zero if the other one is outside the window."""
        box = (tile or self._whole).read
        if not 0 <= there < len(self.frames):
            return jnp.zeros((1, *box.size, 2), jnp.float32)
        if (here, there) not in self._flows:
            made = self._programs.flow(self.frames[here], self.frames[there])
            self._flows[here, there] = self.holder.hold(made)
        return crop(self._flows[here, there], box)

    def detail_flow(self, here: int, there: int, tile: Tile | None = None) -> Float[Array, "1 h w 2"]:
        """LR flow from one frame to a neighbour, by the flow network that detail follows."""
        if self._programs.net.flow_net is None or not 0 <= there < len(self.frames):
            return self.flow(here, there, tile)
        if (here, there) not in self._detail_flows:
            made = self._programs.detail_flow(self.frames[here], self.frames[there])
            self._detail_flows[here, there] = self.holder.hold(made)
        return crop(self._detail_flows[here, there], (tile or self._whole).read)

    def speed(self, place: int) -> Float[Array, "1 h w 1"]:
        """How fast the places of a frame move, in LR pixels per frame."""
        neighbours = (there for there in (place - 1, place + 1) if 0 <= there < len(self.frames))
        return speed([self.detail_flow(place, there) for there in neighbours])

    def hr(self, place: int, tile: Tile | None = None) -> Float[Array, "1 H W 64"]:
        """A frame's HR features before LRRF."""
        tile = tile or self._whole
        if self._last_hr is None or self._last_hr[0] != (place, tile):
            self._last_hr = None
            made = self._programs.upscale(crop(self.features[place], tile.read), self.grid_of(tile))
            if len(self.tiles) > 1 or self._layout.spill:
                return made
            self._last_hr = (place, tile), made
        return self._last_hr[1]

    def decode(
        self, hr: Float[Array, "1 H W 64"], place: int, tile: Tile | None = None
    ) -> Float[Array, "1 H W 3"]:
        """A frame's image from its HR features, not clamped."""
        tile = tile or self._whole
        return self._programs.decode(hr, self._frame(place, tile), self.grid_of(tile))

    def image(self, place: int) -> Float[Array, "1 H W 3"]:
        """The backbone's image of a frame, in [0, 1], in float16: precise enough to find places."""
        if place not in self._images:

            def make(tile: Tile) -> Array:
                made = self.decode(self.hr(place, tile), place, tile)
                return jnp.clip(made, 0.0, 1.0).astype(jnp.float16)

            self._images[place] = self.assemble(make)
        return load(self._images[place])

    def assemble(self, make: Callable[[Tile], Array]) -> Held:
        """An HR map, held, from its tiles; `make` gives a tile's part, for all that the tile reads."""
        return self.holder.assemble(self.tiles, self.size, make, self.hr_tile)

    def hr_tile(self, tile: Tile) -> Tile:
        """A tile in HR pixels."""
        read = scaled_read(tile.read, self._lr, self.size)
        return Tile(read, scaled_box(tile.keep, self._lr, self.size))

    def grid_of(self, tile: Tile) -> Grid | None:
        """The HR grid of a tile."""
        if self.grid is None or tile.read.size == self._lr:
            return self.grid
        box, scale = self.hr_tile(tile).read, self._shrink
        axes = [
            Axis(axis.index[x.start : x.stop] - lr.start * scale, axis.offset[x.start : x.stop], axis.pixel)
            for axis, x, lr in zip(self.grid, box, tile.read, strict=True)
        ]
        return Grid(*axes)

    def _frame(self, place: int, tile: Tile) -> Float[Array, "1 h w 3"]:
        if tile.read.size == self._lr:
            return self.frames[place]
        return crop(self.frames[place], tile.read.scaled(self._shrink))

    def _recurrence(self, advance: Advance) -> list[Held]:
        tiles, features = self._layout.recurrence.tiles, {}
        for tile in tiles:
            made = self._tile_features(tile, advance)
            if len(tiles) == 1:
                return made
            for place in range(len(made)):
                values, keep = load(made[place]), tile.keep
                if place not in features:
                    shape = (1, *self._lr, values.shape[-1])
                    features[place] = self.holder.empty(shape, values.dtype)
                features[place].write(np.asarray(values)[keep.within(tile.read).index], keep)
                made[place] = None
        return [features[place] for place in range(len(self.frames))]

    def _tile_features(self, tile: Tile, advance: Advance) -> list[Any]:
        """The features of all frames, where the tile reads."""
        backbone, hold = self._programs.net.backbone, self.holder.hold
        count = len(self.frames)
        inputs: list[Any] = [(hold(self._programs.encode(self._frame(i, tile))),) for i in range(count)]
        for branch in backbone.branches:
            towards = 1 if branch.reverse else -1
            carry = self._programs.carry(self._frame(0, tile))
            for i in range(count)[::-towards]:
                flow = self.flow(i, i + towards, tile)
                carry, out = self._programs.step(branch, carry, tuple(map(load, inputs[i])), flow)
                inputs[i] = backbone.keep(inputs[i], hold(out))
                if branch is backbone.branches[-1]:
                    # The outputs of the branches are not needed again: only the features are held.
                    inputs[i] = (hold(self._programs.reconstruct(tuple(map(load, inputs[i])))),)
                self.in_flight.add(carry)
                advance("features")
        return [features for (features,) in inputs]
