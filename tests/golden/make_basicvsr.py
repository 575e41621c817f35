"""Writes `basicvsr_*.npz`, the expected results of BasicVSR with its published weights: needs torch.

    python tests/golden/make_basicvsr.py

The frames are synthetic (a scene of two moving layers, reduced by 4), so that they may be redistributed. The
results are those of the PyTorch twin in float64. On real video the twin in float32 equals the official
implementation bit for bit.

Each file: `frames` uint8 t h w 3; `output` float32 and `hr_pre` float16, crops of frame 2 whose first rows
and columns are in `output_corner` and `hr_pre_corner`.
"""

import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from ldip_jax.ops.imresize import imresize  # noqa: E402
from ldip_jax.weights.fetch import fetch  # noqa: E402
from ldip_jax.weights.formats import read_checkpoint  # noqa: E402
from tests.parity.torch_twins import BasicVSR  # noqa: E402
from tests.scenes import blocks  # noqa: E402

FRAME, OUTPUT, HR_PRE = 2, (60, 156), (92, 164)


def frames(count: int = 5, height: int = 64, width: int = 72) -> np.ndarray:
    """A drifting background and, in front of it, a disc that moves differently; uint8 t h w 3."""
    h, w = 4 * height, 4 * width
    back, front = (blocks(seed, h + 80, w + 80, count=600) for seed in (0, 1))
    y, x = np.mgrid[:h, :w]
    clip = []
    for i in range(count):
        shown = back[9 * i : 9 * i + h, 7 * i : 7 * i + w].copy()
        disc = (y - 128 + 6 * i) ** 2 + (x - 176 - 11 * i) ** 2 < 60**2
        shown[disc] = front[10 + 6 * i : 10 + 6 * i + h, 70 - 11 * i : 70 - 11 * i + w][disc]
        clip.append(np.asarray(imresize(shown, 1 / 4)))
    return np.round(255 * np.clip(clip, 0, 1)).astype(np.uint8)


def main() -> None:
    lr = frames()
    batch = torch.tensor(lr.astype(np.float32) / np.float32(255)).double().permute(0, 3, 1, 2)[None]
    for name in ("reds4", "vimeo_bi"):
        net = BasicVSR().double()
        path = fetch(f"basicvsr-{name.replace('_', '-')}")
        net.load_state_dict({key: torch.tensor(array) for key, array in read_checkpoint(path).arrays.items()})
        with torch.no_grad():
            stages = net.stages(batch)
        cropped = {}
        for stage, (row, column), side, dtype in (
            ("output", OUTPUT, 96, np.float32),
            ("hr_pre", HR_PRE, 24, np.float16),
        ):
            whole = stages[stage][FRAME][0].permute(1, 2, 0).numpy()
            cropped[stage] = whole[row : row + side, column : column + side].astype(dtype)
            cropped[f"{stage}_corner"] = np.array((row, column))
        np.savez_compressed(Path(__file__).parent / f"basicvsr_{name}.npz", frames=lr, **cropped)


if __name__ == "__main__":
    main()
