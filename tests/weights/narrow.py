"""Narrow networks with random weights, as their checkpoints name them."""

import re

import numpy as np

MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)
WIDTH, BLOCKS = 8, 2
IART = {
    "mid_channels": 8,
    "embed_dim": 24,
    "groups": 2,
    "blocks": 2,
    "heads": 2,
    "window": 4,
    "mlp_ratio": 2,
}


def spynet_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """SPyNet (it has one size only) in BasicSR's names."""
    rng = np.random.default_rng(seed)
    arrays = {"mean": MEAN, "std": STD}
    for level in range(6):
        for index, (inner, outer) in enumerate(((8, 32), (32, 64), (64, 32), (32, 16), (16, 2))):
            _conv(arrays, rng, f"basic_module.{level}.basic_module.{2 * index}", inner, outer, 7)
    return arrays


def basicvsr_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """BasicVSR of 8 channels and 2 blocks in BasicSR's names."""
    rng = np.random.default_rng(seed)
    arrays = {f"spynet.{name}": array for name, array in spynet_arrays(seed).items()}
    for trunk in ("backward_trunk", "forward_trunk"):
        _conv(arrays, rng, f"{trunk}.main.0", WIDTH + 3, WIDTH, 3)
        for block in range(BLOCKS):
            _conv(arrays, rng, f"{trunk}.main.2.{block}.conv1", WIDTH, WIDTH, 3)
            _conv(arrays, rng, f"{trunk}.main.2.{block}.conv2", WIDTH, WIDTH, 3)
    _conv(arrays, rng, "fusion", 2 * WIDTH, WIDTH, 1)
    _conv(arrays, rng, "upconv1", WIDTH, 4 * WIDTH, 3)
    _conv(arrays, rng, "upconv2", WIDTH, 256, 3)
    _conv(arrays, rng, "conv_hr", 64, 64, 3)
    _conv(arrays, rng, "conv_last", 64, 3, 3)
    return arrays


def basicvsr_pp_arrays(seed: int = 0, same_size: bool = False) -> dict[str, np.ndarray]:
    """BasicVSR++ of 8 channels and 2 blocks in BasicSR's names; weights keep the magnitude of signals."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}

    def conv(name: str, inner: int, outer: int) -> None:
        _conv(arrays, rng, name, inner, outer, 3)
        arrays[f"{name}.weight"] *= np.float32(1 / np.sqrt(9 * inner))
        arrays[f"{name}.bias"] *= np.float32(0.05)

    def trunk(name: str, inner: int, blocks: int) -> None:
        conv(f"{name}.main.0", inner, WIDTH)
        for block in range(blocks):
            conv(f"{name}.main.2.{block}.conv1", WIDTH, WIDTH)
            conv(f"{name}.main.2.{block}.conv2", WIDTH, WIDTH)

    if same_size:
        conv("feat_extract.0", 3, WIDTH)
        conv("feat_extract.2", WIDTH, WIDTH)
        trunk("feat_extract.4", WIDTH, 5)
    else:
        trunk("feat_extract", 3, 5)
    for number, branch in enumerate(("backward_1", "forward_1", "backward_2", "forward_2")):
        align = f"deform_align.{branch}"
        conv(align, 2 * WIDTH, WIDTH)
        conv(f"{align}.conv_offset.0", 3 * WIDTH + 4, WIDTH)
        for index, outer in ((2, WIDTH), (4, WIDTH), (6, 27 * 16)):
            conv(f"{align}.conv_offset.{index}", WIDTH, outer)
        trunk(f"backbone.{branch}", (2 + number) * WIDTH, BLOCKS)
    trunk("reconstruction", 5 * WIDTH, 5)
    conv("upconv1", WIDTH, 4 * WIDTH)
    conv("upconv2", WIDTH, 256)
    conv("conv_hr", 64, 64)
    conv("conv_last", 64, 3)
    for name, array in spynet_arrays(seed).items():
        # Unit weights would give flows of any size; these give hardly any motion.
        arrays[f"spynet.{name}"] = array if name in ("mean", "std") else np.float32(0.02) * array
    return arrays


def iart_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """IART as `IART` describes it, with everything in its files; weights keep the magnitude of signals."""
    rng = np.random.default_rng(seed)
    arrays = {f"spynet.{name}": 0.3 * array for name, array in spynet_arrays(seed).items()}
    arrays |= {"spynet.mean": MEAN, "spynet.std": STD}
    mid, width, side = IART["mid_channels"], IART["embed_dim"], IART["window"]
    hidden, tokens = IART["mlp_ratio"] * width, 3 * side**2

    def conv(name: str, inner: int, outer: int) -> None:
        _conv(arrays, rng, name, inner, outer, 3)

    def dense(name: str, inner: int, outer: int) -> None:
        arrays[f"{name}.weight"] = rng.normal(size=(outer, inner)).astype(np.float32)
        arrays[f"{name}.bias"] = rng.normal(size=outer).astype(np.float32)

    def norm(name: str) -> None:
        arrays[f"{name}.weight"] = 1 + 0.1 * rng.normal(size=width).astype(np.float32)
        arrays[f"{name}.bias"] = 0.1 * rng.normal(size=width).astype(np.float32)

    conv("conv_first", 3, width)
    for letter in "qkv":
        dense(f"implicit_warp.{letter}", width, width)
    for branch in ("backward_1", "forward_1", "backward_2", "forward_2"):
        start = f"swin_backbone.{branch}."
        for part, inner, outer in (("", 3, width), ("_feat", mid, width)):
            conv(f"{start}conv_first{part}", inner, outer)
        for name in ("patch_embed.norm", "norm"):
            norm(start + name)
        conv(start + "conv_after_body", width, width)
        conv(start + "conv_before_upsample", width, mid)
        for group in range(IART["groups"]):
            conv(f"{start}layers.{group}.conv", width, width)
            for index in range(IART["blocks"]):
                block = f"{start}layers.{group}.residual_group.blocks.{index}."
                for name in ("norm1", "norm2"):
                    norm(block + name)
                for name, inner, outer in (
                    ("attn.qkv", width, 3 * width),
                    ("attn.proj", width, width),
                    ("mlp.fc1", width, hidden),
                    ("mlp.fc2", hidden, width),
                ):
                    dense(block + name, inner, outer)
                table = rng.normal(size=(5 * (2 * side - 1) ** 2, IART["heads"]))
                arrays[block + "attn.relative_position_bias_table"] = table.astype(np.float32)
                arrays[block + "attn.relative_position_index"] = _relative_index(side)
    conv("conv_before_upsample", width, mid)
    conv("upconv1", mid, 4 * mid)
    conv("upconv2", mid, 256)
    conv("conv_hr", 64, 64)
    conv("conv_last", 64, 3)
    for name, array in arrays.items():
        if name.endswith("weight") and array.ndim > 1 and not name.startswith("spynet"):
            array /= np.sqrt(np.prod(array.shape[1:]))
    assert all(array.shape == (tokens, tokens) for name, array in arrays.items() if name.endswith("_index"))
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    frequency = 0.01 ** -(2 * np.arange(width // 4) / (width // 2))
    angle = (corners / (1 + 1e-6) * 2 * np.pi)[..., None] * frequency
    code = np.stack([np.sin(angle), np.cos(angle)], -1).reshape(1, 4, width)
    arrays["implicit_warp.position_bias"] = code.astype(np.float32)
    arrays["implicit_warp.window_idx_offset"] = corners
    return arrays


def _relative_index(side: int) -> np.ndarray:
    """Row of the table for each pair of places in a window of 3 frames, one pair after the other."""
    places = [(d, y, x) for d in range(3) for y in range(side) for x in range(side)]
    span = 2 * side - 1
    return np.array(
        [
            [
                (a[0] - b[0] + 2) * span**2 + (a[1] - b[1] + side - 1) * span + a[2] - b[2] + side - 1
                for b in places
            ]
            for a in places
        ]
    )


def as_mmagic(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same in mmagic's names."""

    def renamed(name: str) -> str:
        name = re.sub(
            r"(basic_module\.\d\.basic_module)\.(\d)\.", lambda m: f"{m[1]}.{int(m[2]) // 2}.conv.", name
        )
        name = re.sub(r"^(backward|forward)_trunk", r"\1_resblocks", name)
        return re.sub(r"^upconv([12])", r"upsample\1.upsample_conv", name)

    return {renamed(name): array for name, array in arrays.items()}


def _conv(
    arrays: dict[str, np.ndarray], rng: np.random.Generator, name: str, inner: int, outer: int, size: int
) -> None:
    arrays[f"{name}.weight"] = rng.normal(size=(outer, inner, size, size)).astype(np.float32)
    arrays[f"{name}.bias"] = rng.normal(size=outer).astype(np.float32)


def mrefsr_shapes(blocks: int = 16) -> dict[str, tuple[int, ...]]:
    """MRefSR's restoration network, whose widths are fixed, in the names of its official code."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, inner: int, outer: int, side: int = 3) -> None:
        shapes[f"{name}.weight"] = (outer, inner, side, side)
        shapes[f"{name}.bias"] = (outer,)

    def body(name: str) -> None:
        for block in range(blocks):
            conv(f"{name}.{block}.conv1", 64, 64)
            conv(f"{name}.{block}.conv2", 64, 64)

    conv("content_extractor.conv_first", 3, 64)
    body("content_extractor.body")
    level = "dyn_agg_restore."
    for size, c in (("small", 256), ("medium", 128), ("large", 64)):
        conv(f"{level}{size}_offset_conv1", 64 + c, c)
        conv(f"{level}{size}_offset_conv2", c, c)
        conv(f"{level}{size}_dyn_agg", c, c)
        conv(f"{level}{size}_dyn_agg.conv_offset_mask", c, 27 * 8)
        head = f"{level}head_{size}."
        conv(head + "conv_emb1.0", 64, c, 1)
        conv(head + "conv_emb2.0", c, c)
        shapes[head + "conv_emb1.1.weight"] = shapes[head + "conv_emb2.1.weight"] = (1,)
        conv(head + "conv_ass", c, 2 * c)
        conv(head + "feat_fusion", 64 + 2 * c, 64, 1)
        conv(head + "spatial_attn", 64 + 2 * c, 2 * c, 1)
        for name in ("mul1", "mul2", "add1", "add2"):
            conv(f"{head}spatial_attn_{name}", 2 * c, 2 * c)
        body(f"{level}body_{size}")
    conv(f"{level}tail_small.0", 64, 256)
    conv(f"{level}tail_medium.0", 64, 256)
    conv(f"{level}tail_large.0", 64, 32)
    conv(f"{level}tail_large.2", 32, 3)
    return shapes


def vgg_arrays(seed: int = 0, naming: str = "{layer}") -> dict[str, np.ndarray]:
    """VGG's first five convolutions; `naming` may use the layer's name and its number in torchvision."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    layers = (("conv1_1", 0, 3, 64), ("conv1_2", 2, 64, 64), ("conv2_1", 5, 64, 128))
    for layer, number, inner, outer in (*layers, ("conv2_2", 7, 128, 128), ("conv3_1", 10, 128, 256)):
        _conv(arrays, rng, naming.format(layer=layer, number=number), inner, outer, 3)
    return arrays
