"""BasicVSR++ and its deformable convolution in PyTorch, written from the paper, for comparison.

Module names are those of the published checkpoints, the upsampling's in BasicSR's naming. Arrays are channels
first. Needs torch.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.parity.torch_twins import SPyNet, Trunk, flow_warp


def deform_conv(
    x: Tensor, offsets: Tensor, mask: Tensor, kernel: Tensor, stride=1, padding=0, dilation=1, groups=1
) -> Tensor:
    """Modulated deformable convolution; offset channels (deformable group, tap, (y, x))."""
    b, _, h, w = x.shape
    kh, kw = kernel.shape[2:]
    rows, columns = mask.shape[2:]
    g = mask.shape[1] // (kh * kw)
    offsets = offsets.view(b, g, kh * kw, 2, rows, columns)
    mask = mask.view(b * g, kh * kw, 1, rows, columns)
    by_group = x.reshape(b * g, -1, h, w)
    ys, xs = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    seen = []
    for k in range(kh * kw):
        y = ys.to(x) * stride - padding + k // kw * dilation + offsets[:, :, k, 0]
        x_ = xs.to(x) * stride - padding + k % kw * dilation + offsets[:, :, k, 1]
        grid = torch.stack([x_ * 2 / max(w - 1, 1) - 1, y * 2 / max(h - 1, 1) - 1], -1).flatten(0, 1)
        sampled = F.grid_sample(by_group, grid, padding_mode="zeros", align_corners=True)
        seen.append((sampled * mask[:, k]).reshape(b, groups, -1, rows * columns))
    # b n (c k) p against n o (c k).
    columns_ = torch.stack(seen, 3).flatten(2, 3)
    weights = kernel.reshape(groups, kernel.shape[0] // groups, -1)
    return torch.einsum("bnip,noi->bnop", columns_, weights).reshape(b, -1, rows, columns)


class DeformAlign(nn.Module):
    """Features of two frames (2c), brought to a third along flows that a small network corrects."""

    def __init__(self, features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features, 2 * features, 3, 3) / (18 * features) ** 0.5)
        self.bias = nn.Parameter(0.1 * torch.randn(features))
        layers: list[nn.Module] = [nn.Conv2d(3 * features + 4, features, 3, padding=1)]
        for outer in (features, features, 27 * 16):
            layers += [nn.LeakyReLU(0.1), nn.Conv2d(features, outer, 3, padding=1)]
        self.conv_offset = nn.Sequential(*layers)

    def forward(self, x: Tensor, condition: Tensor, first: Tensor, second: Tensor) -> Tensor:
        ways_1, ways_2, mask = self.conv_offset(torch.cat([condition, first, second], 1)).chunk(3, 1)
        places = [
            10 * torch.tanh(ways) + flow.flip(1).repeat(1, ways.shape[1] // 2, 1, 1)
            for ways, flow in ((ways_1, first), (ways_2, second))
        ]
        aligned = deform_conv(x, torch.cat(places, 1), torch.sigmoid(mask), self.weight, padding=1)
        return aligned + self.bias[:, None, None]


class BasicVSRPlusPlus(nn.Module):
    """The whole pass; frames b t 3 h w in [0, 1] to x4, or to the same size; not clamped."""

    NAMES = ("backward_1", "forward_1", "backward_2", "forward_2")

    def __init__(self, features: int = 64, blocks: int = 7, same_size: bool = False):
        super().__init__()
        c = self.features = features
        self.same_size = same_size
        self.spynet = SPyNet()
        if same_size:
            self.feat_extract = nn.Sequential(
                nn.Conv2d(3, c, 3, stride=2, padding=1),
                nn.LeakyReLU(0.1),
                nn.Conv2d(c, c, 3, stride=2, padding=1),
                nn.LeakyReLU(0.1),
                Trunk(c, c, 5),
            )
        else:
            self.feat_extract = Trunk(3, c, 5)
        self.deform_align = nn.ModuleDict({name: DeformAlign(c) for name in self.NAMES})
        self.backbone = nn.ModuleDict(
            {name: Trunk((2 + i) * c, c, blocks) for i, name in enumerate(self.NAMES)}
        )
        self.reconstruction = Trunk(5 * c, c, 5)
        self.upconv1 = nn.Conv2d(c, 4 * c, 3, padding=1)
        self.upconv2 = nn.Conv2d(c, 4 * 64, 3, padding=1)
        self.conv_hr = nn.Conv2d(64, 64, 3, padding=1)
        self.conv_last = nn.Conv2d(64, 3, 3, padding=1)

    def flows(self, frames: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Flow of each frame but the last to the next, and of each but the first to the one before."""
        each = list(frames.unbind(1))
        if self.same_size:
            each = [F.interpolate(frame, scale_factor=0.25, mode="bicubic") for frame in each]
        pairs = list(pairwise(each))
        return [self.spynet(a, b) for a, b in pairs], [self.spynet(b, a) for a, b in pairs]

    def branch(self, name: str, known: list[list[Tensor]], flows: list[Tensor]) -> list[Tensor]:
        """Outputs of one pass over frames in its order; `flows` from each frame after the first."""
        outputs: list[Tensor] = []
        for i, here in enumerate(known):
            aligned = torch.zeros_like(here[0])
            if i:
                last, first = outputs[i - 1], flows[i - 1]
                before, second = torch.zeros_like(last), torch.zeros_like(first)
                if i > 1:
                    before, second = outputs[i - 2], first + flow_warp(flows[i - 2], first)
                condition = torch.cat([flow_warp(last, first), here[0], flow_warp(before, second)], 1)
                aligned = self.deform_align[name](torch.cat([last, before], 1), condition, first, second)
            outputs.append(aligned + self.backbone[name](torch.cat([*here, aligned], 1)))
        return outputs

    def propagate(self, frames: Tensor) -> tuple[dict[str, list[Tensor]], list[list[Tensor]]]:
        """Flows and branches over time, and everything that is known of each frame then."""
        to_next, to_previous = self.flows(frames)
        stages = {"to_next": to_next, "to_previous": to_previous}
        known = [[self.feat_extract(frame)] for frame in frames.unbind(1)]
        for name in self.NAMES:
            if name.startswith("backward"):
                stages[name] = self.branch(name, known[::-1], to_next[::-1])[::-1]
            else:
                stages[name] = self.branch(name, known, to_previous)
            known = [[*here, out] for here, out in zip(known, stages[name], strict=True)]
        return stages, known

    def upscale(self, recon: Tensor) -> Tensor:
        """`hr_pre`, a frame's 64 HR features."""
        x = F.leaky_relu(F.pixel_shuffle(self.upconv1(recon), 2), 0.1)
        return F.leaky_relu(F.pixel_shuffle(self.upconv2(x), 2), 0.1)

    def decode(self, hr_pre: Tensor, frame: Tensor) -> Tensor:
        """A frame's image."""
        if not self.same_size:
            frame = F.interpolate(frame, scale_factor=4, mode="bilinear", align_corners=False)
        return self.conv_last(F.leaky_relu(self.conv_hr(hr_pre), 0.1)) + frame

    def stages(self, frames: Tensor) -> dict[str, list[Tensor]]:
        """Everything between frames and output, and the output, as lists over time."""
        stages, known = self.propagate(frames)
        stages["recon"] = [self.reconstruction(torch.cat(here, 1)) for here in known]
        stages["hr_pre"] = [self.upscale(recon) for recon in stages["recon"]]
        pairs = zip(stages["hr_pre"], frames.unbind(1), strict=True)
        return stages | {"output": [self.decode(*pair) for pair in pairs]}

    def forward(self, frames: Tensor) -> Tensor:
        _, known = self.propagate(frames)
        # HR features of one frame at a time.
        each = zip(known, frames.unbind(1), strict=True)
        images = [
            self.decode(self.upscale(self.reconstruction(torch.cat(here, 1))), frame) for here, frame in each
        ]
        return torch.stack(images, 1)
