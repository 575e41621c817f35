"""How alike two frames are, even if the camera has moved between them: matches blocks of small copies.

It is NumPy on the host, takes milliseconds and runs while frames are read.
"""

import numpy as np
from jaxtyping import Bool, Float
from numpy.lib.stride_tricks import sliding_window_view

from ldip_jax.ops.box import box_sums

Thumbnail = Float[np.ndarray, "3 m n"]

# A thumbnail has about BLOCKS blocks of BLOCK x BLOCK pixels: 56x32 pixels for 16:9.
BLOCK, BLOCKS = 8, 28
# Distances in pixels up to which a block is looked for: around its place, and around where the whole frame
# has moved to.
_REACH, _NEAR = 6, 2
# Variance of noise in a block, and the weight of a block without texture.
_NOISE, _FLAT = 1e-4, 1e-3
# Likeness above which no motion of the whole frame is looked for, and likeness above which one is accepted.
_CLEAR, _MOVED = 0.75, 0.65
# Highest luma of black bars.
_BLACK = 0.05
# A motion of the whole frame keeps at least this share of it in view.
_SHARE = 0.5
# Y', and twice the two colour differences: their edges distinguish scenes best.
_OPPONENT = np.array([[0.299, 0.587, 0.114], [-0.338, -0.662, 1.0], [1.0, -0.838, -0.162]], dtype=np.float32)


def _grid(height: int, width: int) -> tuple[int, int]:
    """Numbers of blocks down and across: cells that are nearly square, and no more than the pixels allow."""
    across = round((BLOCKS * width / height) ** 0.5)
    down = round(BLOCKS / max(across, 1))
    return min(max(down, 1), height // BLOCK), min(max(across, 1), width // BLOCK)


def _averaged(values: Float[np.ndarray, "n *rest"], count: int) -> Float[np.ndarray, "count *rest"]:
    """Means over `count` equal parts of the first axis; a part may end within a sample."""
    edges = np.linspace(0, len(values), count, endpoint=False)
    whole = edges.astype(int)
    sums = np.add.reduceat(values, whole)
    before = values[whole] * (edges - whole).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    sums -= before
    sums[:-1] += before[1:]
    return sums * np.float32(count / len(values))


def thumbnail(frame: Float[np.ndarray, "h w 3"]) -> Thumbnail:
    """A frame's luma and colour differences, averaged over areas.

    Args:
        frame: RGB in [0, 1], 16x16 or larger.

    Returns:
        `3 m n`: m and n are multiples of `BLOCK`; about `BLOCKS` blocks for large frames of any size.
    """
    down, across = _grid(*frame.shape[:2])
    rows = _averaged(frame, down * BLOCK)
    small = _averaged(rows.transpose(1, 0, 2), across * BLOCK)
    return (small @ _OPPONENT.T).transpose(2, 1, 0)


def likeness(one: Thumbnail, other: Thumbnail) -> float:
    """The share of texture that two frames have in common, 0 to 1; their order does not matter.

    Every block of the frame with more contrast is looked for in the other frame: around its place, or around
    where the whole frame has moved, if that explains most of the blocks still in view. Blocks are compared by
    correlation, which does not depend on exposure. Flat blocks are alike.

    Args:
        one, other: from `thumbnail`, of equal size.
    """
    if np.var(one, axis=(1, 2)).sum() > np.var(other, axis=(1, 2)).sum():
        one, other = other, one
    best, variance = _best_matches(one, other, _REACH)
    weight = (np.sqrt(variance) + _FLAT) * _inside_bars(one, other)
    near = _mean(best, weight)
    if near > _CLEAR:
        return near
    move = common_move(one, other)
    seen = _in_view(other, move)
    if max(map(abs, move)) <= _REACH - _NEAR or not (weight * seen).any():
        return near
    best = np.maximum(best, _best_matches(_moved(one, move), other, _NEAR)[0])
    moved = _mean(best, weight * seen)
    return moved if moved > _MOVED else near


def _inside_bars(one: Thumbnail, other: Thumbnail) -> Bool[np.ndarray, " blocks"]:
    """Which blocks contain no black bars that both frames have; those are alike in all shots of a film."""
    bright = np.maximum(one[0], other[0]) > _BLACK
    if not bright.any():
        return np.ones(bright.size // BLOCK**2, bool)
    clear = np.zeros_like(bright)
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    clear[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    blocks = clear.reshape(bright.shape[0] // BLOCK, BLOCK, -1, BLOCK).all(axis=(1, 3)).ravel()
    return blocks if blocks.any() else np.ones_like(blocks)


def _mean(correlation: Float[np.ndarray, " blocks"], weight: Float[np.ndarray, " blocks"]) -> float:
    return float((np.maximum(correlation, 0) ** 2 * weight).sum() / weight.sum())


def _in_view(b: Thumbnail, move: tuple[int, int]) -> Bool[np.ndarray, " blocks"]:
    """Whether the motion keeps a block in the frame, within the distance of the search."""
    down, across = (
        np.arange(0, side, BLOCK) + step + _NEAR for side, step in zip(b.shape[1:], move, strict=True)
    )
    rows = (down >= 0) & (down + BLOCK <= b.shape[1] + 2 * _NEAR)
    columns = (across >= 0) & (across + BLOCK <= b.shape[2] + 2 * _NEAR)
    return (rows[:, None] & columns).ravel()


def _best_matches(
    a: Thumbnail, b: Thumbnail, reach: int
) -> tuple[Float[np.ndarray, " blocks"], Float[np.ndarray, " blocks"]]:
    """For each block of `b`: correlation with the best block of `a` within `reach`; variance of the block."""
    size, span = BLOCK * BLOCK, 2 * reach + 1
    down, across = b.shape[1] // BLOCK, b.shape[2] // BLOCK
    blocks = b.reshape(3, down, BLOCK, across, BLOCK).transpose(1, 3, 0, 2, 4)
    blocks = blocks - blocks.mean(axis=(3, 4), keepdims=True)
    variance = np.square(blocks).sum(axis=(2, 3, 4)) / size

    padded = np.pad(a, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    there = sliding_window_view(_variances(padded), (span, span))[::BLOCK, ::BLOCK]
    side = BLOCK + 2 * reach
    regions = sliding_window_view(padded, (side, side), axis=(1, 2))[:, ::BLOCK, ::BLOCK]
    spectra = np.fft.rfft2(regions.transpose(1, 2, 0, 3, 4)) * np.fft.rfft2(blocks, (side, side)).conj()
    shared = np.fft.irfft2(spectra.sum(axis=2), (side, side))[..., :span, :span] / size
    # With the variance of noise in both terms, two flat blocks correlate; a flat and a textured one do not.
    correlation = (shared + _NOISE) / np.sqrt((there + _NOISE) * (variance[..., None, None] + _NOISE))
    return correlation.max(axis=(2, 3)).ravel(), variance.ravel()


def _variances(padded: Thumbnail) -> Float[np.ndarray, "_ _"]:
    """Variances of all blocks, indexed by their upper left corners and summed over channels."""
    size = (BLOCK, BLOCK)
    exact = padded.astype(np.float64)
    means = sum(np.square(box_sums(channel, size)) for channel in exact) / BLOCK**4
    return np.maximum(box_sums(np.square(exact).sum(axis=0), size) / BLOCK**2 - means, 0).astype(np.float32)


def _moved(a: Thumbnail, move: tuple[int, int]) -> Thumbnail:
    """The image shifted so that the pixel at x + move comes to x; edges repeat."""
    y = np.clip(np.arange(a.shape[1]) + move[0], 0, a.shape[1] - 1)
    x = np.clip(np.arange(a.shape[2]) + move[1], 0, a.shape[2] - 1)
    return a[:, y[:, None], x]


def common_move(one: Thumbnail, other: Thumbnail) -> tuple[int, int]:
    """The most likely motion (y, x) of the whole frame, in pixels: x in `other` is x + move in `one`.

    At least half of the frame stays in view.
    """
    height, width = one.shape[1:]
    size = (2 * height, 2 * width)
    a, b = (np.fft.rfft2(_details(image), size) for image in (one, other))
    squares = [np.fft.rfft2(np.square(_details(image)).sum(axis=0), size) for image in (one, other)]
    area = np.fft.rfft2(np.ones((height, width), np.float32), size)
    pixels = np.fft.irfft2(area * area.conj(), size)
    shared = np.fft.irfft2((a * b.conj()).sum(axis=0), size)
    power_a = np.fft.irfft2(squares[0] * area.conj(), size)
    power_b = np.fft.irfft2(area * squares[1].conj(), size)
    noise = _NOISE * np.maximum(pixels, 1)
    correlation = shared / np.sqrt((np.maximum(power_a, 0) + noise) * (np.maximum(power_b, 0) + noise))
    correlation[pixels < _SHARE * height * width] = -1
    y, x = (int(n) for n in np.unravel_index(correlation.argmax(), size))
    return y - size[0] * (y >= height), x - size[1] * (x >= width)


def _details(image: Thumbnail) -> Thumbnail:
    """The image minus its 9x9 local mean."""
    padded = np.pad(image, ((0, 0), (4, 4), (4, 4)), mode="edge").astype(np.float64)
    means = np.stack([box_sums(channel, (9, 9)) for channel in padded]) / 81
    return image - means.astype(np.float32)
