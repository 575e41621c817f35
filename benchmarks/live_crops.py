"""What live training loses by computing on crops instead of whole frames.

    python benchmarks/live_crops.py FOLDER [--halos 0 8 16 32] [--matches]

FOLDER holds the frames of one shot, reduced here by 4 (bicubic).

- Features: those of an LR crop of 64 with a halo, against those of whole frames: their difference in dB below
  their power, and the PSNR between the images decoded from them.
- Matches (--matches, minutes on a CPU): GMFlow from the resized LR key-frame, against GMFlow from the
  backbone's image, at one size: the share of confident pixels where both agree within a pixel of that size.

Exits with 1 if the halo of `ldip_jax.training.live_programs` gives images below 48 dB, or if matches agree on
less than 95 %. At 48 dB, the difference is a sixtieth of the error of an image of 30 dB: 0.07 dB. A wider
halo gains nothing, because the flow in a crop is not quite that of the whole frame.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldip_jax.runtime import configure

configure()
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from ldip_jax.matching.dense import gmflow_bidirectional, resize_image  # noqa: E402
from ldip_jax.matching.matcher import SIGMA  # noqa: E402
from ldip_jax.media.images import read_image  # noqa: E402
from ldip_jax.models.networks import BACKBONES  # noqa: E402
from ldip_jax.models.networks.gmflow import gmflow_size  # noqa: E402
from ldip_jax.ops.imresize import imresize  # noqa: E402
from ldip_jax.ops.warp import forward_backward_confidence  # noqa: E402
from ldip_jax.training.live_programs import HALO  # noqa: E402
from ldip_jax.weights.load import load_weights  # noqa: E402

CROP = 64


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path)
    add("--frames", type=int, default=5, metavar="N", help="(default: 5)")
    add("--apart", type=int, default=1, metavar="N", help="use every N-th frame (default: 1)")
    add("--halos", type=int, nargs="+", default=[0, 8, 16, 32], metavar="N", help="(default: 0 8 16 32)")
    add("--backbone", default="basicvsr-reds4")
    add("--matches", action="store_true")
    return parser.parse_args()


def decibels(error: np.ndarray, power: float) -> float:
    return float(10.0 * np.log10(power / max(float(np.mean(np.square(error))), 1e-12)))


def main() -> int:
    args = arguments()
    files = sorted(path for path in args.folder.iterdir() if path.suffix.lower() in (".png", ".jpg"))
    files = files[:: args.apart][: args.frames]
    hr = np.stack([(read_image(file)[0] * 255).round().astype(np.uint8) for file in files])
    hr = hr[:, : hr.shape[1] // 4 * 4, : hr.shape[2] // 4 * 4]
    h, w = hr.shape[1] // 4, hr.shape[2] // 4
    lr = jnp.asarray(np.stack([imresize(frame, size=(h, w)) for frame in hr]), jnp.float32)[None] / 255.0
    weights = load_weights(args.backbone, network=tuple(BACKBONES))
    net = BACKBONES[weights.network](**weights.config)

    def run(net, frames):
        return net.features(frames, net.flows(frames))

    def image(net, features, frame):
        return jnp.clip(net.decode(net.upscale(features), frame), 0.0, 1.0)

    features = jax.jit(partial(net.apply, method=run))
    decode = jax.jit(partial(net.apply, method=image))
    params = {"params": weights.params}
    whole = features(params, lr)
    middle = len(files) // 2
    corners = [((h - CROP) // 2, (w - CROP) // 2), (0, 0), (h - CROP, (w - CROP) // 3)]
    worst = 99.0
    for halo in args.halos:
        wide = [min(n, CROP + 2 * halo) for n in (h, w)]
        found = []
        for corner in corners:
            y, x = (max(0, min(c - halo, n - m)) for c, n, m in zip(corner, (h, w), wide, strict=True))
            window = lr[:, :, y : y + wide[0], x : x + wide[1]]
            inner = (slice(corner[0] - y, corner[0] - y + CROP), slice(corner[1] - x, corner[1] - x + CROP))
            outer = (slice(corner[0], corner[0] + CROP), slice(corner[1], corner[1] + CROP))
            part, full = features(params, window)[0][:, *inner], whole[0][:, *outer]
            apart = np.asarray(part - full)
            frame = lr[0, middle][None, *outer]
            a, b = (np.asarray(decode(params, x[middle][None], frame)) for x in (part, full))
            found.append((decibels(apart, float(np.mean(np.square(full)))), decibels(a - b, 1.0)))
        both = np.array(found)
        features_db, images_db = both.min(axis=0)
        print(
            f"halo {halo:2d}: features {features_db:.1f} dB, images {images_db:.1f} dB (worst of 3 crops)",
            flush=True,
        )
        if halo == HALO:
            worst = float(both[:, 1].min())
    agree = 1.0
    if args.matches:
        agree = matches(params, decode, whole, lr, hr, middle)
    print(f"halo {HALO} of live training: {worst:.1f} dB; matches agree on {agree:.1%}")
    return 0 if worst >= 48.0 and agree >= 0.95 else 1


def matches(params, decode, whole, lr, hr, key: int) -> float:
    """The share of confident pixels that agree, over references before and after the key-frame."""
    gmflow = load_weights("gmflow", network="gmflow").params
    flow = jax.jit(gmflow_bidirectional)
    size = gmflow_size(hr.shape[1:3])
    anchors = [resize_image(lr[:, key], size), resize_image(decode(params, whole[:, key], lr[:, key]), size)]
    shares = []
    for place in (0, len(hr) - 1):
        reference = resize_image(jnp.asarray(hr[place : place + 1], jnp.float32) / 255.0, size)
        flows = [flow(gmflow, anchor, reference) for anchor in anchors]
        confident = [
            np.asarray(forward_backward_confidence(*pair_flow, SIGMA))[..., 0] > 0.5 for pair_flow in flows
        ]
        apart = np.linalg.norm(np.asarray(flows[0][0] - flows[1][0]), axis=-1)
        either = confident[0] | confident[1]
        shares.append(float(np.mean((apart < 1.0) & confident[0] & confident[1], where=either)))
        print(
            f"reference {place}: confident {confident[0].mean():.1%} (LR), {confident[1].mean():.1%} (x4);"
            f" median apart {np.median(apart[either]):.3f} px of {size[1]}x{size[0]};"
            f" agree on {shares[-1]:.1%}",
            flush=True,
        )
    return min(shares)


if __name__ == "__main__":
    sys.exit(main())
