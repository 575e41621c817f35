"""`ldip info`: what is installed, and the model's components with their parameter counts."""

import argparse
import platform
import sys
from collections.abc import Mapping
from typing import Any

from ldip_jax.command import METHODS


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the command to `ldip`."""
    parser = subparsers.add_parser(
        "info",
        help="versions, devices, and the model's components with their parameter counts",
        description="Print versions, devices, and the model's components with their parameter counts.",
    )
    parser.add_argument(
        "--backbone",
        metavar="NAME|FILE",
        default="basicvsr-reds4",
        help="a name from `ldip weights list` or a checkpoint (default: %(default)s)",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="ldip",
        help="mrefsr: MRefSR, the method that the paper compares with (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the information; returns the exit code 0."""
    import flax
    import jax

    from ldip_jax import __version__
    from ldip_jax.cache import cache_dir
    from ldip_jax.inference import mrefsr_model
    from ldip_jax.inference.model import list_components

    # Whatever can fail comes first.
    title, network, params = ("", "", {}) if args.method == "mrefsr" else _backbone(args.backbone)
    print(f"ldip_jax {__version__}, Python {platform.python_version()}")
    print(f"jax {jax.__version__}, flax {flax.__version__}")
    for device in jax.devices():
        print(f"device: {device.device_kind} ({device.platform})")
    print(f"cache: {cache_dir()}")
    if args.method == "mrefsr":
        print("method: MRefSR; its authors publish no trained restoration network\n")
        rows = mrefsr_model.list_mrefsr_components()
    else:
        print(f"backbone: {title}\n")
        rows = list_components(network, params)
    width = max(len(row.name) + 2 * row.level for row in rows)
    for row in rows:
        name = "  " * row.level + row.name
        print(f"{name:{width}}  {row.parameters:>10,}  {row.description}".rstrip())
    return 0


def _backbone(name_or_path: str) -> tuple[str, str, Mapping[str, Any]]:
    """A description, the network's name, and the parameters, or only their shapes if not fetched yet."""
    from ldip_jax.models.networks import BACKBONES
    from ldip_jax.weights.catalogue import CATALOGUE
    from ldip_jax.weights.fetch import cached
    from ldip_jax.weights.identify import NETWORKS
    from ldip_jax.weights.load import load_weights

    entry = CATALOGUE.get(name_or_path)
    if entry is not None and entry.network in BACKBONES and cached(entry) is None:
        network = NETWORKS[entry.network]
        title = f"{entry.name} ({network.name}), not fetched yet; {entry.licence}"
        return title, network.name, network.skeleton({**network.config({}), **entry.config})
    weights = load_weights(
        name_or_path, network=tuple(BACKBONES), progress=lambda line: print(line, file=sys.stderr)
    )
    title = f"{weights.name} ({weights.network}), sha256 {weights.sha256}; {weights.licence}"
    return title, weights.network, weights.params
