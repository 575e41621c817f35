"""Modulated deformable convolution (Zhu et al., CVPR 2019): every tap samples its own place.

    out[y, x] = sum over taps k of kernel[k] . mask[k] * sample(x, place(k) + offset[k])

The channels are split into deformable groups; each group has its own offsets and mask. Samples are bilinear,
and pixels outside the map count as 0. Offsets are (x, y) in pixels of the map, float32.
"""

from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float, Int

from ldip_jax.ops.bands import join_bands, plan_bands, read_band
from ldip_jax.ops.warp import pixel_grid


def deform_conv(
    x: Float[Array, "b h w c"],
    offsets: Float[Array, "b H W _"],
    mask: Float[Array, "b H W _"],
    kernel: Float[Array, "kh kw _ o"],
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    first_row: Int[Array, ""] | int = 0,
    band_pixels: int | None = 2**14,
) -> Float[Array, "b H W o"]:
    """Deformable convolution without bias; equals `deform_conv2d` of torchvision and of mmcv.

    Zero offsets and a mask of ones give the plain convolution. Only one tap's samples of one band of rows are
    in memory at a time, in the forward and the backward pass.

    Args:
        x: the map.
        offsets: for every output pixel, channels (deformable group, tap, (x, y)), taps row by row.
        mask: channels (deformable group, tap): the factor of each sample.
        kernel: as for a plain convolution with `groups`: it has c / groups input channels.
        stride, padding, dilation: for both axes.
        first_row: the output row at which `offsets` begins, if it holds only some of the rows.
        band_pixels: output pixels per band of rows; None for all at once.

    Raises:
        ValueError: the numbers of channels do not match.
    """
    taps = kernel.shape[0] * kernel.shape[1]
    deform_groups, rest = divmod(mask.shape[-1], taps)
    if rest or not deform_groups or offsets.shape[-1] != 2 * mask.shape[-1]:
        raise ValueError(f"{taps} taps, {mask.shape[-1]} mask and {offsets.shape[-1]} offset channels")
    if x.shape[-1] % deform_groups or x.shape[-1] != groups * kernel.shape[2] or kernel.shape[3] % groups:
        raise ValueError(
            f"{x.shape[-1]} channels, kernel {kernel.shape}, {groups} groups, {deform_groups} deformable ones"
        )
    rows = partial(
        _rows,
        _planes(x, deform_groups),
        kernel,
        size=(x.shape[1], x.shape[2]),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    bands = plan_bands(mask.shape[1], mask.shape[2], band_pixels)
    if bands is None:
        return rows(offsets, mask, first_row)

    @jax.checkpoint
    def one(index: Array) -> Array:
        first = first_row + bands.starts(index)[1]
        return rows(read_band(offsets, bands, index), read_band(mask, bands, index), first)

    return join_bands(lax.map(one, jnp.arange(bands.count)), bands)


def _planes(x: Array, groups: int) -> Array:
    """All maps, `c (b g) ((h + 3) (w + 3))`, with one row and column of zeros before and two after.

    On a CPU, a gather is vectorised along its last axis, which would be too short if it held the few channels
    of a group. So pixels come last.
    """
    padded = jnp.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)))
    return rearrange(padded, "b h w (g c) -> c (b g) (h w)", g=groups)


def _rows(planes, kernel, offsets, mask, first_row, *, size, stride, padding, dilation, groups):
    """The output's rows starting at `first_row`, from the maps as `_planes` returns them."""
    kh, kw, _, features = kernel.shape
    b, height, width, _ = mask.shape
    channels, g = planes.shape[0], planes.shape[1] // b
    row = size[1] + 3
    limit = jnp.array([[[size[1]]], [[size[0]]]], jnp.float32)
    starts = jnp.arange(channels * b * g, dtype=jnp.int32).reshape(channels, b * g, 1) * planes.shape[2]
    y, x = jnp.divmod(jnp.arange(kh * kw), kw)
    taps = (jnp.stack([x, y], axis=-1) * dilation - padding).astype(jnp.float32)
    first = jnp.stack([jnp.zeros((), jnp.float32), jnp.asarray(first_row, jnp.float32)])
    grid = rearrange((pixel_grid(height, width) + first[None, None]) * stride, "h w n -> n (h w)")

    @partial(jax.checkpoint, prevent_cse=False)
    def tap(total: Array, inputs: tuple[Array, ...]) -> tuple[Array, None]:
        tap_place, offset, weight, kernel = inputs
        # Places beyond the zeros around the map, or not a number, read a zero and get no gradient.
        place = (grid + tap_place[:, None])[:, None] + offset
        px, py = jnp.where(place > -1.0, jnp.minimum(place, limit), -1.0)
        x0, y0 = jnp.floor(px), jnp.floor(py)
        fx, fy = px - x0, py - y0
        index = starts + ((y0.astype(jnp.int32) + 1) * row + x0.astype(jnp.int32) + 1)[None]
        samples = jnp.zeros((), planes.dtype)
        for dy, wy in ((0, 1.0 - fy), (1, fy)):
            for dx, wx in ((0, 1.0 - fx), (1, fx)):
                values = jnp.take(planes.reshape(-1), index + (dy * row + dx), mode="clip")
                samples = samples + values * ((wx * wy).astype(values.dtype) * weight)[None]
        samples = rearrange(samples, "c (b g) p -> b (g c) p", b=b)
        samples = rearrange(samples, "b (n c) p -> b n c p", n=groups)
        out = jnp.einsum("cno,bncp->bnop", kernel, samples, preferred_element_type=jnp.float32)
        return total + out, None

    stack = (
        taps,
        rearrange(offsets.astype(jnp.float32), "b h w (g k n) -> k n (b g) (h w)", k=kh * kw, g=g),
        rearrange(mask.astype(planes.dtype), "b h w (g k) -> k (b g) (h w)", k=kh * kw, g=g),
        rearrange(kernel.astype(planes.dtype), "i j c (n o) -> (i j) c n o", n=groups),
    )
    start = jnp.zeros((b, groups, features // groups, height * width), jnp.float32)
    total, _ = lax.scan(tap, start, stack)
    return rearrange(total, "b n o (h w) -> b h w (n o)", h=height).astype(planes.dtype)
