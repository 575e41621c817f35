"""Runs LDIP over a clip of any length, one window at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.errors import InputError
from ldip_jax.inference.costs import piece_costs
from ldip_jax.inference.cuts import watch_cuts
from ldip_jax.inference.engine import Image, backbone_frames, refined_frames
from ldip_jax.inference.in_flight import to_host
from ldip_jax.inference.keyframe_motion import WindowMotion, adapt_key_frames
from ldip_jax.inference.keyframes import overlapping, select_key_frames, select_self_references, shots
from ldip_jax.inference.memory_plan import (
    MemoryPlan,
    Workload,
    base_memory,
    plan_memory,
    plan_two,
    usable_memory,
)
from ldip_jax.inference.model import Model
from ldip_jax.inference.programs import Programs, to_size
from ldip_jax.inference.reference_images import Still, bound_moments, offered_stills
from ldip_jax.inference.references import (
    SELF_REFERENCES,
    ReferenceChoice,
    ReferenceFinder,
    ReferenceRules,
    WindowFrames,
    make_matcher,
)
from ldip_jax.inference.selection import WindowReferences
from ldip_jax.inference.shortlist import MAX_MATCHED
from ldip_jax.inference.softening import MEASURED, find_softening, read_ahead, soften
from ldip_jax.inference.streaming import OVERLAP, Window, overlap, window_length, windows
from ldip_jax.inference.window_chain import WindowChain
from ldip_jax.memory import returned_after_compiling
from ldip_jax.models.carry import PROPAGATIONS
from ldip_jax.models.ref_align import Reference
from ldip_jax.ops.grid import whole_grid

# Frames with a shorter side than this are too small to detect cuts.
MIN_SIDE_FOR_CUTS = 16


class Segment(NamedTuple):
    """The frames that one window makes.

    Attributes:
        places: their places in the clip.
        images: float32 RGB `H W 3` in [0, 1]. Nothing is computed unless they are taken: all of them, before
            the next segment.
    """

    places: range
    images: Iterator[Float[np.ndarray, "H W 3"]]


class Upscaler:
    """One model for clips of one size. Keep it for several clips: it holds compiled programs and all weights.

    Attributes:
        model: the networks and their weights.
        size, out_size: (height, width) of the frames in and out.
        choices: what was decided on references, by key-frame; filled while frames are made.
        propagation: how detail gets from key-frames to the other frames; None without LRRF.
        cuts: places of the first frames of new shots; if cuts are detected, filled while frames are read.
        backbone_only_frames: how many frames only the backbone made, because no still matches in their
            shot; see `backbone_only_if_unmatched`.
        notes: lines to show to the user.
        memory: bytes of memory that a run may use.
        restorer: restores the frames first, at the same size; None: they are used as they are.
        soften: the blur of the frames before they are upscaled, in LR pixels; None: it is found out.
        softening: the same; if it is found out, set when the first frames are read.
        on_key_frame: if set, called with each key-frame's place in the clip and the references that it was
            given.
    """

    def __init__(
        self,
        model: Model,
        size: tuple[int, int],
        out_size: tuple[int, int],
        *,
        key_stride: int = 8,
        rules: ReferenceRules | None = None,
        matcher: str | Path = "gmflow",
        backbone_only_if_unmatched: bool = False,
        propagation: str | None = None,
        cuts: str | tuple[int, ...] = "auto",
        remember: bool = False,
        memory: int | None = None,
        restorer: "Upscaler | None" = None,
        soften: float | None = None,
        progress: Callable[[str], object] = print,
    ):
        """
        Args:
            key_stride: frames from one key-frame to the next.
            rules: which references a key-frame gets.
            matcher: "gmflow", "flow", or a folder of matches; see `load_matcher`.
            backbone_only_if_unmatched: if stills are given, only they are references, and LRRF is not run in
                a shot in which none of them matches.
            propagation: how detail gets from key-frames to the other frames, one of `PROPAGATIONS`; None: as
                the weights say.
            cuts: places of the first frames of new shots; "auto" to detect them, "none" for a single shot.
            remember: keep all matches for another run over the same clip.
            memory: bytes of memory to keep to; None: what is free, less a margin. On a CPU, those of the
                whole process; on a GPU, those of the device.
            restorer: for frames of the same size, in and out.
            soften: the standard deviation of a blur of the frames, in LR pixels; 0: none. None: it is found
                out, for backbones on which that has been measured.
            progress: receives lines of text while the matcher's weights are fetched.

        Raises:
            InputError: `propagation` is unknown, or the matcher cannot be loaded.
        """
        if propagation is not None and propagation not in PROPAGATIONS:
            raise InputError(f"propagation {propagation}: choose from {', '.join(PROPAGATIONS)}")
        if propagation is not None and model.refined:
            net = model.net.clone(parent=None, name=None, propagation=propagation)
            model = replace(model, net=net)
        self.model = model
        self.propagation = model.net.propagation if model.refined else None
        self.choices: dict[int, list[ReferenceChoice]] = {}
        self.notes = list(model.notes)
        self.on_key_frame: Callable[[int, list[tuple[ReferenceChoice, Reference]]], object] | None = None
        self.cuts: set[int] = set()
        self.backbone_only_frames = 0
        self._key_stride, self._requested_cuts = key_stride, cuts
        self._backbone_only_if_unmatched = backbone_only_if_unmatched
        self._programs = Programs(model.net, model.params)
        self._frame_count: int | None = None
        self._still_count = 0
        self._set_sizes(size, out_size)
        self._finder: ReferenceFinder | None = None
        if model.refined:
            rules = rules or ReferenceRules()
            if matcher not in ("gmflow", "flow"):
                # A folder of matches has stills, but not the clip's own frames.
                rules = replace(rules, self_refs=0)
            chosen = make_matcher(model.net, model.params, matcher, progress)
            self._finder = ReferenceFinder(chosen, rules, remember=remember)
        self.memory = usable_memory() if memory is None else memory
        self.restorer, self._base = restorer, base_memory(model.refined, restores=restorer is not None)
        self._reserved, self.soften, self.softening = 0, soften, soften or 0.0

    def reserve(self, held: int) -> None:
        """Leave so many bytes of `memory` to others, such as an encoder; they take none of a GPU's."""
        self._reserved = held if self._base else 0

    def _set_sizes(self, size: tuple[int, int], out_size: tuple[int, int]) -> None:
        self.size, self.out_size = size, out_size
        native, shrink = self.model.net.backbone.scale, self.model.net.backbone.shrink
        # Networks that work on reduced frames need frames that reduce to whole pixels.
        self._margin = (-size[0] % shrink, -size[1] % shrink)
        self._lr_size = (size[0] + self._margin[0], size[1] + self._margin[1])
        whole = (self._lr_size[0] * native, self._lr_size[1] * native)
        self._hr_size = out_size if self.model.arbitrary else whole
        self._grid = whole_grid(size, out_size) if self.model.arbitrary else None
        # By the clip's frames, the number of stills and the memory: a run is done as it was checked.
        self._plans: dict[tuple[int | None, int, int, int], MemoryPlan] = {}

    def for_frames(self, size: tuple[int, int]) -> "Upscaler":
        """An upscaler with the same options and networks, and about the same scale, for frames of a size."""
        resized = copy(self)
        factors = [n / own for n, own in zip(self.out_size, self.size, strict=True)]
        resized._set_sizes(size, (round(size[0] * factors[0]), round(size[1] * factors[1])))
        resized.restorer = None if self.restorer is None else self.restorer.for_frames(size)
        resized.choices, resized.cuts, resized.notes = {}, set(), []
        resized.on_key_frame = resized._frame_count = None
        resized.soften = self.softening
        return resized

    def frames(
        self,
        frames: Iterable[Float[np.ndarray, "h w 3"]],
        stills: Iterable[Still] = (),
        advance: Callable[[str], None] = lambda _: None,
        wanted: range | None = None,
    ) -> Iterator[Float[np.ndarray, "H W 3"]]:
        """Upscaled frames, float32 RGB in [0, 1], in order, each as soon as it is ready.

        Args:
            frames: RGB in [0, 1], read as they are needed.
            stills: the user's reference images.
            advance: called with the kind of each finished piece of work; see `work`.
            wanted: places of the frames to make; the others are only context. None: all.
        """
        for segment in self.segments(frames, stills, advance, wanted):
            yield from segment.images

    def segments(
        self,
        frames: Iterable[Float[np.ndarray, "h w 3"]],
        stills: Iterable[Still] = (),
        advance: Callable[[str], None] = lambda _: None,
        wanted: range | None = None,
    ) -> Iterator[Segment]:
        """The same frames window by window, in order.

        No segment depends on whether the images of others are taken. So whoever has the images of a segment
        from an earlier run leaves them out. `choices` and `backbone_only_frames` then lack that segment.

        Args:
            frames, stills, advance, wanted: as for `frames`.
        """
        self.choices.clear()
        self.backbone_only_frames = 0
        stills = list(stills)
        layout = self.memory_plan(self._frame_count, len(stills)).layout
        self._begin_shots()
        if self.restorer is not None:
            frames = self.restorer.frames(frames, advance=lambda _: advance("restore"))
        frames = self._softened(frames)
        detects_cuts = self._finder is not None and min(self.size) >= MIN_SIDE_FOR_CUTS
        if self._requested_cuts == "auto" and detects_cuts:
            frames = watch_cuts(frames, self.cuts)
        chain = WindowChain(self._programs, layout, self._grid, self._overlap(), advance)
        with returned_after_compiling():
            for window in self._windows(map(self._padded, frames)):
                chain.begin(window)
                places = range(window.first + window.keep.start, window.first + window.keep.stop)
                places = places if wanted is None else overlapping(places, wanted)
                images = self._window_images(window, places, chain, stills, advance)
                yield Segment(places, to_host(map(self._to_output, images)))

    def _softened(self, frames: Iterable[Float[np.ndarray, "h w 3"]]) -> Iterator[Float[np.ndarray, "h w 3"]]:
        if self.soften is None and self.model.backbone.name in MEASURED:
            # As many as the first window holds.
            first, frames = read_ahead(frames, self._window_length())
            self.softening = find_softening(first, self._upscale_part)
        return (soften(frame, self.softening) for frame in frames) if self.softening else iter(frames)

    def _upscale_part(
        self, frames: Sequence[Float[np.ndarray, "h w 3"]]
    ) -> Iterator[Float[np.ndarray, "H W 3"]]:
        """Frames of any size, upscaled by only the backbone."""
        model, size = self.model.without_components(), frames[0].shape[:2]
        native = model.net.backbone.scale
        out = size[0] * native, size[1] * native
        return Upscaler(model, size, out, cuts="none", memory=self.memory, soften=0.0).frames(frames)

    def _padded(self, frame: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "H W 3"]:
        down, right = self._margin
        return np.pad(frame, ((0, down), (0, right), (0, 0)), "edge") if down or right else frame

    def _to_output(self, image: Image) -> Float[Array, "1 _ _ 3"]:
        return to_size(jnp.asarray(self._without_padding(image)), self.out_size)

    def _without_padding(self, image: Image) -> Float[Array, "_ _ _ 3"] | Float[np.ndarray, "_ _ _ 3"]:
        if not any(self._margin):
            return image
        height, width = (n * self.model.net.backbone.scale for n in self.size)
        return image[:, :height, :width]

    def memory_plan(self, count: int | None = None, stills: int = 0) -> MemoryPlan:
        """How frames are cut and what waits on disk, so that a run keeps to `memory`.

        Args:
            count: frames of the clip; None: unknown.
            stills: how many stills there are.

        Raises:
            InputError: even the smallest tiles need more memory, or there is too little room on the disk.
        """
        key = count, stills, self.memory, self._reserved
        if key not in self._plans:
            workload = self._workload(count, stills)
            if self.restorer is None:
                self._plans[key] = plan_memory(workload, self.memory)
            else:
                restoring = self.restorer._workload(count, 0)
                self._plans[key], self.restorer.memory = plan_two(workload, restoring, self.memory)
        return self._plans[key]

    def _workload(self, count: int | None, stills: int) -> Workload:
        shrink = self.model.net.backbone.shrink
        length = self._window_length()
        references = 0
        if self._finder is not None:
            self_refs = self._finder.rules.self_refs
            # Of many stills, few are matched with a key-frame.
            references = max(min(stills, MAX_MATCHED), SELF_REFERENCES if self_refs is None else self_refs)
        return Workload(
            self.model.net,
            (self._lr_size[0] // shrink, self._lr_size[1] // shrink),
            self._lr_size,
            self._hr_size,
            length if count is None else min(length, count),
            self._key_stride,
            references,
            self._base,
            0 if count is not None and count <= length else 2 * self._overlap(),
            self._reserved,
            self._finder is not None and self._finder.matches_by_flow,
        )

    def describe_tiles(self, stills: int) -> str:
        """The tiles of the clip that was checked, in words; these change frames, a little.

        Args:
            stills: how many stills there are.
        """
        layouts = [self.memory_plan(self._frame_count, stills).layout]
        if self.restorer is not None:
            layouts.append(self.restorer.memory_plan(self._frame_count).layout)
        sizes = (part.tile for layout in layouts for part in (layout.recurrence, layout.detail))
        return " and ".join(f"{width}x{height}" for height, width in sizes)

    def check(self, count: int, stills: Iterable[Still]) -> None:
        """Check, before any work on a clip of `count` frames, whether it can be done.

        Raises:
            InputError: a still's moment is outside the clip, a file of matches is missing, or `memory` or the
                disk is too small.
        """
        stills = list(stills)
        self._frame_count, self._still_count = count, len(stills)
        if self.restorer is not None:
            self.restorer._frame_count = count
        self.memory_plan(count, len(stills))
        for still in stills:
            if still.moment is not None and not 0 <= still.moment < count:
                raise InputError(
                    f"{still.name}: belongs to frame {still.moment}, but the clip has frames 0 to {count - 1}"
                )
        if self._finder is not None:
            self._begin_shots()
            for window in self._windows(range(count)):
                for key in self._key_frames(window, stills):
                    self._finder.check_matches(key, offered_stills(key, stills, self.cuts))

    def work(self, count: int, stills: Sequence[Still] = (), done: int = 0) -> dict[str, int]:
        """How many pieces of work of each kind ("features", "decode" ...) a clip of `count` frames takes.

        Args:
            done: how many frames there are already from an earlier run.
        """
        total: dict[str, int] = {}

        def add(kind: str, pieces: int) -> None:
            total[kind] = total.get(kind, 0) + pieces

        if self.restorer is not None:
            # All its frames pass, whatever is done.
            add("restore", sum(self.restorer.work(count).values()))
        self._begin_shots()
        net, layout = self.model.net, self.memory_plan(count, len(stills)).layout
        left_out = 0  # Frames of the window before, whose features are needed too.
        for window in self._windows(range(count)):
            held, kept = len(window.frames), len(window.keep)
            if window.first + window.keep.stop <= done:
                left_out = held
                continue
            add("features", (left_out + held) * len(net.backbone.branches) * layout.recurrence.count)
            left_out = 0
            add("decode", kept)
            if self._finder is None:
                continue
            key_frames = self._key_frames(window, stills)
            if net.propagation != "carry":
                add("backward", held * layout.detail.count)
                add("forward", window.keep.stop * layout.detail.count)
            elif net.hrip_reach:
                add("backward", len(key_frames) * (2 * net.hrip_reach + 1) * layout.detail.count)
                add("forward", len(key_frames) * (net.hrip_reach + 1) * layout.detail.count)
            if net.propagation != "hrip":
                add("carry", kept if net.propagation == "carry" else held)
            for key in key_frames:
                offered = len(offered_stills(key, stills, self.cuts))
                only = self._stills_only(len(stills))
                free_slots = 0 if only else self._finder.rules.free_slots(offered, offered)
                exclude = self._finder.rules.exclude
                self_references = select_self_references(key, window.first, held, exclude, free_slots)
                add("match", offered + len(self_references))
                add("fuse", int(offered + len(self_references) > 0))
        return total

    def costs(self, count: int | None = None, stills: int = 0) -> dict[str, float]:
        """Rough cost of a piece of work of each kind, in 10^9 multiply-adds, to estimate the time left.

        Args:
            count, stills: as for `memory_plan`; by default, those of the clip that was checked.
        """
        stills = stills or self._still_count
        layout = self.memory_plan(self._frame_count if count is None else count, stills).layout
        restore = {}
        if self.restorer is not None:
            pieces = self.restorer.work(count or self._frame_count or self._window_length())
            prices = self.restorer.costs(count)
            restore["restore"] = sum(n * prices[kind] for kind, n in pieces.items()) / sum(pieces.values())
        return restore | piece_costs(self.size, self._hr_size, self.model.net.backbone.step_cost, layout)

    def window_count(self, count: int) -> int:
        """How many windows a clip of `count` frames is cut into."""
        return sum(1 for _ in self._windows(range(count)))

    def _windows(self, frames: Iterable[Any]) -> Iterator[Window]:
        return windows(frames, self._window_length(), self._overlap())

    def _overlap(self) -> int:
        """Frames that windows share on either side."""
        return overlap(self._key_stride) if self.model.refined else OVERLAP

    def _window_length(self) -> int:
        """Frames of a window."""
        net = self.model.net
        propagation = net.propagation if self.model.refined else None
        channels = net.backbone.held_channels
        return window_length(self.size, self._hr_size, channels, propagation, self._overlap())

    def _key_frames(self, window: Window, stills: Sequence[Still]) -> list[int]:
        # A folder of matches has them only for the regular key-frames.
        regular = self._finder is None or self._finder.precomputed
        cuts = set() if regular else self.cuts
        count = len(window.frames)
        places = select_key_frames(window.first, count, self._key_stride, ends=window.last, cuts=cuts)
        if regular:
            return places
        return sorted({*places, *bound_moments(stills, range(window.first, window.first + count))})

    def _window_images(
        self,
        window: Window,
        places: range,
        chain: WindowChain,
        stills: list[Still],
        advance: Callable[[str], None],
    ) -> Iterator[Image]:
        features = chain.features(window)
        wanted = range(places.start - window.first, places.stop - window.first)
        if self._finder is None:
            yield from backbone_frames(features, wanted, advance)
            return
        hold, softened = features.holder.hold, self.softening > 0.0
        clip = WindowFrames(window.first, features.frames, features.image, hold, softened)
        scale = (self._hr_size[0] / self._lr_size[0], self._hr_size[1] / self._lr_size[1])

        def notify(place: int, found: list[Reference], choices: list[ReferenceChoice]) -> None:
            # Windows overlap: only the one that makes the frame reports its references.
            if place in window.keep:
                self.choices[window.first + place] = choices
                if self.on_key_frame is not None:
                    used = [choice for choice in choices if choice.used]
                    self.on_key_frame(window.first + place, list(zip(used, found, strict=True)))

        references = WindowReferences(
            self._finder,
            clip,
            lambda place: offered_stills(window.first + place, stills, self.cuts),
            scale,
            advance,
            notify,
            stills_only=self._stills_only(len(stills)),
        )
        programs, damage = self._programs, references.damage
        key_frames = set(self._key_frames(window, stills))
        shares = None
        if stills and not self._finder.precomputed:
            motion = WindowMotion(window.frames, features.detail_flow, window.first, self.cuts)
            bound = set(bound_moments(stills, range(window.first, window.first + len(window.frames))))
            free = [still.image for still in stills if still.moment is None]
            carried = self.model.net.propagation != "hrip"
            key_frames, shares = adapt_key_frames(
                motion, key_frames, bound, free, self._key_stride, carried=carried
            )
        for shot in shots(window.first, len(window.frames), self.cuts):
            span = range(shot.start - window.first, shot.stop - window.first)
            keep = overlapping(span, wanted)
            if not keep:
                continue
            shot_key_frames = sorted(key - window.first for key in key_frames if key in shot)
            taken = None if shares is None else {key: shares[window.first + key] for key in shot_key_frames}
            if self._stills_only(len(stills)) and not references.uses_any_still(shot_key_frames, keep):
                self.backbone_only_frames += len(keep)
                yield from backbone_frames(features, keep, advance)
            else:
                yield from refined_frames(
                    programs, features, span, keep, references.at, shot_key_frames, advance, taken, damage
                )

    def _stills_only(self, stills: int) -> bool:
        """Whether the clip's own frames are never used as references."""
        assert self._finder is not None
        return self._backbone_only_if_unmatched and stills > 0 and not self._finder.rules.self_refs

    def _begin_shots(self) -> None:
        self.cuts.clear()
        if not isinstance(self._requested_cuts, str):
            self.cuts.update(self._requested_cuts)
