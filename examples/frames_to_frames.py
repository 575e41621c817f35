"""From frames to frames: upscale an array, with and without a reference image.

python examples/frames_to_frames.py
"""

from collections.abc import Sequence

from flags import parser
from scene import moving_clip, psnr

import ldip_jax


def main(argv: Sequence[str] | None = None) -> None:
    args = parser(__doc__).parse_args(argv)
    frames, truth = moving_clip(args.frames, *args.size)

    # An upscaler is kept for several clips: weights are loaded once. "flow" is a matcher for small motion.
    backbone = ldip_jax.Upscaler(args.backbone, "none", scale=4.0)
    ldip = ldip_jax.Upscaler(args.backbone, args.lrrf, scale=4.0, matcher="flow")

    print(f"backbone:      {psnr(backbone(frames), truth):.2f} dB")
    print(f"with a still:  {psnr(ldip(frames, refs=[truth[0]], ref_frames=[0]), truth):.2f} dB")
    for key, choices in ldip.choices.items():
        for choice in choices:
            print(f"key-frame {key}: {choice.name}, {'used' if choice.used else 'not used'}")


if __name__ == "__main__":
    main()
