"""Narrow backbones with random weights, as their checkpoints name them."""

import re

import numpy as np

MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)
WIDTH, BLOCKS = 8, 2


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
    """BasicVSR++ of 8 channels and 2 blocks in BasicSR's names; weights that keep signals at their size."""
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
        # Unit weights would make flows of any size: these barely move.
        arrays[f"spynet.{name}"] = array if name in ("mean", "std") else np.float32(0.02) * array
    return arrays


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
