"""`ldip upscale --method mrefsr`: the method that the paper compares with."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from ldip_jax.command import check_method_flags
from ldip_jax.errors import InputError

if TYPE_CHECKING:
    from ldip_jax.inference.mrefsr import MRefSRUpscaler


def check_method(args: argparse.Namespace) -> None:
    """Check, before any work, what --method needs and what it cannot do.

    Raises:
        InputError: a flag is missing, or belongs to another method.
    """
    check_method_flags(args)
    if args.method != "mrefsr":
        return
    if not args.ref:
        raise InputError("--method mrefsr: needs reference images; give some with --ref")
    if args.dry_run or args.memory is not None:
        raise InputError("--memory and --dry-run apply to LDIP only; leave them out with --method mrefsr")
    if args.restore is not None:
        raise InputError("--restore: comes before LDIP; leave it out with --method mrefsr")
    if args.soften:
        raise InputError("--soften: is for the backbones of LDIP; leave it out with --method mrefsr")
    if args.report is not None:
        raise InputError(f"--report {args.report}: shows what LDIP did; leave it out with --method mrefsr")


def make_mrefsr(
    args: argparse.Namespace,
    size: tuple[int, int],
    out_size: tuple[int, int],
    notify: Callable[[str], object],
) -> "MRefSRUpscaler":
    """MRefSR's upscaler for frames of `size`, (height, width), as the flags say.

    Raises:
        InputError: weights are missing or cannot be read, or frames are too small.
    """
    from ldip_jax.inference.mrefsr import MRefSRUpscaler
    from ldip_jax.inference.mrefsr_model import load_mrefsr

    model = load_mrefsr(args.mrefsr, extractor=args.extractor, vgg=args.vgg, progress=notify)
    return MRefSRUpscaler(model, size, out_size)
