"""The flags that say which frames get references, and which: the same for `ldip upscale` and `eval.py`."""

import argparse

from ldip_jax.cli.arguments import count


def add_reference_flags(group: argparse._ArgumentGroup) -> None:
    """Adds --key-stride, --self-refs, --exclude and --ref-threshold."""
    add = group.add_argument
    add(
        "--key-stride",
        type=count(1),
        metavar="N",
        default=8,
        help="every N-th frame is a key-frame, as are the first and the last; references are matched with"
        " these (default: %(default)s)",
    )
    add(
        "--self-refs",
        type=count(0),
        metavar="N",
        default=5,
        help="references per key-frame: places that no still takes are filled with distant frames of the"
        " clip; 0: stills alone (default: %(default)s)",
    )
    add(
        "--exclude",
        type=count(0),
        metavar="N",
        default=5,
        help="frames up to N away from a key-frame are no references for it (default: %(default)s)",
    )
    add(
        "--ref-threshold",
        type=float,
        metavar="SHARE",
        default=0.05,
        help="a still is used for a key-frame if this share of its pixels is surely matched, 0 to 1"
        " (default: %(default)s)",
    )
