"""GMFlow with one refinement step: dense flow between two images, in both directions in one pass.

Xu et al., "GMFlow: Learning Optical Flow via Global Matching", CVPR 2022. At 1/8 of the size, every pixel is
compared with every pixel of the other image; at 1/4, the match is refined within 4 pixels.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from ldip_jax.models.layers import Conv, lecun_normal
from ldip_jax.models.networks.gmflow_transformer import Transformer, add_position
from ldip_jax.models.networks.spynet import IMAGENET_MEAN, IMAGENET_STD
from ldip_jax.ops.conv import conv2d
from ldip_jax.ops.resize import hr_flow, resize_align_corners, resize_bicubic
from ldip_jax.ops.warp import flow_warp, pixel_grid


def instance_norm(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Normalise every channel of every image to mean 0 and variance 1, without parameters."""
    mean = jnp.mean(x, axis=(1, 2), keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=(1, 2), keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5)


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions plus a shortcut, which is convolved where the shape changes."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b H W {self.features}"]:
        y = Conv(self.features, stride=self.stride, use_bias=False, name="conv1")(x)
        y = nn.relu(instance_norm(y))
        y = Conv(self.features, use_bias=False, name="conv2")(y)
        y = nn.relu(instance_norm(y))
        if x.shape[-1] != self.features or self.stride != 1:
            x = instance_norm(Conv(self.features, kernel=1, stride=self.stride, name="downsample_0")(x))
        return nn.relu(x + y)


class TridentConv(nn.Module):
    """One 3x3 kernel, applied at stride 1 and at stride 2: the same features at two scales."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h//2 w//2 c"]]:
        c = x.shape[-1]
        kernel = self.param("kernel", lecun_normal, (3, 3, c, c), jnp.float32)
        return conv2d(x, kernel), conv2d(x, kernel, stride=2)


class Encoder(nn.Module):
    """From normalised images to 128 features at 1/4 and at 1/8 of their size."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"]
    ) -> tuple[Float[Array, "b h//4 w//4 128"], Float[Array, "b h//8 w//8 128"]]:
        x = nn.relu(instance_norm(Conv(64, kernel=7, stride=2, use_bias=False, name="conv1")(x)))
        for stage, (features, stride) in enumerate(((64, 1), (96, 2), (128, 1)), start=1):
            x = ResidualBlock(features, stride, name=f"layer{stage}_0")(x)
            x = ResidualBlock(features, name=f"layer{stage}_1")(x)
        x = Conv(128, kernel=1, name="conv2")(x)
        return TridentConv(name="trident_conv")(x)


def _similarity(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, "b p q"]:
    return jnp.einsum("bpc,bqc->bpq", *(rearrange(x, "b h w c -> b (h w) c") for x in (a, b))) / math.sqrt(
        a.shape[-1]
    )


def global_matching(a: Float[Array, "b h w c"], b: Float[Array, "b h w c"]) -> Float[Array, "2*b h w 2"]:
    """Flow a -> b, then flow b -> a, in one batch; both come from the same table of similarities."""
    h, w = a.shape[1:3]
    grid = pixel_grid(h, w).reshape(h * w, 2)
    scores = _similarity(a, b)
    forward = jnp.einsum("bpq,qd->bpd", jax.nn.softmax(scores, axis=2), grid)
    backward = jnp.einsum("bpq,pd->bqd", jax.nn.softmax(scores, axis=1), grid)
    return (jnp.concatenate([forward, backward]) - grid[None]).reshape(-1, h, w, 2)


def _padded(x: Float[Array, "b h w c"], radius: int) -> Array:
    return jnp.pad(x, ((0, 0), (radius, radius), (radius, radius), (0, 0)))


def neighbourhood(x: Float[Array, "b h w c"], radius: int) -> Float[Array, "b h w k c"]:
    """Each pixel's (2 radius + 1)^2 neighbours in reading order; 0 outside the map."""
    h, w = x.shape[1:3]
    padded = _padded(x, radius)
    side = range(2 * radius + 1)
    return jnp.stack([padded[:, y : y + h, x : x + w] for y in side for x in side], axis=3)


def local_similarity(
    a: Float[Array, "b h w c"], b: Float[Array, "b h w c"], radius: int
) -> Float[Array, "b h w k"]:
    """Dot product of each pixel of `a` with the same place's `neighbourhood` in `b`, divided by sqrt(c)."""
    side = 2 * radius + 1
    padded = _padded(b, radius)

    # One neighbour at a time, because all at once would hold k copies of `b`.
    def score(k: Array) -> Array:
        return jnp.sum(a * jax.lax.dynamic_slice(padded, (0, k // side, k % side, 0), a.shape), axis=-1)

    scores = jax.lax.map(score, jnp.arange(side * side))
    return jnp.moveaxis(scores, 0, -1) / math.sqrt(a.shape[-1])


def local_matching(
    a: Float[Array, "b h w c"], b: Float[Array, "b h w c"], radius: int = 4
) -> Float[Array, "b h w 2"]:
    """Flow a -> b, to places inside the map and within `radius` pixels on each axis."""
    inside = neighbourhood(jnp.ones((1, *a.shape[1:3], 1)), radius)[..., 0] > 0.5
    scores = jnp.where(inside, local_similarity(a, b, radius), -1e9)
    offsets = pixel_grid(2 * radius + 1, 2 * radius + 1).reshape(-1, 2) - radius
    return jnp.einsum("bhwk,kd->bhwd", jax.nn.softmax(scores), offsets)


class Propagation(nn.Module):
    """Attention from each pixel to the whole map, or to its 3x3 neighbours if `local`; values are flows."""

    @nn.compact
    def __call__(
        self, features: Float[Array, "b h w c"], flow: Float[Array, "b h w 2"], local: bool
    ) -> Float[Array, "b h w 2"]:
        c = features.shape[-1]
        query = nn.Dense(c, kernel_init=lecun_normal, name="q_proj")(features)
        project_key = nn.Dense(c, kernel_init=lecun_normal, name="k_proj")
        if local:
            # Places outside the map are included, with similarity and flow 0.
            weights = jax.nn.softmax(local_similarity(query, project_key(features), 1))
            return jnp.einsum("bhwk,bhwkd->bhwd", weights, neighbourhood(flow, 1))
        # The published weights were trained with the key computed from the query.
        key = project_key(query)
        query, key, values = (rearrange(x, "b h w c -> b (h w) c") for x in (query, key, flow))
        weights = jax.nn.softmax(jnp.einsum("bpc,bqc->bpq", query, key) / math.sqrt(c))
        return jnp.einsum("bpq,bqd->bpd", weights, values).reshape(flow.shape)


def convex_upsample(
    flow: Float[Array, "b h w 2"], logits: Float[Array, "b h w k"]
) -> Float[Array, "b H W 2"]:
    """Upsample a flow as convex combinations of 3x3 neighbours; those outside the map count as 0.

    Args:
        flow: (x, y) in its own pixels; the result is in pixels of the larger map.
        logits: of the combinations' weights, channels (neighbour, fine row, fine column).
    """
    factor = math.isqrt(logits.shape[-1] // 9)
    weights = rearrange(logits, "b h w (k i j) -> b h w k i j", i=factor, j=factor)
    weights = jax.nn.softmax(weights, axis=3)
    fine = jnp.einsum("bhwkij,bhwkd->bhwijd", weights, neighbourhood(factor * flow, 1))
    return rearrange(fine, "b h w i j d -> b (h i) (w j) d")


MULTIPLE = 32
# Bounds of the longer side. Below 512 the network is off by a pixel or more even between shifted copies of an
# image, and at 128 it finds almost nothing, so small images are enlarged.
LONGEST = 640
SHORTEST = 512


def gmflow_size(size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of about the proportions of `size`, with the longer side clamped to [512, 640].

    A side becomes a multiple of 32 if that changes it by at most a sixteenth: what is added by padding costs
    up to a fifth of the time. Both images are resized to the same size, so proportions matter little.
    """
    longest = max(size)
    target = max(min(LONGEST, longest), SHORTEST)
    h, w = (_near_multiple(side * target / longest) for side in size)
    return h, w


def _near_multiple(side: float) -> int:
    multiple = MULTIPLE * round(side / MULTIPLE)
    return multiple if abs(multiple - side) <= side / 16 else max(1, round(side))


def extend(image: Float[Array, "b h w 3"]) -> Float[Array, "b H W 3"]:
    """The image, padded below and on the right by replication to multiples of 32."""
    h, w = image.shape[1:3]
    return jnp.pad(image, ((0, 0), (0, -h % MULTIPLE), (0, -w % MULTIPLE), (0, 0)), mode="edge")


def _windows(x: Array, splits: int) -> tuple[int, int]:
    """The size of windows that split a map into splits x splits; it grows with the image."""
    return x.shape[1] // splits, x.shape[2] // splits


class Encoded(NamedTuple):
    """What GMFlow computes from each image on its own: features at 1/4 and at 1/8 of its size."""

    fine: Float[Array, "n h w 128"]
    coarse: Float[Array, "n h//2 w//2 128"]


class GMFlow(nn.Module):
    """4,716,720 parameters, named as in the published checkpoint."""

    def setup(self):
        self.backbone = Encoder()
        self.transformer = Transformer()
        self.feature_flow_attn = Propagation()
        self.upsampler_0, self.upsampler_2 = Conv(256), Conv(144, kernel=1)

    def __call__(
        self, a: Float[Array, "b h w 3"], b: Float[Array, "b h w 3"]
    ) -> tuple[Float[Array, "b h w 2"], Float[Array, "b h w 2"]]:
        """Flow in pixels, (x, y): `flow_warp(b, forward)` looks like `a`, `flow_warp(a, backward)` like `b`.

        Args:
            a, b: RGB in [0, 1]; sides are multiples of 32.

        Returns:
            forward, backward: float32; computed at the highest matmul precision.
        """
        if a.shape[1] % MULTIPLE or a.shape[2] % MULTIPLE:
            raise ValueError(f"sides must be multiples of {MULTIPLE}, not {a.shape[1:3]}")
        return self._bidirectional(self.encode(jnp.concatenate([a, b])))

    def encode(self, images: Float[Array, "n h w 3"]) -> Encoded:
        """The features of images in [0, 1] with sides that are multiples of 8."""
        with jax.default_matmul_precision("highest"):
            mean, std = (jnp.array([[[constant]]]) for constant in (IMAGENET_MEAN, IMAGENET_STD))
            return Encoded(*self.backbone((images - mean) / std))

    def compare(self, a: Encoded, b: Encoded) -> tuple[Float[Array, "b h w 2"], Float[Array, "b h w 2"]]:
        """What a call returns, from the features of both images."""
        return self._bidirectional(Encoded(*(jnp.concatenate(maps) for maps in zip(a, b, strict=True))))

    def _bidirectional(self, features: Encoded) -> tuple[Float[Array, "b h w 2"], Float[Array, "b h w 2"]]:
        with jax.default_matmul_precision("highest"):
            forward, backward = jnp.split(self._flows(*features), 2)
        return forward, backward

    def _flows(
        self, fine: Float[Array, "n h w 128"], coarse: Float[Array, "n y x 128"]
    ) -> Float[Array, "n H W 2"]:
        window = _windows(coarse, 2)
        coarse = self.transformer(add_position(coarse, window), window)
        flow = self.feature_flow_attn(coarse, global_matching(*jnp.split(coarse, 2)), local=False)

        flow = 2.0 * resize_align_corners(flow, (fine.shape[1], fine.shape[2]))
        window = _windows(fine, 8)
        other = flow_warp(jnp.roll(fine, fine.shape[0] // 2, axis=0), flow)
        pair = add_position(jnp.concatenate([fine, other]), window)
        fine, other = jnp.split(self.transformer(pair, window), 2)
        flow = self.feature_flow_attn(fine, flow + local_matching(fine, other), local=True)

        logits = nn.relu(self.upsampler_0(jnp.concatenate([flow, fine], axis=-1)))
        return convex_upsample(flow, self.upsampler_2(logits))


class OneWayGMFlow(GMFlow):
    """GMFlow from `ref` to `supp` only, for images of any size; same parameters as `GMFlow`."""

    def __call__(
        self, ref: Float[Array, "b h w 3"], supp: Float[Array, "b h w 3"]
    ) -> Float[Array, "b h w 2"]:
        """Flow (x, y) in pixels, float32; computed at `gmflow_size`, where the network works best."""
        size = ref.shape[1], ref.shape[2]
        h, w = gmflow_size(size)
        with jax.default_matmul_precision("highest"):
            a, b = (jnp.clip(resize_bicubic(x.astype(jnp.float32), (h, w)), 0.0, 1.0) for x in (ref, supp))
            forward, _ = super().__call__(extend(a), extend(b))
            return hr_flow(forward[:, :h, :w], size)
