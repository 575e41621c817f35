"""What references give without any learning: a yardstick for trained weights.

    python benchmarks/linear_transfer.py --data-dir DIR [--protocol NAME] [--stride N] [--own N]

DIR holds clips in the layout of `ldip eval --dataset video_folder`; frames and references are those of the
protocol. `ldip_jax/evaluation/linear_transfer.py` describes the method. `ldip eval --method mrefsr` has it as
a column.

With --own, the references are N distant frames of the clip itself, upscaled by the backbone, instead of the
protocol's. This shows what a clip can gain without any still.
"""

import argparse
import sys
from pathlib import Path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data-dir", "--data_dir", required=True, type=Path, metavar="DIR")
    add("--protocol", default="near", choices=("near", "table5", "figure6"), help="default: near")
    add("--backbone", default="basicvsr-reds4", metavar="NAME|FILE")
    add("--matcher", default="gmflow", metavar="gmflow|flow")
    add("--stride", type=int, default=1, metavar="N", help="use every N-th scored frame (default: 1)")
    add("--own", type=int, default=0, metavar="N", help="N of the clip's own frames instead of stills")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from ldip_jax.runtime import configure

    configure()
    import numpy as np

    from ldip_jax.errors import InputError
    from ldip_jax.evaluation.datasets import DATASETS, ClipFrames, find_clips
    from ldip_jax.evaluation.linear_transfer import transfer, warp_to_image
    from ldip_jax.evaluation.protocols import PROTOCOLS
    from ldip_jax.evaluation.scores import score_frame
    from ldip_jax.inference.keyframes import select_self_references
    from ldip_jax.inference.model import load_model
    from ldip_jax.inference.references import ReferenceRules
    from ldip_jax.inference.upscaler import Upscaler
    from ldip_jax.matching.loading import load_matcher
    from ldip_jax.media.color import as_float
    from ldip_jax.media.reader import open_clip

    model = load_model(args.backbone, "none", native=True, progress=print)
    matcher = load_matcher(args.matcher, model.params["backbone"]["spynet"])
    dataset, protocol = DATASETS["video_folder"], PROTOCOLS[args.protocol]
    rows = []
    print(f"{'clip':20} backbone  transfer      gain", flush=True)
    try:
        sources = find_clips(dataset, args.data_dir)[0]
    except InputError as error:
        sys.exit(str(error))
    for source in sources:
        clip = open_clip(source.path)
        footage = ClipFrames(
            clip, *protocol.sizes((clip.height, clip.width), (4.0, 4.0)), protocol.degradation
        )
        selection = protocol.frames(dataset, footage.count)
        frames = [as_float(frame) for frame in footage.lr_frames(selection.inputs)]
        truths = dict(zip(selection.scored, map(as_float, footage.hr_frames(selection.scored)), strict=True))
        images = list(Upscaler(model, footage.lr_size, footage.hr_size).frames(frames))
        stills = [] if args.own else [as_float(image) for image in footage.hr_frames(selection.references)]
        scores = []
        for frame, places in list(zip(selection.scored, selection.outputs, strict=True))[:: args.stride]:
            image = images[places[0]]
            if args.own:
                far = select_self_references(places[0], 0, len(images), ReferenceRules().exclude, args.own)
                stills = [images[place] for place in far]
            references = [warp_to_image(matcher, image, still, (4.0, 4.0)) for still in stills]
            made = transfer(image, truths[frame], references)
            scores.append([score_frame(x, truths[frame]).psnr_y for x in (image, made)])
        rows.append(np.mean(scores, axis=0))
        tell(source.name, rows[-1])
    tell("mean", np.mean(rows, axis=0))


if __name__ == "__main__":
    main()
