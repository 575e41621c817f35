"""`ldip info`: what is installed, and the boxes of the model with their parameter counts."""

import argparse
import platform


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the command to `ldip`."""
    parser = subparsers.add_parser(
        "info",
        help="versions, devices, and the model's boxes with their parameter counts",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--backbone", metavar="NAME|FILE", default="basicvsr-reds4", help="see `ldip weights list`"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints; returns the exit code 0."""
    import flax
    import jax

    from ldip_jax import __version__
    from ldip_jax.cache import cache_dir
    from ldip_jax.inference.boxes import boxes
    from ldip_jax.weights.load import load_weights

    weights = load_weights(args.backbone)
    print(f"ldip_jax {__version__}, Python {platform.python_version()}")
    print(f"jax {jax.__version__}, flax {flax.__version__}")
    for device in jax.devices():
        print(f"device: {device.device_kind} ({device.platform})")
    print(f"cache: {cache_dir()}")
    print(f"backbone: {weights.name} ({weights.network}), sha256 {weights.sha256}, {weights.licence}\n")
    rows = boxes(weights)
    width = max(len(row.name) + 2 * row.level for row in rows)
    for row in rows:
        name = "  " * row.level + row.name
        print(f"{name:{width}}  {row.count:>10,}  {row.what}")
    return 0
