"""SPyNet: the coarse-to-fine optical flow inside every backbone (Ranjan and Black, CVPR 2017).

1,440,300 parameters. Levels, activations and the two kinds of resizing are those of the official video
super-resolution checkpoints. Level 0 is the coarsest, at 1/32 of the size.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from ldip_jax.models.layers import Conv, over_bands
from ldip_jax.ops.grid import align_corners_grid, rows_of, sample_bilinear
from ldip_jax.ops.resize import resize_large
from ldip_jax.ops.warp import bilinear, row_places

LEVELS = 6
# Levels with more pixels than this are computed in bands of rows. Each of a level's five convolutions reaches
# three rows. Bands of wide images have HALOS times as many rows, because each row takes much memory.
BAND_PIXELS, HALO, HALOS = 2**17, 15, 4
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class BasicModule(nn.Module):
    """Five 7x7 convolutions, 8 -> 32 -> 64 -> 32 -> 16 -> 2: one level's correction of the flow."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 8"]) -> Float[Array, "b h w 2"]:
        for index, features in enumerate((32, 64, 32, 16)):
            x = nn.relu(Conv(features, kernel=7, winograd=True, name=f"basic_module_{2 * index}")(x))
        return Conv(2, kernel=7, name="basic_module_8")(x)


def padded_size(size: tuple[int, int]) -> tuple[int, int]:
    """The size (height, width) at which images are compared: the sides are multiples of 32."""
    return -(-size[0] // 32) * 32, -(-size[1] // 32) * 32


def normalise(image: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """An image in [0, 1], with the mean and deviation of ImageNet's images removed."""
    return (image - jnp.array([[[IMAGENET_MEAN]]])) / jnp.array([[[IMAGENET_STD]]])


def _pyramid(x: Array) -> list[Array]:
    """The image at all levels, coarsest first; each is the 2x2 mean of the next."""
    levels = [x]
    for _ in range(LEVELS - 1):
        levels.append(nn.avg_pool(levels[-1], (2, 2), strides=(2, 2)))
    return levels[::-1]


class SPyNet(nn.Module):
    """Optical flow from `ref` to `supp`: `flow_warp(supp, flow)` resembles `ref`.

    Attributes:
        band_pixels: pixels per band of rows, for large images; None for whole images.
    """

    band_pixels: int | None = BAND_PIXELS

    def setup(self):
        self.levels = [BasicModule(name=f"basic_module_{level}") for level in range(LEVELS)]

    def __call__(
        self, ref: Float[Array, "b h w 3"], supp: Float[Array, "b h w 3"]
    ) -> Float[Array, "b h w 2"]:
        """Flow (x, y) in pixels, float32. Images in [0, 1], any size."""
        size = (ref.shape[1], ref.shape[2])
        ref, supp = (resize_large(x.astype(jnp.float32), padded_size(size)) for x in (ref, supp))
        return self.between(normalise(ref), normalise(supp), size)

    def between(
        self, ref: Float[Array, "b y x 3"], supp: Float[Array, "b y x 3"], size: tuple[int, int]
    ) -> Float[Array, "b h w 2"]:
        """The flow between images of `size` (h, w), from both resized to `padded_size` and normalised."""
        padded, (h, w) = (ref.shape[1], ref.shape[2]), size
        flow = jnp.zeros((ref.shape[0], padded[0] // 32, padded[1] // 32, 2), jnp.float32)
        for level, (ref_level, supp_level) in enumerate(zip(_pyramid(ref), _pyramid(supp), strict=True)):
            size = (ref_level.shape[1], ref_level.shape[2])
            grid = align_corners_grid((flow.shape[1], flow.shape[2]), size)

            # A frame's places and its enlarged flow exist only band by band.
            def chain(module: SPyNet, ref, rows, level=level, supp=supp_level, coarse=flow, grid=grid):
                rows = rows[0, :, 0, 0]
                flow = 2.0 * sample_bilinear(coarse, rows_of(grid, rows))
                warped = bilinear(supp, row_places(rows, ref.shape[2])[None] + flow, padding="border")
                return flow + module.levels[level](jnp.concatenate([ref, warped, flow], axis=-1))

            rows = jnp.arange(size[0])[None, :, None, None]
            flow = over_bands(self, chain, (ref_level, rows), halo=HALO, halos=HALOS)
        to_pixels = jnp.array([[[[w / padded[1], h / padded[0]]]]], jnp.float32)
        return resize_large(flow, (h, w)) * to_pixels
