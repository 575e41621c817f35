"""What references give without any learning: the yardstick for trained weights.

    python benchmarks/linear_transfer.py --data_dir DIR [--protocol NAME] [--stride N] [--own N]

DIR holds clips as `eval.py --dataset video_folder` takes them; frames and references are those of the
protocol. Each scored frame is upscaled by the backbone alone and matched with every reference; to it is
added, per pixel, what the references (nearest sampling) have and it has not, with the best weights in
hindsight: least squares against the ground truth, frame by frame, one weight per reference and combination of
confidence bins. No fusion of so little freedom can do better, and none that is trained knows the truth.

With --own the references are N distant frames of the clip itself, as the backbone makes them, in place of the
protocol's: what a clip can give itself without any still.
"""

import argparse
import sys
from pathlib import Path

# Confidence below the first does not count as a match.
BINS = (0.2, 0.5, 0.8, 0.95)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data_dir", required=True, type=Path, metavar="DIR")
    add("--protocol", default="near", choices=("near", "table5", "figure6"), help="default: near")
    add("--backbone", default="basicvsr-reds4", metavar="NAME|FILE")
    add("--matcher", default="gmflow", metavar="gmflow|flow")
    add("--stride", type=int, default=1, metavar="N", help="look at every N-th scored frame (default: 1)")
    add("--own", type=int, default=0, metavar="N", help="N of the clip's own frames instead of stills")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from ldip_jax.runtime import configure

    configure()
    import jax.numpy as jnp
    import numpy as np

    from ldip_jax.errors import InputError
    from ldip_jax.evaluation.compare import score_frame
    from ldip_jax.evaluation.datasets import DATASETS, find_clips
    from ldip_jax.evaluation.footage import Footage
    from ldip_jax.evaluation.protocols import PROTOCOLS
    from ldip_jax.inference.keyframes import self_references
    from ldip_jax.inference.model import load_model
    from ldip_jax.inference.references import Rules
    from ldip_jax.inference.upscaler import Upscaler
    from ldip_jax.matching.choice import choose_matcher
    from ldip_jax.matching.matcher import Pair
    from ldip_jax.media.color import as_float
    from ldip_jax.media.reader import open_clip
    from ldip_jax.ops.warp import nearest

    def transferred(image, truth, references):
        """The image with the references' detail at its best; `references` are (warped, confidence)."""
        bins = np.digitize(np.stack([confidence for _, confidence in references]), BINS)
        combined = (bins * (len(BINS) + 1) ** np.arange(len(bins))[:, None, None]).sum(axis=0)
        made = image.copy()
        for value in np.unique(combined):
            here = combined == value
            sure = [i for i in range(len(bins)) if bins[i][here][0]]
            if not sure:
                continue
            detail = np.stack([(references[i][0][here] - image[here]).ravel() for i in sure], axis=1)
            best = np.linalg.lstsq(detail, (truth[here] - image[here]).ravel(), rcond=None)[0]
            made[here] += (detail @ best).reshape(-1, 3)
        return np.clip(made, 0.0, 1.0)

    def tell(name, row):
        print(f"{name:20} {row[0]:8.3f} {row[1]:9.3f} {row[1] - row[0]:+9.3f}", flush=True)

    model = load_model(args.backbone, "none", native=True, progress=print)
    matcher = choose_matcher(args.matcher, model.params["backbone"]["spynet"])
    dataset, protocol = DATASETS["video_folder"], PROTOCOLS[args.protocol]
    rows = []
    print(f"{'clip':20} backbone  transfer      gain", flush=True)
    try:
        sources = find_clips(dataset, args.data_dir)[0]
    except InputError as error:
        sys.exit(str(error))
    for source in sources:
        clip = open_clip(source.path)
        footage = Footage(clip, *protocol.sizes((clip.height, clip.width), (4.0, 4.0)), protocol.degradation)
        case = protocol.frames(dataset, footage.count)
        frames = [as_float(frame) for frame in footage.low(case.inputs)]
        truths = dict(zip(case.scored, map(as_float, footage.truth(case.scored)), strict=True))
        alone = list(Upscaler(model, footage.lr, footage.hr).frames(frames))
        stills = [] if args.own else [as_float(image) for image in footage.truth(case.references)]
        scores = []
        for frame, places in list(zip(case.scored, case.outputs, strict=True))[:: args.stride]:
            image, references = alone[places[0]], []
            if args.own:
                far = self_references(places[0], 0, len(alone), Rules().exclude, args.own)
                stills = [alone[place] for place in far]
            for still in stills:
                pair = Pair(image[None], still[None])
                match = matcher.refine(pair, matcher.coarse(pair), (4.0, 4.0))
                warped = nearest(jnp.asarray(still)[None], match.warp)[0]
                references.append((np.asarray(warped[0]), np.asarray(match.confidence[0, ..., 0])))
            made = transferred(image, truths[frame], references) if references else image
            scores.append([score_frame(x, truths[frame])["psnr_y"] for x in (image, made)])
        rows.append(np.mean(scores, axis=0))
        tell(source.name, rows[-1])
    tell("mean", np.mean(rows, axis=0))


if __name__ == "__main__":
    main()
