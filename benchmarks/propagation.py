"""Checks that detail reaches the frames between key-frames: `ldip eval` with bounds on its results.

    python benchmarks/propagation.py --data DIR --least-gain 0.5 --least-reach 0.6 --most-loss 0.3

DIR holds clips in the layout of `ldip eval --dataset video_folder`. The columns "backbone", "full" and
"full, hrip" are run, and "full" is checked against the bounds; docs/datasets.md explains the figures. Other
flags, such as --checkpoint, --propagation or --scale, are passed to `ldip eval`. Existing results are not
computed again.

exit codes: 0 all bounds are met, 1 a bound is not met (or internal error), 2 invalid input, 130 interrupted
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

VARIANT = "full"


def arguments(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The flags of this command, and the arguments for `ldip eval`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--data", required=True, type=Path, metavar="DIR")
    add("--protocol", default="near", choices=("near", "table5"), help="default: near")
    add("--key-stride", type=int, default=8, metavar="N", help="default: 8")
    add("--clips", nargs="+", metavar="NAME", help="default: all")
    add("--output", type=Path, metavar="DIR", help="default: results/propagation-PROTOCOL")
    add("--least-gain", type=float, metavar="DB", help="lowest mean gain over the backbone, of all frames")
    add(
        "--least-reach",
        type=float,
        metavar="SHARE",
        help="lowest share of the key-frames' gain that frames keep at a distance of 3 or more",
    )
    add("--most-loss", type=float, metavar="DB", help="largest loss of a frame against the backbone")
    return parser.parse_known_args(argv)


def evaluate(args: argparse.Namespace, more: Sequence[str], output: Path) -> int:
    """Runs `ldip eval`; returns its exit code."""
    from ldip_jax.cli.main import main

    words = ["eval", "--dataset", "video_folder", "--data-dir", args.data, "--protocol", args.protocol]
    words += ["--key-stride", args.key_stride, "--output", output]
    words += ["--clips", *args.clips] if args.clips else []
    words += ["--columns", "backbone", VARIANT, f"{VARIANT}, hrip"]
    return main([str(word) for word in (*words, *more)])


def unmet(gain: dict, args: argparse.Namespace) -> list[str]:
    """The bounds that a column's figures do not meet, one line each."""
    worst = gain["worst"]
    checks = (
        ("--least-gain", args.least_gain, gain["mean"], "gain over all frames"),
        ("--least-reach", args.least_reach, gain["kept_far"], "share kept at a distance of 3 or more"),
        (
            "--most-loss",
            None if args.most_loss is None else -args.most_loss,
            worst["gain"],
            f"gain of {worst['clip']}, frame {worst['frame']}",
        ),
    )
    return [
        f"{flag}: {what} is {'-' if found is None else f'{found:.3f}'}, less than {least:g}"
        for flag, least, found, what in checks
        if least is not None and (found is None or found < least)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments; returns the exit code."""
    args, more = arguments(argv)
    output = args.output or Path("results") / f"propagation-{args.protocol}"
    if code := evaluate(args, more, output):
        return code
    results = json.loads((output / "results.json").read_text())
    lines = []
    for scale in results["scales"]:
        gain = next((variant["gain"] for variant in scale["columns"] if variant["name"] == VARIANT), None)
        if gain is None or results["waiting"]:
            print(f"propagation.py: {output}: no gains of {VARIANT} to judge", file=sys.stderr)
            return 2
        lines += unmet(gain, args)
    print("\n".join(lines) or "all bounds are met")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.exit(main())
