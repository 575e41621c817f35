"""RAFT in PyTorch, written from the paper, with the names of torchvision's checkpoints. Needs torch.

Arrays are channels first.
"""

import re

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def normed_conv(before: int, after: int, kernel: int, stride: int, norm: str, relu: bool = True) -> nn.Module:
    """Convolution, normalisation, ReLU, numbered as in the files."""
    layers: list[nn.Module] = [nn.Conv2d(before, after, kernel, stride, kernel // 2)]
    if norm != "none":
        layers.append(nn.BatchNorm2d(after) if norm == "batch" else nn.InstanceNorm2d(after))
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


class Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int, norm: str, bottleneck: bool):
        super().__init__()
        if bottleneck:
            self.convnormrelu1 = normed_conv(before, after // 4, 1, 1, norm)
            self.convnormrelu2 = normed_conv(after // 4, after // 4, 3, stride, norm)
            self.convnormrelu3 = normed_conv(after // 4, after, 1, 1, norm)
        else:
            self.convnormrelu1 = normed_conv(before, after, 3, stride, norm)
            self.convnormrelu2 = normed_conv(after, after, 3, 1, norm)
            self.convnormrelu3 = nn.Identity()
        same = stride == 1
        self.downsample = nn.Identity() if same else normed_conv(before, after, 1, stride, norm, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.downsample(x) + self.convnormrelu3(self.convnormrelu2(self.convnormrelu1(x))))


class Encoder(nn.Module):
    def __init__(self, widths: tuple[int, ...], norm: str, bottleneck: bool):
        super().__init__()
        self.convnormrelu = normed_conv(3, widths[0], 7, 2, norm)
        for i in (1, 2, 3):
            first = Block(widths[i - 1], widths[i], 1 if i == 1 else 2, norm, bottleneck)
            second = Block(widths[i], widths[i], 1, norm, bottleneck)
            setattr(self, f"layer{i}", nn.Sequential(first, second))
        self.conv = nn.Conv2d(widths[3], widths[4], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.layer3(self.layer2(self.layer1(self.convnormrelu(x)))))


class MotionEncoder(nn.Module):
    def __init__(self, seen: int, corr: tuple[int, ...], flow: tuple[int, int], features: int):
        super().__init__()
        self.convcorr1 = normed_conv(seen, corr[0], 1, 1, "none")
        self.convcorr2 = normed_conv(corr[0], corr[1], 3, 1, "none") if len(corr) > 1 else nn.Identity()
        self.convflow1 = normed_conv(2, flow[0], 7, 1, "none")
        self.convflow2 = normed_conv(flow[0], flow[1], 3, 1, "none")
        self.conv = normed_conv(corr[-1] + flow[1], features - 2, 3, 1, "none")

    def forward(self, flow: Tensor, seen: Tensor) -> Tensor:
        both = self.convcorr2(self.convcorr1(seen)), self.convflow2(self.convflow1(flow))
        return torch.cat([self.conv(torch.cat(both, 1)), flow], 1)


class ConvGRU(nn.Module):
    def __init__(self, hidden: int, inputs: int, kernel: tuple[int, int]):
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        for name in ("convz", "convr", "convq"):
            setattr(self, name, nn.Conv2d(hidden + inputs, hidden, kernel, padding=padding))

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        both = torch.cat([h, x], 1)
        z, r = self.convz(both).sigmoid(), self.convr(both).sigmoid()
        return (1 - z) * h + z * self.convq(torch.cat([r * h, x], 1)).tanh()


class RAFT(nn.Module):
    """Flow (b 2 h w, pixels) from `ref` to `supp`; b 3 h w in [0, 1], sides multiples of 8."""

    def __init__(self, small: bool = False):
        super().__init__()
        if small:
            self.hidden, self.radius, context, features = 96, 3, 64, 82
            self.feature_encoder = Encoder((32, 32, 64, 96, 128), "instance", True)
            self.context_encoder = Encoder((32, 32, 64, 96, 160), "none", True)
            corr, flow, kernels, head = (96,), (64, 32), ((3, 3),), 128
        else:
            self.hidden, self.radius, context, features = 128, 4, 128, 128
            self.feature_encoder = Encoder((64, 64, 96, 128, 256), "instance", False)
            self.context_encoder = Encoder((64, 64, 96, 128, 256), "batch", False)
            corr, flow, kernels, head = (256, 192), (128, 64), ((1, 5), (5, 1)), 256
        self.update_block = nn.Module()
        block = self.update_block
        block.motion_encoder = MotionEncoder(4 * (2 * self.radius + 1) ** 2, corr, flow, features)
        block.recurrent_block = nn.Module()
        for i, kernel in enumerate(kernels, start=1):
            setattr(block.recurrent_block, f"convgru{i}", ConvGRU(self.hidden, context + features, kernel))
        block.flow_head = nn.Module()
        block.flow_head.conv1 = nn.Conv2d(self.hidden, head, 3, padding=1)
        block.flow_head.conv2 = nn.Conv2d(head, 2, 3, padding=1)
        self.mask_predictor = None
        if not small:
            self.mask_predictor = nn.Module()
            self.mask_predictor.convrelu = normed_conv(128, 256, 3, 1, "none")
            self.mask_predictor.conv = nn.Conv2d(256, 576, 1)

    def look_up(self, volume: Tensor, places: Tensor) -> Tensor:
        """`volume` p 1 h w at places (b 2 h' w') and around; channels: x offset slow, y offset fast."""
        r, (b, _, rows, columns), (h, w) = self.radius, places.shape, volume.shape[-2:]
        around = torch.stack([torch.tensor([dx, dy]) for dx in range(-r, r + 1) for dy in range(-r, r + 1)])
        at = places.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2) + around.to(places)
        grid = at * 2 / torch.tensor([w - 1, h - 1]).to(at) - 1
        found = F.grid_sample(volume, grid, padding_mode="zeros", align_corners=True)
        return found.view(b, rows, columns, -1).permute(0, 3, 1, 2)

    def stages(self, ref: Tensor, supp: Tensor, updates: int = 12) -> dict[str, Tensor]:
        a, b = self.feature_encoder(2 * torch.cat([ref, supp]) - 1).chunk(2)
        scores = torch.einsum("nchw,ncij->nhwij", a, b) / a.shape[1] ** 0.5
        pyramid = [scores.flatten(0, 2)[:, None]]
        for _ in range(3):
            pyramid.append(F.avg_pool2d(pyramid[-1], 2))
        state = self.context_encoder(2 * ref - 1)
        h, context = state[:, : self.hidden].tanh(), state[:, self.hidden :].relu()
        rows, columns = torch.meshgrid(*map(torch.arange, a.shape[-2:]), indexing="ij")
        own = torch.stack([columns, rows]).to(a)[None]
        flow = torch.zeros_like(own.expand(len(a), -1, -1, -1))
        block = self.update_block
        for _ in range(updates):
            levels = [self.look_up(level, (own + flow) / 2**i) for i, level in enumerate(pyramid)]
            x = torch.cat([context, block.motion_encoder(flow, torch.cat(levels, 1))], 1)
            for unit in block.recurrent_block.children():
                h = unit(h, x)
            flow = flow + block.flow_head.conv2(block.flow_head.conv1(h).relu())
        return {"features": a, "context": state, "coarse": flow, "flow": self.upsampled(flow, h)}

    def upsampled(self, flow: Tensor, h: Tensor) -> Tensor:
        b, _, rows, columns = flow.shape
        if self.mask_predictor is None:
            size = (8 * rows, 8 * columns)
            return 8 * F.interpolate(flow, size=size, mode="bilinear", align_corners=True)
        mask = 0.25 * self.mask_predictor.conv(self.mask_predictor.convrelu(h))
        mask = mask.view(b, 1, 9, 8, 8, rows, columns).softmax(2)
        near = F.unfold(8 * flow, 3, padding=1).view(b, 2, 9, 1, 1, rows, columns)
        fine = (mask * near).sum(2).permute(0, 1, 4, 2, 5, 3)
        return fine.reshape(b, 2, 8 * rows, 8 * columns)


_ORIGINAL = (
    (r"^feature_encoder", "fnet"),
    (r"^context_encoder", "cnet"),
    (r"^(.net)\.conv\.", r"\1.conv2."),
    (r"^(.net)\.convnormrelu\.0", r"\1.conv1"),
    (r"^(.net)\.convnormrelu\.1", r"\1.norm1"),
    (r"convnormrelu(\d)\.0", r"conv\1"),
    (r"convnormrelu(\d)\.1", r"norm\1"),
    (r"motion_encoder", "encoder"),
    (r"convcorr(\d)\.0", r"convc\1"),
    (r"convflow(\d)\.0", r"convf\1"),
    (r"encoder\.conv\.0", "encoder.conv"),
    (r"recurrent_block\.convgru(\d)\.conv(.)", r"gru.conv\2\1"),
    (r"mask_predictor\.convrelu\.0", "update_block.mask.0"),
    (r"mask_predictor\.conv\.", "update_block.mask.2."),
)


def original(state: dict[str, Tensor], small: bool) -> dict[str, Tensor]:
    """A state dict in the names of the original repository, with its copies."""
    renamed = {}
    for name, array in state.items():
        for pattern, replacement in _ORIGINAL:
            name = re.sub(pattern, replacement, name)
        if small:
            name = re.sub(r"gru\.conv(.)1", r"gru.conv\1", name)
        renamed[f"module.{name}"] = array
        if "downsample.1" in name:
            renamed["module." + name.replace("downsample.1", "norm3")] = array
    return renamed
