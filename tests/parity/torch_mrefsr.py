"""MRefSR's three networks in PyTorch, written from the paper: what the JAX networks are compared with.

Module names are those of the checkpoints, so that these load strictly. Arrays are channels first. Needs
torch.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.parity.torch_basicvsr_pp import deform_conv
from tests.parity.torch_twins import Block

CONVS = {"conv1_1": (3, 64), "conv1_2": (64, 64), "conv2_1": (64, 128), "conv2_2": (128, 128)}
CONVS["conv3_1"] = (128, 256)
LEVELS = (("small", 256, "relu3_1", 1), ("medium", 128, "relu2_1", 2), ("large", 64, "relu1_1", 4))


def lrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)


def conv(before: int, after: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, padding=kernel // 2)


class Normalised(nn.Module):
    """VGG's first five convolutions on RGB in [0, 1]; the submodule that holds them is called `inner`."""

    def __init__(self, inner: str):
        super().__init__()
        self.inner = inner
        setattr(self, inner, nn.ModuleDict({name: conv(*widths) for name, widths in CONVS.items()}))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[None, :, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[None, :, None, None])

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        layers = getattr(self, self.inner)
        seen, x = {}, (image - self.mean) / self.std
        for name in CONVS:
            if name in ("conv2_1", "conv3_1"):
                x = F.max_pool2d(x, 2)
            x = layers[name](x)
            seen[name], x = x, F.relu(x)
            seen[name.replace("conv", "relu")] = x
        return seen


class Extractor(nn.Module):
    """Features for matching, of the upscaled input and of a reference."""

    def __init__(self):
        super().__init__()
        self.feature_extraction_image1 = Normalised("model")
        self.feature_extraction_image2 = Normalised("model")

    def forward(self, image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        first = self.feature_extraction_image1(image)["conv3_1"]
        return first, self.feature_extraction_image2(reference)["conv3_1"]


class Map(nn.Module):
    """Features of references."""

    def __init__(self):
        super().__init__()
        self.vgg = Normalised("vgg_net")

    def forward(self, reference: Tensor) -> dict[str, Tensor]:
        return self.vgg(reference)


def match(features: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """All patches of c h w maps against all: the place of the best (h-2 w-2, row by row), all scores."""
    unit = [F.normalize(x, dim=0) for x in (features, other)]
    patches = F.unfold(unit[1][None], 3)[0]
    patches = patches / (patches.norm(dim=0) + 1e-5)
    scores = F.unfold(unit[0][None], 3)[0].T @ patches
    return scores.argmax(1).view(features.shape[1] - 2, features.shape[2] - 2), scores


def pre_offsets(place: Tensor, step: int) -> Tensor:
    """Nine shifted copies of the matches' offsets, `9 h w 2`, each (x, y), at a multiple of the size."""
    h, w = place.shape
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    offsets = torch.stack([place % w - xs, place // w - ys], -1).float()
    offsets = F.pad(offsets, (0, 0, 0, 2, 0, 2))
    offsets = step * offsets.repeat_interleave(step, 0).repeat_interleave(step, 1)
    copies = []
    for i in range(3):
        for j in range(3):
            shifted = torch.zeros_like(offsets)
            rows, columns = offsets.shape[0] - i * step, offsets.shape[1] - j * step
            shifted[i * step :, j * step :] = offsets[:rows, :columns]
            copies.append(shifted)
    return torch.stack(copies)


class DynAgg(nn.Module):
    """Deformable convolution whose offsets begin at the matches."""

    def __init__(self, channels: int, groups: int = 8):
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.randn(channels, channels, 3, 3) / (9 * channels) ** 0.5)
        self.bias = nn.Parameter(0.1 * torch.randn(channels))
        self.conv_offset_mask = conv(channels, 27 * groups)

    def forward(self, reference: Tensor, condition: Tensor, start: Tensor) -> Tensor:
        """`start` b 9 h w 2."""
        first, second, mask = self.conv_offset_mask(condition).chunk(3, 1)
        start = start.flip(-1).permute(0, 1, 4, 2, 3).flatten(1, 2).repeat(1, self.groups, 1, 1)
        offsets = torch.cat([first, second], 1) + start
        aligned = deform_conv(reference, offsets, torch.sigmoid(mask), self.weight, padding=1)
        return aligned + self.bias[:, None, None]


class Fusion(nn.Module):
    """Attention to references at every pixel."""

    def __init__(self, features: int, channels: int):
        super().__init__()
        c = channels
        self.conv_emb1 = nn.Sequential(conv(features, c, 1), nn.PReLU())
        self.conv_emb2 = nn.Sequential(conv(c, c), nn.PReLU())
        self.conv_ass = conv(c, 2 * c)
        self.feat_fusion = conv(features + 2 * c, features, 1)
        self.spatial_attn = conv(features + 2 * c, 2 * c, 1)
        for name in ("mul1", "mul2", "add1", "add2"):
            setattr(self, f"spatial_attn_{name}", conv(2 * c, 2 * c))

    def forward(self, x: Tensor, references: list[Tensor]) -> Tensor:
        h, w = x.shape[2:]
        pad = lambda y: F.pad(y, (0, -w % 4, 0, -h % 4), mode="reflect")  # noqa: E731
        x, references = pad(x), [pad(y) for y in references]
        query = self.conv_emb1(x) * references[0].shape[1] ** -0.5
        scores = torch.stack([(query * self.conv_emb2(y)).sum(1) for y in references])
        values = torch.stack([self.conv_ass(y) for y in references])
        seen = (scores.softmax(0)[:, :, None] * values).sum(0)
        attn = lrelu(self.spatial_attn(torch.cat([x, seen], 1)))
        factor = torch.sigmoid(self.spatial_attn_mul2(lrelu(self.spatial_attn_mul1(attn))))
        seen = seen * factor * 2 + self.spatial_attn_add2(lrelu(self.spatial_attn_add1(attn)))
        return lrelu(self.feat_fusion(torch.cat([x, seen], 1)))[:, :, :h, :w]


class Content(nn.Module):
    def __init__(self, features: int, blocks: int):
        super().__init__()
        self.conv_first = conv(3, features)
        self.body = nn.Sequential(*(Block(features) for _ in range(blocks)))

    def forward(self, image: Tensor) -> Tensor:
        return self.body(lrelu(self.conv_first(image)))


class Restore(nn.Module):
    """The three levels."""

    def __init__(self, features: int, blocks: int):
        super().__init__()
        for name, channels, _, _ in LEVELS:
            setattr(self, f"{name}_offset_conv1", conv(features + channels, channels))
            setattr(self, f"{name}_offset_conv2", conv(channels, channels))
            setattr(self, f"{name}_dyn_agg", DynAgg(channels))
            setattr(self, f"head_{name}", Fusion(features, channels))
            setattr(self, f"body_{name}", nn.Sequential(*(Block(features) for _ in range(blocks))))
            tail: list[nn.Module] = [conv(features, 4 * features), nn.PixelShuffle(2), nn.LeakyReLU(0.1)]
            if name == "large":
                tail = [conv(features, features // 2), nn.LeakyReLU(0.1), conv(features // 2, 3)]
            setattr(self, f"tail_{name}", nn.Sequential(*tail))

    def aggregate(self, name: str, x: Tensor, reference: Tensor, start: Tensor) -> Tensor:
        part = lambda kind: getattr(self, f"{name}_{kind}")  # noqa: E731
        y = lrelu(part("offset_conv1")(torch.cat([x, reference], 1)))
        return lrelu(part("dyn_agg")(reference, lrelu(part("offset_conv2")(y)), start))


class MRefSR(nn.Module):
    """The restoration network."""

    def __init__(self, features: int = 64, blocks: int = 16):
        super().__init__()
        self.content_extractor = Content(features, blocks)
        self.dyn_agg_restore = Restore(features, blocks)

    def stages(
        self, image: Tensor, references: list[dict[str, Tensor]], places: list[Tensor]
    ) -> dict[str, Tensor]:
        """Everything up to the image x4; one image, references' features, and their matches' places."""
        net = self.dyn_agg_restore
        x = self.content_extractor(image)
        seen = {"content": x}
        for name, _, layer, step in LEVELS:
            starts = [pre_offsets(place, step)[None] for place in places]
            pairs = zip(references, starts, strict=True)
            aligned = [net.aggregate(name, x, maps[layer], start) for maps, start in pairs]
            seen[f"{name} aligned"] = torch.cat(aligned)
            fused = getattr(net, f"head_{name}")(x, aligned)
            seen[f"{name} fused"] = fused
            x = getattr(net, f"tail_{name}")(getattr(net, f"body_{name}")(fused) + x)
            seen[name] = x
        base = F.interpolate(image, scale_factor=4, mode="bilinear", align_corners=False)
        return seen | {"output": x + base}
