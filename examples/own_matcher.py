"""Your own matcher: write a match for each key-frame and reference image to a folder, and upscale with it.

A match says, for every HR pixel of a key-frame, where it is seen in the reference image (`warp`: x and y, in
pixels of the reference) and how far that can be trusted (`confidence`, 0 to 1). Here both are known exactly,
because the clip is synthetic.

python examples/own_matcher.py
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from flags import parser
from scene import moving_clip, psnr

import ldip_jax

STRIDE = 4


def write_match(folder: Path, key: int, name: str, size: tuple[int, int]) -> None:
    """The match of a key-frame with the first frame's truth: the camera has moved by 4 HR pixels a frame."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    warp = np.stack([x + 4 * key, y], axis=-1)
    confidence = (warp[..., 0] <= size[1] - 1).astype(np.float32)
    np.savez(folder / f"{key:08d}_{name}.npz", warp=warp, confidence=confidence)


def main(argv: Sequence[str] | None = None) -> None:
    args = parser(__doc__).parse_args(argv)
    frames, truth = moving_clip(args.frames, *args.size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Key-frames are every STRIDE frames, and the last frame; reference images are ref0, ref1 ...
        for key in sorted({*range(0, len(frames), STRIDE), len(frames) - 1}):
            write_match(folder, key, "ref0", truth.shape[1:3])
        upscaler = ldip_jax.Upscaler(
            args.backbone, args.lrrf, matcher=folder, key_stride=STRIDE, cuts="none", ref_threshold=0.0
        )
        upscaled = upscaler(frames, refs=[truth[0]])
    print(f"backbone:         {psnr(ldip_jax.Upscaler(args.backbone, 'none')(frames), truth):.2f} dB")
    print(f"with the matches: {psnr(upscaled, truth):.2f} dB")
    print(f"key-frames:       {', '.join(map(str, sorted(upscaler.choices)))}")


if __name__ == "__main__":
    main()
