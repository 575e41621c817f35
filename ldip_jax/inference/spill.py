"""Maps that wait on disk, in a temporary file that vanishes with the process, and parts of maps."""

import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ldip_jax.inference.tiles import Box, Tile


class Spilled:
    """A map `1 h w c` in a `SpillFile`; its place is reused once nothing refers to it."""

    def __init__(self, spill: "SpillFile", shape: tuple[int, ...], dtype: Any):
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._spill, self._bytes = spill, int(np.prod(shape)) * self.dtype.itemsize
        self._offset = spill.allocate(self._bytes)

    def __del__(self):
        if hasattr(self, "_offset"):
            self._spill.release(self._bytes, self._offset)

    def read(self, box: Box | None = None) -> np.ndarray:
        """The map, or a part of it."""
        if box is None or box.size == self.shape[1:3]:
            return self._spill.read(self._offset, self.shape, self.dtype)
        stride = self.dtype.itemsize * self.shape[3]
        row = stride * self.shape[2]
        made = np.empty((1, *box.size, self.shape[3]), self.dtype)
        for place, y in enumerate(box.rows):
            offset = self._offset + y * row + box.columns.start * stride
            made[0, place] = self._spill.read(offset, made.shape[2:], self.dtype)
        return made

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The map, for functions that take any array."""
        return np.asarray(self.read(), dtype)

    def write(self, values: np.ndarray, box: Box | None = None) -> None:
        """Set the map, or a part of it."""
        values = np.asarray(values, self.dtype)
        if box is None or box.size == self.shape[1:3]:
            self._spill.write(self._offset, values)
            return
        stride = self.dtype.itemsize * self.shape[3]
        row = stride * self.shape[2]
        for place, y in enumerate(box.rows):
            self._spill.write(self._offset + y * row + box.columns.start * stride, values[0, place])


class SpillFile:
    """A temporary file for maps. It has no name, so nothing is left of it however the process ends."""

    def __init__(self):
        self._file: Any = None
        self._end = 0
        self._unused: dict[int, list[int]] = defaultdict(list)

    def __del__(self):
        if self._file is not None:
            self._file.close()

    def hold(self, values: Array | np.ndarray) -> Spilled:
        """Put a map on disk."""
        held = Spilled(self, values.shape, values.dtype)
        held.write(np.asarray(values))
        return held

    def allocate(self, count: int) -> int:
        """A place for this many bytes."""
        if self._unused[count]:
            return self._unused[count].pop()
        self._end += count
        return self._end - count

    def release(self, count: int, offset: int) -> None:
        """Return a place."""
        self._unused[count].append(offset)

    def read(self, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The values at a place."""
        made = np.empty(shape, dtype)
        view, done = made.reshape(-1).view(np.uint8).data, 0
        while done < len(view):
            count = self._file_at(offset + done).readinto(view[done:])
            if not count:
                raise OSError(f"{tempfile.gettempdir()}: a temporary file lost its data")
            done += count
        return made

    def write(self, offset: int, values: np.ndarray) -> None:
        """Set the values at a place."""
        view, done = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data, 0
        while done < len(view):
            try:
                done += self._file_at(offset + done).write(view[done:])
            except OSError as error:
                error.filename = f"{tempfile.gettempdir()} (TMPDIR)"
                raise

    def _file_at(self, offset: int) -> Any:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0, prefix="ldip-")  # noqa: SIM115
        self._file.seek(offset)
        return self._file


Held = Array | Spilled
"""A map on the device, or on disk."""


def load(values: Held) -> Array:
    """The whole map, on the device."""
    return jnp.asarray(values.read()) if isinstance(values, Spilled) else values


@partial(jax.jit, static_argnums=2)
def _crop(values: Array, corner: tuple[Any, Any], size: tuple[int, int]) -> Array:
    start = (0, corner[0], corner[1], 0)
    return jax.lax.dynamic_slice(values, start, (values.shape[0], *size, values.shape[3]))


def crop(values: Held, box: Box) -> Array:
    """A part of the map, on the device; the map itself if `box` covers it."""
    if box.size == tuple(values.shape[1:3]):
        return load(values)
    if isinstance(values, Spilled):
        return jnp.asarray(values.read(box))
    return _crop(values, box.corner, box.size)


class Holder:
    """Keeps what waits between the passes: as it is, or on disk."""

    def __init__(self, spill: bool):
        """`spill`: whether to keep it on disk."""
        self.spills = spill
        self._spill = SpillFile()

    def hold(self, values: Any) -> Any:
        """A map, to be used by `load` or `part`."""
        return self._spill.hold(values) if self.spills else values

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Spilled:
        """A map on disk, to be written part by part."""
        return Spilled(self._spill, shape, dtype)

    def assemble(
        self,
        tiles: list[Tile],
        size: tuple[int, int],
        make: Callable[[Tile], Array],
        scaled: Callable[[Tile], Tile],
    ) -> Held:
        """A map of `size` from its tiles.

        Args:
            tiles: in pixels of LR features.
            make: a tile's part of the map, for all that the tile reads.
            scaled: a tile in pixels of the map.
        """
        if len(tiles) == 1:
            return self.hold(make(tiles[0]))
        whole: Spilled | None = None
        for tile in tiles:
            made, place = make(tile), scaled(tile)
            if whole is None:
                whole = self.empty((1, *size, made.shape[-1]), made.dtype)
            whole.write(np.asarray(made)[place.keep.within(place.read).index], place.keep)
        assert whole is not None, "a map has tiles"
        return whole
