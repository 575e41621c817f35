"""LDIP over a clip of any length: frames in, upscaled frames out, a window at a time."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.inference.engine import WindowFeatures, backbone_frames, refined_frames
from ldip_jax.inference.keyframes import key_frames, self_references
from ldip_jax.inference.model import Model
from ldip_jax.inference.programs import Programs, to_size
from ldip_jax.inference.references import Choice, Clip, Found, ReferenceFinder, Rules, Still
from ldip_jax.inference.windows import Window, window_length, windows
from ldip_jax.matching.choice import choose_matcher
from ldip_jax.models.ref_align import Reference
from ldip_jax.ops.grid import whole_grid


class Upscaler:
    """One model for clips of one size. Compiled programs and the matcher's weights live as long as it does.

    Attributes:
        model: the networks and their weights.
        size, out: (height, width) of the frames in and out.
        choices: what was decided on references, by key-frame; grows while frames are made.
        spared: how many frames the backbone made alone, because no still took part; see `spare`.
        notes: lines that the user should see.
        watch: where set, called with each key-frame's place in the clip and the references that it was given.
    """

    def __init__(
        self,
        model: Model,
        size: tuple[int, int],
        out: tuple[int, int],
        *,
        key_stride: int = 8,
        rules: Rules | None = None,
        matcher: str | Path = "gmflow",
        spare: bool = False,
        remember: bool = False,
        progress: Callable[[str], object] = print,
    ):
        """
        Args:
            key_stride: frames from one key-frame to the next.
            rules: which references a key-frame gets.
            matcher: "gmflow", "flow", or a folder of matches; see `choose_matcher`.
            spare: where stills are given, leave LRRF out of a window in which none of them takes part.
            remember: keep all matches for another run over the same clip.
            progress: receives lines of text while the matcher's weights are fetched.

        Raises:
            InputError: a matcher that cannot be had.
        """
        self.model, self.size, self.out = model, size, out
        self.choices: dict[int, list[Choice]] = {}
        self.notes = list(model.notes)
        self.watch: Callable[[int, list[tuple[Choice, Reference]]], object] | None = None
        self.spared = 0
        self._key_stride, self._spare = key_stride, spare
        self._programs = Programs(model.net, model.params)
        native, shrink = model.net.backbone.scale, model.net.backbone.shrink
        # Networks that work on reduced frames need whole pixels of these.
        self._margin = (-size[0] % shrink, -size[1] % shrink)
        self._lr_size = (size[0] + self._margin[0], size[1] + self._margin[1])
        self._hr_size = out if model.arbitrary else (self._lr_size[0] * native, self._lr_size[1] * native)
        self._grid = whole_grid(size, out) if model.arbitrary else None
        self._finder: ReferenceFinder | None = None
        if model.refined:
            rules = rules or Rules()
            if matcher not in ("gmflow", "flow"):
                # A folder of matches knows the user's stills, not the clip's own frames.
                rules = Rules(0, rules.exclude, rules.threshold)
            spynet = model.params["backbone"]["spynet"]
            flow = None
            if model.net.flow_net is not None:
                flow = model.net.flow_net, model.params["flow_net"]
            chosen = choose_matcher(matcher, spynet, flow=flow, progress=progress)
            self._finder = ReferenceFinder(chosen, rules, remember=remember)

    def frames(
        self,
        frames: Iterable[Float[np.ndarray, "h w 3"]],
        stills: Iterable[Still] = (),
        advance: Callable[[str], None] = lambda _: None,
    ) -> Iterator[Float[np.ndarray, "H W 3"]]:
        """Upscaled frames, float32 in [0, 1], in order, as they are ready.

        Args:
            frames: RGB in [0, 1], read as they are needed.
            stills: the user's references.
            advance: called with the kind of each finished piece of work; see `work`.
        """
        self.choices.clear()
        self.spared = 0
        stills = list(stills)
        for window in self._windows(map(self._padded, frames)):
            for image in self._window(window, stills, advance):
                yield np.asarray(to_size(self._cropped(image), self.out))[0]

    def _padded(self, frame: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "H W 3"]:
        down, right = self._margin
        return np.pad(frame, ((0, down), (0, right), (0, 0)), "edge") if down or right else frame

    def _cropped(self, image: Float[Array, "1 H W 3"]) -> Float[Array, "1 h w 3"]:
        if not any(self._margin):
            return image
        native = self.model.net.backbone.scale
        return image[:, : self.size[0] * native, : self.size[1] * native]

    def check(self, count: int, stills: Iterable[Still]) -> None:
        """Before any work on a clip of `count` frames: whether a folder of matches has all that it needs.

        Raises:
            InputError: a file is missing.
        """
        if self._finder is not None:
            stills = list(stills)
            for window in self._windows(range(count)):
                for key in self._keys(window):
                    self._finder.check(key, stills)

    def work(self, count: int, stills: int = 0) -> dict[str, int]:
        """How many pieces of work of each kind ("features", "decode" ...) a clip of `count` frames is."""
        total: dict[str, int] = {}

        def add(kind: str, pieces: int) -> None:
            total[kind] = total.get(kind, 0) + pieces

        for window in self._windows(range(count)):
            held = len(window.frames)
            add("features", held * len(self._programs.net.backbone.branches))
            if self._finder is None:
                add("decode", len(window.keep))
                continue
            add("backward", held)
            add("forward", len(window.keep))
            rules = self._finder.rules
            for key in self._keys(window):
                free = rules.free(stills, stills)
                own = self_references(key, window.first, held, rules.exclude, free)
                add("match", stills + len(own))
                add("fuse", 1)
        return total

    def costs(self) -> dict[str, float]:
        """Rough cost of a piece of work of each kind, 10^9 multiply-adds: for a progress bar's time left."""
        lr, hr_pixels = self.size[0] * self.size[1] / 1e9, self._hr_size[0] * self._hr_size[1] / 1e9
        head = lr * 740e3 + hr_pixels * 39e3
        matching = min(1.0, 640 / max(self._hr_size)) ** 2 * hr_pixels
        return {
            "features": lr * self.model.net.backbone.step_cost,
            "decode": head,
            "backward": head + hr_pixels * 900e3,
            "forward": head + hr_pixels * 900e3,
            # The matching network, the refinement, and the reference's share of Ref-Fusion.
            "match": matching * 4.5e6 + hr_pixels * (320e3 + 500e3),
            "fuse": hr_pixels * 1.2e6,
        }

    def _windows(self, frames: Iterable[Any]) -> Iterator[Window]:
        channels = self.model.net.backbone.held_channels
        return windows(frames, window_length(self.size, self._hr_size, channels, refined=self.model.refined))

    def _keys(self, window: Window) -> list[int]:
        return key_frames(window.first, len(window.frames), self._key_stride, ends=window.last)

    def _window(
        self, window: Window, stills: list[Still], advance: Callable[[str], None]
    ) -> Iterator[Float[Array, "1 H W 3"]]:
        held = WindowFeatures(self._programs, window.frames, advance)
        finder = self._finder
        if finder is None:
            yield from backbone_frames(self._programs, held, window.keep, self._grid, advance)
            return
        images: dict[int, Array] = {}

        def image(place: int) -> Float[Array, "1 H W 3"]:
            """The backbone's own output; float16 is finer than what matching can see."""
            if place not in images:
                hr = self._programs.upscale(held.features[place], self._grid)
                made = self._programs.decode(hr, held.frames[place], self._grid)
                images[place] = jnp.clip(made, 0.0, 1.0).astype(jnp.float16)
            return images[place].astype(jnp.float32)

        clip = Clip(window.first, held.frames, image)
        scale = (self._hr_size[0] / self._lr_size[0], self._hr_size[1] / self._lr_size[1])

        def tell(place: int, found: list[Reference], choices: list[Choice]) -> None:
            # Windows overlap: the one that makes the frame is the one to ask.
            if place in window.keep:
                self.choices[window.first + place] = choices
                if self.watch is not None:
                    used = [choice for choice in choices if choice.used]
                    self.watch(window.first + place, list(zip(used, found, strict=True)))

        of_stills: dict[int, Found] = {}

        def matched(place: int) -> Found:
            """Of the user's stills; a key-frame asks once."""
            if place in of_stills:
                return of_stills.pop(place)
            return finder.of_stills(clip, place, stills, scale, advance)

        def references(place: int) -> list[Reference]:
            found, choices = finder.find(clip, place, matched(place), scale, advance)
            tell(place, found, choices)
            return found

        keys = {key - window.first for key in self._keys(window)}
        if self._spare and stills:
            # The backward pass asks for key-frames from the last to the first: none is held for long.
            for place in sorted(keys, reverse=True):
                of_stills[place] = matched(place)
                if of_stills[place][0]:
                    break
            else:
                for place, found in of_stills.items():
                    tell(place, *found)
                self.spared += len(window.keep)
                yield from backbone_frames(self._programs, held, window.keep, self._grid, advance)
                return
        yield from refined_frames(self._programs, held, window.keep, self._grid, references, keys, advance)
