"""IART in PyTorch, written from the paper: what the JAX network is compared with.

Module names are those of the published checkpoints, so that these load strictly, with the parts that never
run. Arrays are channels first in maps, last in tokens. Needs torch.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.parity.torch_twins import BasicVSR, flow_warp

BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")


def sine_code(place: Tensor, span: float, features: int) -> Tensor:
    """`... 2` places (y, x), a full turn per `span`, to `... features` sines and cosines."""
    half = features // 2
    channel = torch.arange(half).to(place)
    wavelength = 0.01 ** (2 * (channel // 2) / half)
    angle = (place / (span + 1e-6) * (2 * math.pi))[..., None] / wavelength
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).flatten(-2)


class ImplicitWarp(nn.Module):
    """Attention to the 2x2 pixels around a place."""

    def __init__(self, features: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(features, features) for _ in range(3))
        corners = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        self.register_buffer("window_idx_offset", corners)
        self.register_buffer("position_bias", sine_code(corners.float(), 1, features)[None])

    def forward(self, other: Tensor, current: Tensor, flow: Tensor) -> Tensor:
        """Maps b c h w, flow b 2 h w (x, y)."""
        b, c, h, w = other.shape
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        place = torch.stack([rows + flow[:, 1], columns + flow[:, 0]], -1)
        corner = place.floor()
        query = self.q(current.permute(0, 2, 3, 1) + sine_code(place - corner, 2, c))
        around = corner.long()[..., None, :] + self.window_idx_offset
        y, x = around[..., 0].clamp(0, h - 1), around[..., 1].clamp(0, w - 1)
        batch = torch.arange(b)[:, None, None, None]
        tokens = other.permute(0, 2, 3, 1)[batch, y, x] + self.position_bias[0]
        heads = lambda t: t.unflatten(-1, (self.heads, -1))  # noqa: E731
        scores = torch.einsum("bhwnd,bhwknd->bhwnk", heads(query), heads(self.k(tokens)))
        weights = (scores * (c // self.heads) ** -0.5).softmax(-1)
        out = torch.einsum("bhwnk,bhwknd->bhwnd", weights, heads(self.v(tokens)))
        return out.flatten(-2).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Attention inside windows of depth x side x side."""

    def __init__(self, features: int, heads: int, depth: int, side: int):
        super().__init__()
        self.heads = heads
        rows = (2 * depth - 1) * (2 * side - 1) ** 2
        self.relative_position_bias_table = nn.Parameter(0.2 * torch.randn(rows, heads))
        axes = torch.meshgrid(*map(torch.arange, (depth, side, side)), indexing="ij")
        d, y, x = (axis.flatten()[:, None] - axis.flatten()[None] for axis in axes)
        index = (d + depth - 1) * (2 * side - 1) ** 2 + (y + side - 1) * (2 * side - 1) + x + side - 1
        self.register_buffer("relative_position_index", index)
        self.qkv, self.proj = nn.Linear(features, 3 * features), nn.Linear(features, features)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`windows tokens c`; `mask` windows tokens tokens is added to the scores."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)
        scores = scores + self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        if mask is not None:
            scores = scores + mask[:, None]
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, features: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(features, hidden), nn.Linear(hidden, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


def cut(x: Tensor, side: int) -> Tensor:
    """d h w c to windows tokens c."""
    x = x.unflatten(1, (-1, side)).unflatten(3, (-1, side))
    return x.permute(1, 3, 0, 2, 4, 5).flatten(2, 4).flatten(0, 1)


def join(x: Tensor, side: int, depth: int, height: int, width: int) -> Tensor:
    """The inverse of `cut`."""
    x = x.view(height // side, width // side, depth, side, side, -1)
    return x.permute(2, 0, 3, 1, 4, 5).reshape(depth, height, width, -1)


class Block(nn.Module):
    """A Swin block on three frames; odd ones roll the map by half a window, and mask new neighbours."""

    def __init__(self, features: int, heads: int, side: int, ratio: int, shift: int):
        super().__init__()
        self.side, self.shift = side, shift
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attn = Attention(features, heads, 3, side)
        self.mlp = Mlp(features, ratio * features)

    def mask(self, depth: int, height: int, width: int) -> Tensor:
        label = torch.zeros(height, width)
        ends = (slice(0, -self.side), slice(-self.side, -self.shift), slice(-self.shift, None))
        for i, rows in enumerate(ends):
            for j, columns in enumerate(ends):
                label[rows, columns] = 3 * i + j
        labels = cut(label.expand(depth, -1, -1)[..., None], self.side)[..., 0]
        return torch.where(labels[:, :, None] == labels[:, None], 0.0, -100.0)

    def forward(self, x: Tensor) -> Tensor:
        """d h w c."""
        depth, h, w, _ = x.shape
        y = F.pad(self.norm1(x), (0, 0, 0, -w % self.side, 0, -h % self.side))
        height, width = y.shape[1:3]
        mask = None
        if self.shift:
            y = y.roll((-self.shift, -self.shift), (1, 2))
            mask = self.mask(depth, height, width).to(y)
        y = join(self.attn(cut(y, self.side), mask), self.side, depth, height, width)
        x = x + y.roll((self.shift, self.shift), (1, 2))[:, :h, :w]
        return x + self.mlp(self.norm2(x))


class ResidualGroup(nn.Module):
    def __init__(self, features: int, blocks: int, heads: int, side: int, ratio: int):
        super().__init__()
        self.residual_group = nn.Module()
        self.residual_group.blocks = nn.ModuleList(
            Block(features, heads, side, ratio, side // 2 * (i % 2)) for i in range(blocks)
        )
        self.conv = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for block in self.residual_group.blocks:
            y = block(y)
        return x + self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class SwinIRFM(nn.Module):
    """Three frames (3 c h w) to the middle one (c h w)."""

    def __init__(self, mid: int, features: int, groups: int, *block: int):
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.norm = nn.LayerNorm(features)
        self.layers = nn.ModuleList(ResidualGroup(features, *block) for _ in range(groups))
        self.norm = nn.LayerNorm(features)
        self.conv_after_body = nn.Conv2d(features, features, 3, padding=1)
        # These never run.
        self.conv_first = nn.Conv2d(3, features, 3, padding=1)
        self.conv_first_feat = nn.Conv2d(mid, features, 3, padding=1)
        self.conv_before_upsample = nn.Conv2d(features, mid, 3, padding=1)

    def forward(self, triple: Tensor) -> Tensor:
        x = self.patch_embed.norm(triple.permute(0, 2, 3, 1))
        for layer in self.layers:
            x = layer(x)
        return self.conv_after_body(self.norm(x)[1].permute(2, 0, 1)) + triple[1]


class IART(BasicVSR):
    """The whole network; frames 1 t 3 h w in [0, 1]."""

    def __init__(
        self,
        mid: int = 64,
        features: int = 120,
        groups: int = 3,
        blocks: int = 6,
        heads: int = 6,
        side: int = 8,
        ratio: int = 2,
    ):
        super().__init__(mid, 1)
        del self.backward_trunk, self.forward_trunk, self.fusion
        self.conv_first = nn.Conv2d(3, features, 3, padding=1)
        self.implicit_warp = ImplicitWarp(features, heads)
        block = (mid, features, groups, blocks, heads, side, ratio)
        self.swin_backbone = nn.ModuleDict({name: SwinIRFM(*block) for name in BRANCHES})
        self.conv_before_upsample = nn.Conv2d(features, mid, 3, padding=1)

    def pass_over(self, net: SwinIRFM, current: list[Tensor], flows: list[Tensor]) -> list[Tensor]:
        """Outputs over frames in the branch's order; `flows` from each frame after the first."""
        outputs: list[Tensor] = []
        for i, here in enumerate(current):
            one = two = here
            if i:
                one = self.implicit_warp(outputs[-1], here, flows[i - 1])
                two = torch.zeros_like(here)
            if i > 1:
                further = flows[i - 1] + flow_warp(flows[i - 2], flows[i - 1])
                two = self.implicit_warp(outputs[-2], here, further)
            outputs.append(net(torch.cat([one, here, two]))[None])
        return outputs

    def branches(self, frames: Tensor) -> dict[str, list[Tensor]]:
        to_next, to_previous = (list(flows.unbind(1)) for flows in self.flows(frames))
        stages = {"to_next": to_next, "to_previous": to_previous}
        current = [self.conv_first(frame) for frame in frames.unbind(1)]
        for name in BRANCHES:
            net = self.swin_backbone[name]
            if name.startswith("backward"):
                current = self.pass_over(net, current[::-1], to_next[::-1])[::-1]
            else:
                current = self.pass_over(net, current, to_previous)
            stages[name] = current
        return stages

    def fused(self, stages: dict[str, list[Tensor]]) -> list[Tensor]:
        """`pre_up`: the last branch's outputs at the head's width."""
        return [self.conv_before_upsample(last) for last in stages[BRANCHES[-1]]]
