"""LRRF in idiomatic PyTorch, with which the JAX module is compared, including gradients.

Maps are channels first, tokens channels last. Whole frames, references as large as their canvas. Needs torch.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ldip_jax.models.ldip import KeyFrames
from ldip_jax.models.networks.backbone import Flows
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.resize import hr_flow

PAIRS, WINDOW, HEADS, LAYERS = 4, 8, 4, 2


def conv(features_in: int, features: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(features_in, features, kernel, padding=kernel // 2)


def last(x: Tensor) -> Tensor:
    return x.movedim(-3, -1)


def first(x: Tensor) -> Tensor:
    return x.movedim(-1, -3)


def nearest(x: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values of maps b c h w at places b H W 2 (x, y), what rounding leaves out, whether it is inside."""
    h, w = x.shape[2:]
    centre = places.round()
    column, row = centre.unbind(-1)
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    index = row.clamp(0, h - 1).long() * w + column.clamp(0, w - 1).long()
    values = x.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, x.shape[1], -1))
    inside = inside[:, None].to(x)
    return values.unflatten(2, index.shape[1:]) * inside, first(places - centre) * inside, inside


class RDB(nn.Module):
    """Residual dense block."""

    def __init__(self, features: int = 64, growth: int = 16, depth: int = 4):
        super().__init__()
        self.depth = depth
        for i in range(depth):
            self.add_module(f"dense_{i}", conv(features + i * growth, growth))
        self.local_fusion = conv(features + depth * growth, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        dense = x
        for i in range(self.depth):
            grown = F.leaky_relu(self.get_submodule(f"dense_{i}")(dense), 0.1)
            dense = torch.cat([dense, grown], 1)
        return x + self.local_fusion(dense)


class FeatureExtractor(nn.Module):
    """64 features of an image in [0, 1] at its own resolution."""

    def __init__(self):
        super().__init__()
        self.conv_first, self.rdb_0, self.rdb_1 = conv(3, 64), RDB(), RDB()

    def forward(self, image: Tensor) -> Tensor:
        return self.rdb_1(self.rdb_0(self.conv_first(4 * image - 2)))


class ICA(nn.Module):
    """A pixel's query over its references, all at once."""

    def __init__(self, features: int = 64):
        super().__init__()
        self.norm_q, self.norm_kv = nn.LayerNorm(features), nn.LayerNorm(features)
        self.mlp_0, self.mlp_1 = nn.Linear(2 * features, 4 * features), nn.Linear(4 * features, features)
        self.q, self.k, self.v, self.out = (nn.Linear(features, features) for _ in range(4))

    def forward(self, query: Tensor, kv: Tensor) -> Tensor:
        """Queries b h w c, references b n h w c."""
        query = self.norm_q(query)
        both = torch.cat([query[:, None].expand_as(kv), kv], -1)
        kv = self.norm_kv(self.mlp_1(F.leaky_relu(self.mlp_0(both), 0.1)))
        q, k, v = (x.unflatten(-1, (HEADS, -1)) for x in (self.q(query), self.k(kv), self.v(kv)))
        weights = (torch.einsum("bhwmd,bnhwmd->bnhwm", q, k) * q.shape[-1] ** -0.5).softmax(1)
        return self.out(torch.einsum("bnhwm,bnhwmd->bhwmd", weights, v).flatten(-2))


class Fusion(nn.Module):
    def __init__(self, features: int = 64):
        super().__init__()
        self.conv_0, self.conv_1 = conv(2 * features, 4 * features), conv(4 * features, features)
        self.conv_2 = conv(features, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_2(F.leaky_relu(self.conv_1(F.leaky_relu(self.conv_0(x), 0.1)), 0.1))


class RefFusion(nn.Module):
    """References fused into key-frames' HR features, gated by the highest confidence of each pixel."""

    def __init__(self, features: int = 64):
        super().__init__()
        self.conv_q_in, self.conv_kv_in = conv(64, features), conv(64 + 3, features)
        for i in range(LAYERS):
            self.add_module(f"ica_{i}", ICA())
            self.add_module(f"fusion_{i}", Fusion())
        self.conv_r = conv(features, 64)

    def forward(self, hr: Tensor, aligned: Tensor) -> Tensor:
        """The residual of features k c H W with aligned references k n 64+3 H W."""
        kv = last(self.conv_kv_in(aligned.flatten(0, 1)).unflatten(0, aligned.shape[:2]))
        query = self.conv_q_in(hr)
        for i in range(LAYERS):
            seen = self.get_submodule(f"ica_{i}")(last(query), kv)
            query = self.get_submodule(f"fusion_{i}")(torch.cat([query, first(seen)], 1))
        return self.conv_r(query) * aligned[:, :, -1:].amax(1)


class WindowAttention(nn.Module):
    def __init__(self, features: int = 64):
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, HEADS))
        self.qkv, self.proj = nn.Linear(features, 3 * features), nn.Linear(features, features)
        place = torch.cartesian_prod(torch.arange(WINDOW), torch.arange(WINDOW))
        apart = place[:, None] - place[None] + WINDOW - 1
        self.index = apart[..., 0] * (2 * WINDOW - 1) + apart[..., 1]

    def forward(self, x: Tensor, is_key: Tensor) -> Tensor:
        """Windows n t c; whether each token is a key, n t."""
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).movedim(2, 0).transpose(2, 3)
        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1)[None]
        hidden = torch.zeros(is_key.shape).masked_fill(~is_key, -1e9)
        out = F.scaled_dot_product_attention(q, k, v, bias + hidden[:, None, None])
        return self.proj(out.transpose(1, 2).flatten(2))


class SwinBlock(nn.Module):
    def __init__(self, features: int = 64, shift: int = 0):
        super().__init__()
        self.shift = shift
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attn = WindowAttention()
        self.fc1, self.fc2 = nn.Linear(features, 2 * features), nn.Linear(2 * features, features)

    def forward(self, x: Tensor) -> Tensor:
        """Maps b h w c."""
        b, h, w, c = x.shape
        down, right = -(h + self.shift) % WINDOW, -(w + self.shift) % WINDOW
        pads = (self.shift, right, self.shift, down)
        mask = F.pad(torch.ones(1, h, w), pads)[..., None].expand(b, -1, -1, 1)
        x, mask = (self._windows(y) for y in (F.pad(x, (0, 0, *pads)), mask))
        x = x + self.attn(self.norm1(x), mask[..., 0] > 0)
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        rows, columns = (self.shift + h + down) // WINDOW, (self.shift + w + right) // WINDOW
        x = x.view(b, rows, columns, WINDOW, WINDOW, c).transpose(2, 3).reshape(b, rows * WINDOW, -1, c)
        return x[:, self.shift : self.shift + h, self.shift : self.shift + w]

    @staticmethod
    def _windows(x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        x = x.reshape(b, h // WINDOW, WINDOW, w // WINDOW, WINDOW, c).transpose(2, 3)
        return x.reshape(-1, WINDOW * WINDOW, c)


class HRIPCell(nn.Module):
    """The residual of one frame in one direction."""

    def __init__(self, features: int = 64):
        super().__init__()
        self.conv_in, self.norm = conv(2 * 64 + 2, features), nn.LayerNorm(features)
        self.swin = nn.ModuleList(
            nn.ModuleDict({"unshifted": SwinBlock(), "shifted": SwinBlock(shift=WINDOW // 2)})
            for _ in range(PAIRS)
        )
        self.conv_last = conv(features, 64)

    def forward(self, current: Tensor, previous: Tensor, flow: Tensor) -> Tensor:
        """Features b c H W of this frame and the one before, flow b H W 2 to that in pixels."""
        h, w = current.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        warped, offset, _ = nearest(previous, torch.stack([columns, rows], -1) + flow)
        x = last(self.conv_in(torch.cat([current, warped, offset], 1)))
        for pair in self.swin:
            x = pair["shifted"](pair["unshifted"](x))
        return self.conv_last(first(self.norm(x)))


class LRRF(nn.Module):
    """Ref-Align, Ref-Fusion gated by the highest confidence, and HRIP."""

    def __init__(self, feature_scale: float = 1.0):
        super().__init__()
        self.feature_scale = feature_scale
        self.feature_extractor, self.ref_fusion = FeatureExtractor(), RefFusion()
        self.hrip = nn.ModuleDict({"backward_cell": HRIPCell(), "forward_cell": HRIPCell()})

    def forward(
        self,
        hr: Tensor,
        keys: Tensor,
        images: Tensor,
        warps: Tensor,
        confidence: Tensor,
        to_next: Tensor,
        to_previous: Tensor,
    ) -> Tensor:
        """A clip's refined features.

        Args:
            hr: features t 64 H W.
            keys: key-frames, k.
            images: references k n 3 h w in [0, 1].
            warps: k n H W 2, places in their pixels.
            confidence: k n 1 H W.
            to_next, to_previous: flow of each frame, t H W 2 in HR pixels.
        """
        frames = list(self.refine(hr, keys, images, warps, confidence)[:, None])
        for name, flow in (("backward_cell", to_next), ("forward_cell", to_previous)):
            previous = torch.zeros_like(frames[0])
            order = range(len(frames))
            for i in reversed(order) if name == "backward_cell" else order:
                pair = frames[i] / self.feature_scale, previous / self.feature_scale
                previous = frames[i] = frames[i] + self.feature_scale * self.hrip[name](*pair, flow[i][None])
        return torch.cat(frames)

    def refine(self, hr: Tensor, keys: Tensor, images: Tensor, warps: Tensor, confidence: Tensor) -> Tensor:
        """Ref-Align and Ref-Fusion of the key-frames; the other frames stay as they are."""
        features = self.feature_extractor(images.flatten(0, 1))
        values, offset, inside = nearest(features, warps.flatten(0, 1))
        aligned = torch.cat([values, offset, confidence.flatten(0, 1) * inside], 1)
        aligned = aligned.unflatten(0, warps.shape[:2])
        refined = self.feature_scale * self.ref_fusion(hr[keys] / self.feature_scale, aligned)
        return hr.index_add(0, keys, refined)


def in_torch(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """LRRF's Flax parameters, or their gradients, by the names and in the layout of `LRRF` here."""
    for name, value in params.items():
        if isinstance(value, Mapping):
            path = f"{prefix}{name}.".replace("ref_align.", "").replace("hrip.forward.", "hrip.forward_cell.")
            yield from in_torch(value, path.replace("hrip.backward.", "hrip.backward_cell."))
            continue
        named = prefix + {"kernel": "weight", "scale": "weight"}.get(name, name)
        if ".swin." in prefix:
            # The pairs are stacked.
            for i, one in enumerate(np.asarray(value)):
                yield (
                    named.replace(".swin.", f".swin.{i}."),
                    one.T if one.ndim == 2 and name == "kernel" else one,
                )
        elif name == "kernel":
            array = np.asarray(value)
            yield named, array.T if array.ndim == 2 else array.transpose(3, 2, 0, 1)
        else:
            yield named, np.asarray(value)


def load(net: LRRF, params: Mapping[str, Any]) -> None:
    """LRRF's Flax parameters into a twin, every one of them."""
    net.load_state_dict({name: torch.tensor(array) for name, array in in_torch(params)})


def channels_first(x: Any) -> Tensor:
    """An array `... h w c` of JAX as a tensor of maps."""
    return first(torch.tensor(np.asarray(x))).contiguous()


def inputs(hr: Any, keys: KeyFrames, flows: Flows) -> tuple[Tensor, ...]:
    """What `LDIP.refine` and `propagate` take, for a batch of one, as `LRRF` takes it here."""
    references = keys.references
    size = hr.shape[2:4]
    hr_flows = quick_jit(lambda flows: [hr_flow(flow[0], size) for flow in flows])(flows)
    return (
        channels_first(hr[0]),
        torch.tensor(np.asarray(keys.index[0])),
        channels_first(references.image[0]),
        torch.tensor(np.asarray(references.warp[0])),
        channels_first(references.confidence[0]),
        *(torch.tensor(np.asarray(flow)) for flow in hr_flows),
    )
