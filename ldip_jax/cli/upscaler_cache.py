"""The networks of `ldip upscale`, which serve all its clips."""

import argparse
from collections.abc import Callable

from ldip_jax.cli.upscale_mrefsr import make_mrefsr
from ldip_jax.errors import InputError
from ldip_jax.inference.api import Models, make_upscaler
from ldip_jax.inference.model import native_scale, output_size
from ldip_jax.inference.mrefsr import SCALE, MRefSRUpscaler
from ldip_jax.inference.references import ReferenceRules
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.media.clip import Clip


class UpscalerCache:
    """Makes upscalers as the options say; weights are loaded once for all clips."""

    def __init__(self, args: argparse.Namespace, notify: Callable[[str], object]):
        self._args, self._notify = args, notify
        self._models: Models = {}
        self._current: tuple[object, Upscaler | MRefSRUpscaler] | None = None

    def output_size(self, clip: Clip) -> tuple[int, int]:
        """(height, width) of the output."""
        native = SCALE if self._args.method == "mrefsr" else native_scale(self._args.backbone)
        return output_size((clip.height, clip.width), self._args.scale, self._args.size, native)

    def upscaler(self, clip: Clip, *, has_stills: bool, first: int = 0) -> Upscaler | MRefSRUpscaler:
        """For a clip, or for the part of one from frame `first` on.

        Raises:
            InputError: weights cannot be used, or matches are for the whole clip.
        """
        args = self._args
        cuts = args.cuts
        if not isinstance(cuts, str):
            cuts = tuple(cut - first for cut in cuts if cut > first)
        if first and args.matcher not in ("gmflow", "flow"):
            raise InputError(f"--matcher {args.matcher}: has matches for the whole clip; leave --start out")
        frame, out = (clip.height, clip.width), self.output_size(clip)
        if self._current is None or self._current[0] != (frame, out, has_stills, cuts):
            self._current = None
            if args.method == "mrefsr":
                self._current = (frame, out, has_stills, cuts), make_mrefsr(args, frame, out, self._notify)
                return self._current[1]
            upscaler = make_upscaler(
                frame,
                scale=None,
                size=out,
                backbone=args.backbone,
                lrrf=args.lrrf,
                has_stills=has_stills,
                key_stride=args.key_stride,
                rules=ReferenceRules(args.self_refs, args.exclude, args.ref_threshold, args.refs_as_given),
                matcher=args.matcher,
                flow=args.flow,
                propagation=args.propagation,
                cuts=cuts,
                memory=args.memory,
                restore=args.restore,
                soften=args.soften,
                progress=self._notify,
                models=self._models,
            )
            self._current = (frame, out, has_stills, cuts), upscaler
        return self._current[1]
