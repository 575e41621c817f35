"""GMFlow with refinement in PyTorch, written from the paper: what the JAX network is compared with.

Module names are those of the published checkpoint, so that it loads strictly. Maps are channels first. Needs
torch.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.parity.torch_twins import flow_warp

CHANNELS = 128


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions plus a shortcut."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.downsample = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride), nn.InstanceNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(F.instance_norm(self.conv1(x)))
        y = F.relu(F.instance_norm(self.conv2(y)))
        return F.relu((x if self.downsample is None else self.downsample(x)) + y)


class Shared(nn.Module):
    """One 3x3 kernel at stride 1 and at stride 2."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(CHANNELS, CHANNELS, 3, 3))
        nn.init.kaiming_uniform_(self.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return F.conv2d(x, self.weight, padding=1), F.conv2d(x, self.weight, padding=1, stride=2)


class Encoder(nn.Module):
    """From normalised images to features at 1/4 and at 1/8 of their size."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.layer1 = nn.Sequential(ResidualBlock(64, 64, 1), ResidualBlock(64, 64, 1))
        self.layer2 = nn.Sequential(ResidualBlock(64, 96, 2), ResidualBlock(96, 96, 1))
        self.layer3 = nn.Sequential(ResidualBlock(96, CHANNELS, 1), ResidualBlock(CHANNELS, CHANNELS, 1))
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.trident_conv = Shared()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(F.instance_norm(self.conv1(x)))
        return self.trident_conv(self.conv2(self.layer3(self.layer2(self.layer1(x)))))


def windows_of(x: Tensor, window: tuple[int, int]) -> Tensor:
    """Windows of a map b h w c, as tokens: n t c."""
    b, h, w, c = x.shape
    rows, columns = window
    x = x.view(b, h // rows, rows, w // columns, columns, c).transpose(2, 3)
    return x.reshape(-1, rows * columns, c)


def map_of(x: Tensor, window: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The inverse of `windows_of` for maps of `size`."""
    (rows, columns), (h, w) = window, size
    x = x.view(-1, h // rows, w // columns, rows, columns, x.shape[-1]).transpose(2, 3)
    return x.reshape(-1, h, w, x.shape[-1])


def shift_mask(size: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """0 for tokens that are neighbours in the map before it was rolled by half a window, else -100: n t t."""
    regions = torch.zeros(1, *size, 1)
    for axis, (n, side) in enumerate(zip(size, window, strict=True), start=1):
        numbers = torch.zeros(n)
        numbers[n - side : n - side // 2], numbers[n - side // 2 :] = 1, 2
        regions += numbers.view([-1 if i == axis else 1 for i in range(4)]) * 3 ** (axis - 1)
    tokens = windows_of(regions, window)
    return torch.where(tokens == tokens.transpose(1, 2), 0.0, -100.0)


class Attention(nn.Module):
    """Single-head attention in windows, with an MLP if `ffn`."""

    def __init__(self, ffn: bool):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.merge = (
            nn.Linear(CHANNELS, CHANNELS, bias=False) for _ in range(4)
        )
        self.norm1 = nn.LayerNorm(CHANNELS)
        if ffn:
            hidden = nn.Linear(2 * CHANNELS, 8 * CHANNELS, bias=False)
            self.mlp = nn.Sequential(hidden, nn.GELU(), nn.Linear(8 * CHANNELS, CHANNELS, bias=False))
            self.norm2 = nn.LayerNorm(CHANNELS)

    def forward(self, source: Tensor, target: Tensor, mask: Tensor | float) -> Tensor:
        query, key, value = self.q_proj(source), self.k_proj(target), self.v_proj(target)
        scores = query @ key.transpose(1, 2) / math.sqrt(CHANNELS) + mask
        message = self.norm1(self.merge(scores.softmax(-1) @ value))
        if hasattr(self, "mlp"):
            message = self.norm2(self.mlp(torch.cat([source, message], -1)))
        return source + message


class Block(nn.Module):
    """Attention to the image's own window, then to the other image's."""

    def __init__(self):
        super().__init__()
        self.self_attn, self.cross_attn_ffn = Attention(False), Attention(True)

    def forward(self, source: Tensor, target: Tensor, mask: Tensor | float) -> Tensor:
        return self.cross_attn_ffn(self.self_attn(source, source, mask), target, mask)


class Transformer(nn.Module):
    """Six blocks; the map is rolled by half a window in every other one."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(6))

    def forward(self, x: Tensor, window: tuple[int, int]) -> Tensor:
        """Maps b c h w, whose two halves attend to each other."""
        x, size = x.permute(0, 2, 3, 1), (x.shape[2], x.shape[3])
        shift = (window[0] // 2, window[1] // 2)
        mask = shift_mask(size, window).repeat(len(x), 1, 1)
        for number, block in enumerate(self.layers):
            rolled = number % 2 == 1
            x = torch.roll(x, (-shift[0], -shift[1]), (1, 2)) if rolled else x
            tokens = windows_of(x, window)
            other = torch.roll(tokens, len(tokens) // 2, 0)
            x = map_of(block(tokens, other, mask if rolled else 0.0), window, size)
            x = torch.roll(x, shift, (1, 2)) if rolled else x
        return x.permute(0, 3, 1, 2)


def add_position(x: Tensor, window: tuple[int, int]) -> Tensor:
    """The maps plus sines and cosines of each place in its window: half of the channels for y, half for x."""
    half = CHANNELS // 2
    number = torch.arange(half)
    wavelength = 10000.0 ** (2 * (number // 2) / half)
    codes = []
    for side in window:
        place = torch.arange(1, side + 1) / (side + 1e-6) * (2 * math.pi)
        angle = place[:, None] / wavelength
        codes.append(torch.where(number % 2 == 0, angle.sin(), angle.cos()))
    y, x_code = codes[0][:, None].expand(-1, window[1], -1), codes[1][None].expand(window[0], -1, -1)
    code = torch.cat([y, x_code], -1).permute(2, 0, 1)
    return x + code.repeat(1, x.shape[2] // window[0], x.shape[3] // window[1])


def grid(h: int, w: int) -> Tensor:
    """(x, y) of each pixel: h w 2."""
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return torch.stack([xs, ys], -1).float()


def neighbours(x: Tensor, radius: int) -> Tensor:
    """Each pixel's neighbourhood, 0 outside the map: b c k h w."""
    side = 2 * radius + 1
    return F.unfold(x, side, padding=radius).unflatten(1, (x.shape[1], side * side)).unflatten(3, x.shape[2:])


def local_scores(a: Tensor, b: Tensor, radius: int) -> Tensor:
    """Similarity of each pixel of `a` and its neighbourhood in `b`: b k h w."""
    h, w = a.shape[2:]
    padded, side = F.pad(b, (radius,) * 4), range(2 * radius + 1)
    scores = [(a * padded[:, :, y : y + h, x : x + w]).sum(1) for y in side for x in side]
    return torch.stack(scores, 1) / math.sqrt(CHANNELS)


class FlowAttention(nn.Module):
    """Spreads flow to pixels of similar features."""

    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(CHANNELS, CHANNELS), nn.Linear(CHANNELS, CHANNELS)

    def forward(self, features: Tensor, flow: Tensor, local: bool) -> Tensor:
        tokens = features.permute(0, 2, 3, 1)
        query = self.q_proj(tokens)
        if local:
            key = self.k_proj(tokens)
            scores = local_scores(query.permute(0, 3, 1, 2), key.permute(0, 3, 1, 2), 1)
            return (neighbours(flow, 1) * scores.softmax(1)[:, None]).sum(2)
        # As the published weights were trained.
        query, key = query.flatten(1, 2), self.k_proj(query).flatten(1, 2)
        weights = (query @ key.transpose(1, 2) / math.sqrt(CHANNELS)).softmax(-1)
        return (weights @ flow.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(flow.shape)


class GMFlow(nn.Module):
    """Flows (b 2 h w, pixels) between images b 3 h w in [0, 1], whose sides are multiples of 32."""

    def __init__(self):
        super().__init__()
        self.backbone, self.transformer, self.feature_flow_attn = Encoder(), Transformer(), FlowAttention()
        self.upsampler = nn.Sequential(
            nn.Conv2d(2 + CHANNELS, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 144, 1)
        )

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Flow from `a` to `b`, and from `b` to `a`."""
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        fine, coarse = self.backbone((torch.cat([a, b]) - mean) / std)
        h, w = coarse.shape[2:]
        window = h // 2, w // 2
        coarse = self.transformer(add_position(coarse, window), window)
        flow = self.feature_flow_attn(coarse, self.match_all(*coarse.chunk(2)), local=False)

        h, w = fine.shape[2:]
        flow = 2 * F.interpolate(flow, size=(h, w), mode="bilinear", align_corners=True)
        other = flow_warp(torch.roll(fine, len(a), 0), flow)
        window = h // 8, w // 8
        fine, other = self.transformer(add_position(torch.cat([fine, other]), window), window).chunk(2)
        flow = self.feature_flow_attn(fine, flow + self.match_near(fine, other), local=True)

        weights = self.upsampler(torch.cat([flow, fine], 1)).unflatten(1, (9, 4, 4)).softmax(1)
        near = neighbours(4 * flow, 1)[:, :, :, None, None]
        large = (near * weights[:, None]).sum(2).permute(0, 1, 4, 2, 5, 3)
        forward, backward = large.reshape(len(flow), 2, 4 * h, 4 * w).chunk(2)
        return forward, backward

    @staticmethod
    def match_all(a: Tensor, b: Tensor) -> Tensor:
        """Flow at the places that are most alike, anywhere; both directions in one batch."""
        h, w = a.shape[2:]
        scores = a.flatten(2).transpose(1, 2) @ b.flatten(2) / math.sqrt(CHANNELS)
        places = grid(h, w).view(-1, 2)
        found = torch.cat([scores.softmax(2) @ places, scores.transpose(1, 2).softmax(2) @ places])
        return (found - places).transpose(1, 2).unflatten(2, (h, w))

    @staticmethod
    def match_near(a: Tensor, b: Tensor, radius: int = 4) -> Tensor:
        """The same within some pixels, and only inside the map."""
        inside = neighbours(torch.ones_like(a[:1, :1]), radius)[:, 0] > 0.5
        weights = local_scores(a, b, radius).masked_fill(~inside, -1e9).softmax(1)
        offsets = (grid(2 * radius + 1, 2 * radius + 1) - radius).view(-1, 2)
        return torch.einsum("bkhw,kd->bdhw", weights, offsets)
