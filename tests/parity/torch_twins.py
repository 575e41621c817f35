"""SPyNet and BasicVSR in PyTorch, written from the papers: what the JAX networks are compared with.

Module names are those of the published checkpoints in BasicSR's naming, so that these load strictly. Arrays
are channels first. Needs torch.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def flow_warp(x: Tensor, flow: Tensor, padding: str = "zeros") -> Tensor:
    """Bilinear samples of `x` (b c h w) at each pixel's place plus `flow` (b 2 h w; x, y in pixels)."""
    h, w = x.shape[-2:]
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    places = torch.stack([xs, ys]).to(flow) + flow
    sides = torch.tensor([max(w - 1, 1), max(h - 1, 1)]).to(flow)
    grid = places.permute(0, 2, 3, 1) * 2 / sides - 1
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=True)


class Level(nn.Module):
    """One level's correction of the flow."""

    def __init__(self):
        super().__init__()
        widths = (8, 32, 64, 32, 16, 2)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 7, padding=3), nn.ReLU()]
        self.basic_module = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.basic_module(x)


class SPyNet(nn.Module):
    """Flow (b 2 h w, pixels) for which `flow_warp(supp, flow)` resembles `ref`; images b 3 h w in [0, 1]."""

    def __init__(self):
        super().__init__()
        self.basic_module = nn.ModuleList(Level() for _ in range(6))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[None, :, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[None, :, None, None])

    def pyramid(self, x: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """The normalised image at `size` and at five halvings of it, coarsest first."""
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        levels = [(x - self.mean) / self.std]
        for _ in self.basic_module[1:]:
            levels.insert(0, F.avg_pool2d(levels[0], 2))
        return levels

    def forward(self, ref: Tensor, supp: Tensor) -> Tensor:
        h, w = ref.shape[-2:]
        size = (-(-h // 32) * 32, -(-w // 32) * 32)
        flow = ref.new_zeros(len(ref), 2, size[0] // 32, size[1] // 32)
        pyramids = zip(self.pyramid(ref, size), self.pyramid(supp, size), strict=True)
        for level, (here, there) in zip(self.basic_module, pyramids, strict=True):
            if here.shape[-2:] != flow.shape[-2:]:
                flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            flow = flow + level(torch.cat([here, flow_warp(there, flow, "border"), flow], 1))
        scale = torch.tensor([w / size[1], h / size[0]]).to(flow)[:, None, None]
        return F.interpolate(flow, size=(h, w), mode="bilinear", align_corners=False) * scale


class Block(nn.Module):
    """A residual block without normalisation."""

    def __init__(self, features: int):
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class Trunk(nn.Module):
    """A convolution and residual blocks."""

    def __init__(self, before: int, features: int, blocks: int):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(before, features, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Sequential(*(Block(features) for _ in range(blocks))),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


class BasicVSR(nn.Module):
    """The whole bidirectional pass; frames b t 3 h w in [0, 1] to b t 3 4h 4w, not clamped."""

    def __init__(self, features: int = 64, blocks: int = 30):
        super().__init__()
        self.features = features
        self.spynet = SPyNet()
        self.backward_trunk = Trunk(features + 3, features, blocks)
        self.forward_trunk = Trunk(features + 3, features, blocks)
        self.fusion = nn.Conv2d(2 * features, features, 1)
        self.upconv1 = nn.Conv2d(features, 4 * features, 3, padding=1)
        self.upconv2 = nn.Conv2d(features, 4 * 64, 3, padding=1)
        self.conv_hr = nn.Conv2d(64, 64, 3, padding=1)
        self.conv_last = nn.Conv2d(64, 3, 3, padding=1)

    def flows(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Flow of each frame but the last to the next, and of each but the first to the one before."""
        b, t, _, h, w = frames.shape
        here, there = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
        shape = (b, t - 1, 2, h, w)
        if t == 1:
            return frames.new_zeros(shape), frames.new_zeros(shape)
        return self.spynet(here, there).view(shape), self.spynet(there, here).view(shape)

    def branch(self, trunk: Trunk, frames: list[Tensor], flows: list[Tensor]) -> list[Tensor]:
        """Outputs of one pass over frames in its order; `flows` from each frame after the first."""
        b, _, h, w = frames[0].shape
        propagated = frames[0].new_zeros(b, self.features, h, w)
        outputs = []
        for i, frame in enumerate(frames):
            if i:
                propagated = flow_warp(propagated, flows[i - 1])
            propagated = trunk(torch.cat([frame, propagated], 1))
            outputs.append(propagated)
        return outputs

    def fused(self, stages: dict[str, list[Tensor]]) -> list[Tensor]:
        """All frames' LR features, from `branches`."""
        both = zip(stages["backward"], stages["forward"], strict=True)
        return [F.leaky_relu(self.fusion(torch.cat(each, 1)), 0.1) for each in both]

    def upscale(self, fused: Tensor) -> Tensor:
        """`hr_pre`, a frame's 64 HR features."""
        x = F.leaky_relu(F.pixel_shuffle(self.upconv1(fused), 2), 0.1)
        return F.leaky_relu(F.pixel_shuffle(self.upconv2(x), 2), 0.1)

    def decode(self, hr_pre: Tensor, frame: Tensor) -> Tensor:
        """A frame's image."""
        base = F.interpolate(frame, scale_factor=4, mode="bilinear", align_corners=False)
        return self.conv_last(F.leaky_relu(self.conv_hr(hr_pre), 0.1)) + base

    def branches(self, frames: Tensor) -> dict[str, list[Tensor]]:
        """Flows (one fewer than frames) and the outputs of both passes, over time."""
        each = list(frames.unbind(1))
        to_next, to_previous = (list(flows.unbind(1)) for flows in self.flows(frames))
        backward = self.branch(self.backward_trunk, each[::-1], to_next[::-1])[::-1]
        forward = self.branch(self.forward_trunk, each, to_previous)
        return {"to_next": to_next, "to_previous": to_previous, "backward": backward, "forward": forward}

    def stages(self, frames: Tensor) -> dict[str, list[Tensor]]:
        """Everything between frames and output, and the output, as lists over time."""
        stages = self.branches(frames)
        stages["fused"] = self.fused(stages)
        stages["hr_pre"] = [self.upscale(fused) for fused in stages["fused"]]
        pairs = zip(stages["hr_pre"], frames.unbind(1), strict=True)
        return stages | {"output": [self.decode(*pair) for pair in pairs]}

    def forward(self, frames: Tensor) -> Tensor:
        # HR features of one frame at a time.
        each = zip(self.fused(self.branches(frames)), frames.unbind(1), strict=True)
        return torch.stack([self.decode(self.upscale(fused), frame) for fused, frame in each], 1)
