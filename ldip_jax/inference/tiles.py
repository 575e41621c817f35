"""Rectangles of a frame that are processed one after the other, with a halo around each.

Tiles never extend beyond the frame: at its edges a tile is moved inwards, so that a layer's padding is where
the frame ends. All tiles of a frame have the same size, so that one program serves them, and begin at
multiples of the networks' windows. A frame that is one tile has no halo.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

Size = tuple[int, int]


class Box(NamedTuple):
    """Rows and columns of a map."""

    rows: range
    columns: range

    @property
    def size(self) -> Size:
        return len(self.rows), len(self.columns)

    @property
    def corner(self) -> tuple[int, int]:
        return self.rows.start, self.columns.start

    @property
    def index(self) -> tuple[slice, slice, slice]:
        """To index a map `1 h w c`."""
        return (
            slice(None),
            slice(self.rows.start, self.rows.stop),
            slice(self.columns.start, self.columns.stop),
        )

    def scaled(self, factor: int) -> "Box":
        """The same part of a map that is larger by a whole factor."""
        rows, columns = (range(x.start * factor, x.stop * factor) for x in self)
        return Box(rows, columns)

    def within(self, other: "Box") -> "Box":
        """This box in the coordinates of another one that contains it."""
        pairs = zip(self, other, strict=True)
        rows, columns = (range(x.start - o.start, x.stop - o.start) for x, o in pairs)
        return Box(rows, columns)


class Tile(NamedTuple):
    """A tile: what is read, halo included, and what it contributes to the frame."""

    read: Box
    keep: Box


def _spans(size: int, length: int, halo: int, multiple: int) -> list[tuple[range, range]]:
    """What tiles of `length` read and keep along one axis."""
    if length >= size:
        return [(range(size), range(size))]
    step = (length - 2 * halo) // multiple * multiple
    spans, kept = [], 0
    for start in [*range(0, size - length, step), size - length]:
        stop = size if start == size - length else start + length - halo
        spans.append((range(start, start + length), range(kept, stop)))
        kept = stop
    return spans


@dataclass(frozen=True)
class Tiling:
    """The tiles of maps of one size.

    Attributes:
        size: (height, width) of the maps.
        tile: (height, width) that a tile reads; along each axis either the map's, or that less a multiple of
            `multiple`.
        halo: pixels that a tile reads beyond what it keeps, where the map goes on.
        multiple: tiles begin at multiples of this.
    """

    size: Size
    tile: Size
    halo: int = 0
    multiple: int = 1

    @cached_property
    def tiles(self) -> list[Tile]:
        rows, columns = (
            _spans(size, length, self.halo, self.multiple)
            for size, length in zip(self.size, self.tile, strict=True)
        )
        return [Tile(Box(r, c), Box(kr, kc)) for r, kr in rows for c, kc in columns]

    @property
    def count(self) -> int:
        """How many tiles there are."""
        spans = zip(self.size, self.tile, strict=True)
        rows, columns = (len(_spans(size, length, self.halo, self.multiple)) for size, length in spans)
        return rows * columns

    @property
    def pixels(self) -> int:
        """Pixels that a tile reads."""
        return self.tile[0] * self.tile[1]

    @property
    def overhead(self) -> float:
        """Pixels that all tiles read together, divided by those of the map."""
        return self.count * self.pixels / (self.size[0] * self.size[1])


def whole(size: Size) -> Tiling:
    """The whole map as one tile."""
    return Tiling(size, size)


def tilings(size: Size, halo: int, multiple: int, min_kept: int) -> Iterator[Tiling]:
    """All ways to cut maps of a size, from the fewest pixels read together to the most.

    Args:
        min_kept: a tile keeps at least this many pixels along an axis that is cut.
    """
    axes = [list(_lengths(n, halo, multiple, min_kept)) for n in size]
    found = [Tiling(size, (h, w), halo, multiple) for h in axes[0] for w in axes[1]]
    return iter(sorted(found, key=lambda tiling: (tiling.overhead, tiling.pixels)))


def _lengths(size: int, halo: int, multiple: int, min_kept: int) -> Iterator[int]:
    """The shortest length for every number of tiles along an axis."""
    yield size
    known = 1
    for length in range(size - multiple, min_kept + 2 * halo - 1, -multiple):
        step = (length - 2 * halo) // multiple * multiple
        if step < min_kept:
            return
        count = len(_spans(size, length, halo, multiple))
        shorter = length - multiple
        next_step = (shorter - 2 * halo) // multiple * multiple
        last = next_step < min_kept or len(_spans(size, shorter, halo, multiple)) > count
        if last and count > known:
            yield length
            known = count


def scaled_box(box: Box, size: Size, out: Size) -> Box:
    """What a box of a map covers in a larger one; boxes that share an edge still do."""
    rows, columns = (
        range(round(x.start * big / small), round(x.stop * big / small))
        for x, small, big in zip(box, size, out, strict=True)
    )
    return Box(rows, columns)


def scaled_read(box: Box, size: Size, out: Size) -> Box:
    """What a tile reads of a larger map: `scaled_box`, but boxes of one size stay of one size."""
    spans = []
    for x, small, big in zip(box, size, out, strict=True):
        length = min(-(-len(x) * big // small), big)
        start = min(x.start * big // small, big - length)
        spans.append(range(start, start + length))
    return Box(*spans)
