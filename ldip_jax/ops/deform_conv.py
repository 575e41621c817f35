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
from ldip_jax.ops.warp import bilinear, pixel_grid


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
    table = rearrange(x, "b h w (g c) -> (b g) h w c", g=deform_groups)
    rows = partial(_rows, table, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    bands = plan_bands(mask.shape[1], mask.shape[2], band_pixels)
    if bands is None:
        return rows(offsets, mask, first_row)

    @jax.checkpoint
    def one(index: Array) -> Array:
        first = first_row + bands.starts(index)[1]
        return rows(read_band(offsets, bands, index), read_band(mask, bands, index), first)

    return join_bands(lax.map(one, jnp.arange(bands.count)), bands)


def _rows(table, kernel, offsets, mask, first_row, *, stride, padding, dilation, groups):
    """The output's rows starting at `first_row`; `table` holds the deformable groups as a batch."""
    kh, kw, _, features = kernel.shape
    b, height, width, _ = mask.shape
    g = table.shape[0] // b
    y, x = jnp.divmod(jnp.arange(kh * kw), kw)
    taps = (jnp.stack([x, y], axis=-1) * dilation - padding).astype(jnp.float32)
    first = jnp.stack([jnp.zeros((), jnp.float32), jnp.asarray(first_row, jnp.float32)])
    grid = (pixel_grid(height, width) + first[None, None]) * stride
    split = partial(rearrange, pattern="b h w (g k n) -> k (b g) h w n", k=kh * kw, g=g)

    @partial(jax.checkpoint, prevent_cse=False)
    def tap(total: Array, inputs: tuple[Array, ...]) -> tuple[Array, None]:
        place, offset, weight, kernel = inputs
        coords = (grid + place[None, None])[None] + offset
        # Places beyond the zeros around the map get no gradient either.
        samples = bilinear(table, jnp.where(coords > -1.0, coords, -2.0)) * weight
        samples = rearrange(samples, "(b g) h w c -> b h w (g c)", g=g)
        samples = rearrange(samples, "b h w (n c) -> b h w n c", n=groups)
        out = jnp.einsum("bhwnc,cno->bhwno", samples, kernel, preferred_element_type=jnp.float32)
        return total + out, None

    stack = (
        taps,
        split(offsets.astype(jnp.float32)),
        split(mask.astype(table.dtype)),
        rearrange(kernel.astype(table.dtype), "i j c (n o) -> (i j) c n o", n=groups),
    )
    start = jnp.zeros((b, height, width, groups, features // groups), jnp.float32)
    total, _ = lax.scan(tap, start, stack)
    return rearrange(total, "b h w n o -> b h w (n o)").astype(table.dtype)
