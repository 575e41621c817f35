"""Train LRRF for a few steps on synthetic scenes, offline, and upscale with the export.

python examples/train_debug.py [WORKDIR] [--config.FIELD=VALUE ...]

Needs the extra `train`. It shows the steps of a run; for weights that improve results, see docs/training.md.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from scene import moving_clip

import ldip_jax
from ldip_jax.cli.main import main as ldip


def main(argv: Sequence[str] | None = None) -> int:
    workdir, *flags = (sys.argv[1:] if argv is None else argv) or ["runs/example"]
    code = ldip(["train", "--config", "ldip_basicvsr_x4:debug", "--workdir", workdir, *flags])
    if code:
        return code
    frames, truth = moving_clip(3, 16, 24)
    upscaled = ldip_jax.upscale(
        frames,
        refs=[truth[0]],
        backbone=Path(workdir, "backbone.safetensors"),
        lrrf=Path(workdir, "export.safetensors"),
        matcher="flow",
    )
    print(f"{workdir}/export.safetensors: upscaled {frames.shape} to {upscaled.shape}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
