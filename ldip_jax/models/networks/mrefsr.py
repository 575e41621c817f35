"""MRefSR (Zhang et al., ICCV 2023): super-resolution x4 of an image with any number of reference images.

Matches come from C2-Matching's extractor (1,110,656 parameters) and `ops/patch_match.py`, the references'
features from VGG-19 (555,328). The restoration network (23,711,633) samples these features where they match,
by deformable convolution, and weighs references by attention, pixel by pixel, at three sizes.
"""

from functools import lru_cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jaxtyping import Array, Float

from ldip_jax.models.layers import Conv, leaky_relu, over_bands, pixel_shuffle, stacked
from ldip_jax.models.networks.backbone import over_time
from ldip_jax.models.networks.basicvsr import ResidualBlock
from ldip_jax.models.networks.mrefsr_fusion import SLOPE, DynAgg, MRAPAFusion
from ldip_jax.models.networks.vgg import VGG, VGGMaps
from ldip_jax.ops.patch_match import match_patches, tap_offsets
from ldip_jax.ops.resize import resize_bilinear

SIZES = {"small": (1, 256), "medium": (2, 128), "large": (4, 64)}
"""Of each level: its pixels per LR pixel, and the channels of the references' features."""


class Extractor(nn.Module):
    """C2-Matching's features for matching: one network for the upscaled input, another one for references.

    Attributes:
        band_pixels: LR pixels per band of rows; None for the whole image at once.
    """

    band_pixels: int | None = None

    def setup(self):
        self.feature_extraction_image1 = VGG(self.band_pixels)
        self.feature_extraction_image2 = VGG(self.band_pixels)

    def __call__(
        self, image: Float[Array, "b H W 3"], reference: Float[Array, "b A B 3"]
    ) -> Float[Array, "b h w 2"]:
        """Where the reference matches: offsets (x, y) as of `match_patches`, for each LR pixel.

        Args:
            image: upscaled x4 by bicubic interpolation, RGB in [0, 1].
            reference: sharp, RGB in [0, 1]; sides are multiples of 4, as those of `image`.
        """
        return match_patches(
            self.feature_extraction_image1(image), self.feature_extraction_image2(reference)
        )[0]


class BandedBlock(nn.Module):
    """A residual block in bands."""

    features: int
    band_pixels: int | None

    def setup(self):
        self.block = ResidualBlock(self.features)

    def __call__(self, x: Float[Array, "b h w c"], _: None = None) -> tuple[Float[Array, "b h w c"], None]:
        chain = lambda module, x: module.block(x)[0]  # noqa: E731
        return over_bands(self, chain, (x,), halo=2), None


def residual_blocks(owner: nn.Module, features: int, count: int, band_pixels: int | None) -> nn.Module:
    """Blocks with parameters stacked on a leading axis, scanned: one body is compiled for all."""
    return stacked(owner, BandedBlock, count)(features, band_pixels)


class ContentExtractor(nn.Module):
    """The LR image's own features."""

    features: int
    blocks: int
    band_pixels: int | None = None

    def setup(self):
        self.conv_first = Conv(self.features)
        self.body = residual_blocks(self, self.features, self.blocks, self.band_pixels)

    def __call__(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b h w {self.features}"]:
        return self.body(leaky_relu(self.conv_first(image)), None)[0]


class Level(nn.Module):
    """Dynamic aggregation of all references, fusion, residual blocks and a tail, at one size.

    Attributes:
        features: channels of the image's features.
        blocks: residual blocks.
        groups: deformable groups.
        step: pixels per LR pixel.
        channels: channels of the references' features.
        last: whether the tail makes the image; else it doubles the size.
        band_pixels: pixels per band of rows; None for the whole map.
    """

    features: int
    blocks: int
    groups: int
    step: int
    channels: int
    last: bool
    band_pixels: int | None = None

    def setup(self):
        self.offset_conv1, self.offset_conv2 = Conv(self.channels), Conv(self.channels)
        self.dyn_agg = DynAgg(self.channels, self.groups)
        self.head = MRAPAFusion(self.features, self.channels, self.band_pixels)
        self.body = residual_blocks(self, self.features, self.blocks, self.band_pixels)
        self.tail_0 = Conv(self.features // 2 if self.last else 4 * self.features)
        if self.last:
            self.tail_2 = Conv(3)

    def __call__(
        self,
        x: Float[Array, "b h w {self.features}"],
        references: Float[Array, "b n h w {self.channels}"],
        matches: Float[Array, "b n h//{self.step} w//{self.step} 18"],
    ) -> Float[Array, "b H W _"]:
        return self.finish(x, self.head(x, self.aggregate(x, references, matches)))

    def finish(
        self, x: Float[Array, "b h w {self.features}"], fused: Float[Array, "b h w {self.features}"]
    ) -> Float[Array, "b H W _"]:
        """The level's output from its input and what `head` makes of it."""
        x = self.body(fused, None)[0] + x

        def tail(module: "Level", x: Array) -> Array:
            x = module.tail_0(x)
            return module.tail_2(leaky_relu(x)) if module.last else leaky_relu(pixel_shuffle(x))

        return over_bands(self, tail, (x,), halo=2, scale=1 if self.last else 2)

    def aggregate(
        self,
        x: Float[Array, "b h w {self.features}"],
        references: Float[Array, "b n h w {self.channels}"],
        matches: Float[Array, "b n h//{self.step} w//{self.step} 18"],
    ) -> Float[Array, "b n h w {self.channels}"]:
        """The references' features, aligned to the image, one reference at a time."""
        rows = jnp.arange(x.shape[1])[None, :, None, None]

        def chain(
            whole: Array, module: "Level", x: Array, rows: Array, lr_features: Array, matches: Array
        ) -> Array:
            y = leaky_relu(module.offset_conv1(jnp.concatenate([x, lr_features], axis=-1)))
            y = leaky_relu(module.offset_conv2(y))
            return leaky_relu(module.dyn_agg(whole, y, matches, rows[0, 0, 0, 0]))

        def one(module: "Level", _: None, pair: tuple[Array, Array]) -> tuple[None, Array]:
            reference, matches = pair
            matches = module.step * repeat(
                matches, "b h w k -> b (h i) (w j) k", i=module.step, j=module.step
            )
            maps = (x, rows, reference, matches)
            aligned = over_bands(module, lambda *args: chain(reference, *args), maps, halo=3)
            return None, aligned

        return over_time(one)(self, None, (references, matches))[1]


class MRefSR(nn.Module):
    """The restoration network: an LR image x4, from its references' features and matches.

    Attributes:
        features: channels of the image's features.
        blocks: residual blocks of each of the four stacks.
        groups: deformable groups.
        band_pixels: pixels per band of rows; None for whole maps.
    """

    features: int = 64
    blocks: int = 16
    groups: int = 8
    band_pixels: int | None = None

    def setup(self):
        self.content_extractor = ContentExtractor(self.features, self.blocks, self.band_pixels)
        self.dyn_agg_restore = {
            name: Level(
                self.features, self.blocks, self.groups, step, channels, name == "large", self.band_pixels
            )
            for name, (step, channels) in SIZES.items()
        }

    def __call__(
        self,
        image: Float[Array, "b h w 3"],
        references: VGGMaps,
        offsets: Float[Array, "b n h w 2"],
    ) -> Float[Array, "b H W 3"]:
        """The image x4, not clamped.

        Args:
            image: RGB in [0, 1].
            references: features of the n references of each image, each `b n H W c`; as large as the output.
            offsets: (x, y) from each pixel to its match in a reference, LR pixels, as `match_patches` gives.
        """
        matches = jax.vmap(tap_offsets, in_axes=1, out_axes=1)(offsets)
        matches = rearrange(matches, "b n h w k d -> b n h w (k d)")
        x = self.content_extractor(image)
        maps = (references.relu3_1, references.relu2_1, references.relu1_1)
        for name, features in zip(SIZES, maps, strict=True):
            x = self.dyn_agg_restore[name](x, features, matches)
        return x + resize_bilinear(image, (4 * image.shape[1], 4 * image.shape[2]))


def restoration_shapes(net: MRefSR) -> Any:
    """Nested dict of the parameters' shapes; computes nothing."""
    # Flax modules do hash, by their fields.
    return _shapes(net)  # type: ignore[arg-type]


# Cached, because tracing takes seconds.
@lru_cache(maxsize=8)
def _shapes(net: MRefSR) -> Any:
    side = 8
    shape: Any = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    maps = VGGMaps(*(shape((1, 1, s * side, s * side, c)) for s, c in reversed(SIZES.values())))
    inputs = shape((1, side, side, 3)), maps, shape((1, 1, side, side, 2))
    return jax.eval_shape(net.init, jax.random.key(0), *inputs)["params"]


def init_restoration(net: MRefSR, seed: int) -> Any:
    """Parameters at the start of training, as in the official code: nested dict of float32 NumPy arrays.

    Kernels are normal numbers of deviation 0.02; those of deformable convolutions are uniform, up to
    1 / sqrt(fan-in); those of their offsets, and all biases, are 0.
    """
    rng = np.random.default_rng(seed)

    def start(path: Any, leaf: Any) -> np.ndarray:
        owner, name = (step.key for step in path[-2:])
        if name.startswith("conv_emb"):
            return np.full(leaf.shape, SLOPE, np.float32)
        if name == "bias" or owner == "conv_offset_mask":
            return np.zeros(leaf.shape, np.float32)
        if owner == "dyn_agg":
            most = np.float32((9 * leaf.shape[2]) ** -0.5)
            return most * (2 * rng.random(leaf.shape, np.float32) - 1)
        return np.float32(0.02) * rng.standard_normal(leaf.shape, np.float32)

    return jax.tree_util.tree_map_with_path(start, restoration_shapes(net))
