"""Inference over one window: fuses references into key-frames, propagates their detail and decodes frames.

`WindowFeatures` holds the LR features of all frames of the window. If HRIP runs, the residuals of its
backward pass are also held for every frame of a shot (bfloat16; on the device, or on disk). If detail is
carried (`Carrier`), the detail of two key-frames is held. HR features never exist for more than a few frames,
and where frames are cut into tiles, for one tile of these.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, islice

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ldip_jax.inference.programs import (
    Programs,
    add,
    add_share,
    blend_sides,
    least_sharpness,
    replace_share,
    routes_outwards,
    subtract,
)
from ldip_jax.inference.spill import Held, Spilled, crop, load
from ldip_jax.inference.streaming import Advance, WindowFeatures
from ldip_jax.inference.tile_crops import cache_allowance, detail_crop, reference_crop
from ldip_jax.inference.tiles import Tile
from ldip_jax.models.carry import REPLACED, Route
from ldip_jax.models.ref_align import Reference

Features = Float[Array, "1 H W 64"]
Image = Float[Array, "1 H W 3"] | Float[np.ndarray, "1 H W 3"]
# Bytes of references' features that are kept from layer to layer; others are extracted once per layer.
MAX_CACHED_BYTES = 2**28
References = Callable[[int], list[Reference]]
"""From a key-frame's place in the window to its references; without any, the key-frame stays as it is."""


def backbone_frames(window: WindowFeatures, keep: range, advance: Advance) -> Iterator[Image]:
    """Images of the frames in `keep`, without LRRF."""
    for i in keep:
        yield _decode_frame(window, i, lambda tile, i=i: window.hr(i, tile))
        advance("decode")


def _decode_frame(window: WindowFeatures, place: int, features: Callable[[Tile], Features]) -> Image:
    """A frame's image from the HR features of its tiles; a single tile's stays on the device."""
    if len(window.tiles) == 1:
        (tile,) = window.tiles
        return window.in_flight.add(window.decode(features(tile), place, tile))
    image = np.empty((1, *window.size, 3), np.float32)
    for tile in window.tiles:
        there = window.hr_tile(tile)
        made = np.asarray(window.decode(features(tile), place, tile))
        image[there.keep.index] = made[there.keep.within(there.read).index]
    return image


def refined_frames(
    programs: Programs,
    window: WindowFeatures,
    shot: range,
    keep: range,
    references_of: References,
    key_frames: Sequence[int],
    advance: Advance,
    shares: Mapping[int, float] | None = None,
    damage_of: Callable[[int], float] = lambda key: 0.0,
) -> Iterator[Image]:
    """Images of the frames in `keep`, with LRRF; no detail comes from outside the shot.

    Args:
        shot: the part of the shot in this window, as places in the window.
        keep: the frames to make, within the shot.
        references_of: called once for each key-frame that is needed.
        key_frames: the shot's key-frames, as places in the window, ascending.
        shares: how much of its detail each key-frame takes, by place; None: all.
        damage_of: how damaged a key-frame is, in [0, 1]; called after `references_of`.
    """
    net = programs.net
    reach = net.hrip_reach if net.propagation == "carry" else 0

    def detail(key: int) -> Held | None:
        """A key-frame's detail, ready to be carried."""
        found = references_of(key)
        if not found:
            return None

        def of(tile: Tile) -> Array:
            hr, box = window.hr(key, tile), window.hr_tile(tile).read
            parts = [reference_crop(one, box) for one in found]
            spills = window.holder.spills
            allowed = cache_allowance(parts, box, window.size) if spills else MAX_CACHED_BYTES
            features = refine(programs, hr, parts, allowed)
            if reach:
                near = range(max(shot.start, key - reach), min(shot.stop, key + reach + 1))
                current = {key: features}
                passes = hrip(programs, window, near, lambda i: current.get(i), key + 1, advance, tile)
                features = list(passes)[-1]
            added = subtract(features, hr)
            added = added if shares is None else added * shares[key]
            # Two damaged versions of a place are better than one.
            if net.propagation != "hrip" and damage_of(key):
                added = add_share(added, hr, REPLACED * damage_of(key))
            return window.in_flight.add(added)

        made = window.assemble(of)
        advance("fuse")
        return made

    # HRIP finishes one tile in all frames before the next, so the details of all key-frames are kept.
    by_tile = net.propagation != "carry" and len(window.tiles) > 1
    if net.propagation == "hrip":
        details = KeyFrameDetails(window, key_frames, detail)
    else:
        details = Carrier(programs, window, key_frames, detail, damage_of, keep_all=by_tile)

    def refined(place: int, tile: Tile) -> Features | None:
        found = details.at(place, tile)
        return None if found is None else add(window.hr(place, tile), found)

    if net.propagation == "carry":
        for i in keep:

            def carried(tile: Tile, i: int = i) -> Features:
                features = refined(i, tile)
                return window.hr(i, tile) if features is None else features

            image = _decode_frame(window, i, carried)
            advance("carry")
            advance("decode")
            yield image
        return
    pictures: dict[int, Spilled] = {}
    for tile in window.tiles:

        def current(i: int, tile: Tile = tile) -> Features | None:
            features = refined(i, tile)
            if net.propagation == "both" and tile is window.tiles[0]:
                advance("carry")
            return features

        made = hrip(programs, window, shot, current, keep.stop, advance, tile)
        for i, hr in zip(range(shot.start, keep.stop), made, strict=True):
            if i not in keep:
                continue
            image = window.in_flight.add(window.decode(hr, i, tile))
            if not by_tile:
                advance("decode")
                yield image
                continue
            if i not in pictures:
                pictures[i] = window.holder.empty((1, *window.size, 3), np.float32)
            there = window.hr_tile(tile)
            pictures[i].write(np.asarray(image)[there.keep.within(there.read).index], there.keep)
    if by_tile:
        for i in keep:
            advance("decode")
            yield pictures.pop(i).read()


def hrip(
    programs: Programs,
    window: WindowFeatures,
    frames: range,
    features_of: Callable[[int], Features | None],
    stop: int,
    advance: Advance,
    tile: Tile | None = None,
) -> Iterator[Features]:
    """HRIP over consecutive frames, as if there were no others: its features of the frames before `stop`.

    Args:
        frames: the frames, as places in the window.
        features_of: gives a frame's features before HRIP; None: the backbone's own. Called once for each
            frame, from the last to the first.
        stop: the first frame whose features are not needed.
        tile: the part of the frames; None: all of it.
    """
    tile = tile or window.tiles[0]
    grid = window.grid_of(tile)
    residuals: dict[int, Held] = {}
    previous = None
    for i in reversed(frames):
        hr = window.hr(i, tile)
        features = features_of(i)
        features = hr if features is None else features
        # Outside the span, flow and features are zero.
        flow = window.detail_flow(i, i + 1 if i + 1 in frames else -1, tile)
        previous = jnp.zeros_like(hr) if previous is None else previous
        previous = programs.propagate(True, features, previous, flow, grid)
        residuals[i] = window.holder.hold(subtract(previous, hr))
        window.in_flight.add(previous)
        advance("backward")
    assert previous is not None, "a span holds frames"
    previous = jnp.zeros_like(previous)
    for i in range(frames.start, stop):
        features = add(window.hr(i, tile), load(residuals.pop(i)))
        flow = window.detail_flow(i, i - 1 if i - 1 in frames else -1, tile)
        previous = programs.propagate(False, features, previous, flow, grid)
        advance("forward")
        yield previous


def refine(
    programs: Programs,
    hr: Float[Array, "1 H W 64"],
    references: list[Reference],
    max_cached_bytes: int = MAX_CACHED_BYTES,
) -> Float[Array, "1 H W 64"]:
    """Ref-Align and Ref-Fusion for one key-frame; without references, its features stay as they are.

    Args:
        max_cached_bytes: bytes of references' features that are kept from layer to layer.
    """
    if not references:
        return hr
    assert programs.net.lrrf is not None
    query = programs.query(hr)
    # Every layer needs the features of every reference.
    kept: dict[int, Array] = {}
    held = 0
    for layer in range(programs.net.lrrf.layers):
        state = programs.start(query)
        for number, reference in enumerate(references):
            features = kept.get(number)
            if features is None:
                features = programs.extract(query, reference)
                if held + features.nbytes <= max_cached_bytes:
                    kept[number], held = features, held + features.nbytes
            state = programs.absorb(layer, query, state, features, reference)
        query, best = programs.fuse(layer, query, state), state.best
    return programs.finish(hr, query, best, jnp.ones((1,), jnp.float32))


class KeyFrameDetails:
    """The detail of key-frames, found when it is first asked for; other frames have none."""

    def __init__(
        self, window: WindowFeatures, key_frames: Sequence[int], detail: Callable[[int], Held | None]
    ):
        """
        Args:
            key_frames: the shot's key-frames, as places in the window.
            detail: gives a key-frame's detail, or None if it has none.
        """
        self._window, self._key_frames, self._detail = window, frozenset(key_frames), detail
        self._held: dict[int, Held | None] = {}

    def at(self, place: int, tile: Tile | None = None) -> Array | None:
        """The detail at a key-frame; None at other frames, and at key-frames that have none."""
        if place not in self._key_frames:
            return None
        if place not in self._held:
            self._held[place] = self._detail(place)
        tiles = self._window.tiles
        found = self._held[place] if len(tiles) > 1 else self._held.pop(place)
        return None if found is None else crop(found, self._window.hr_tile(tile or tiles[0]).read)


class Carrier:
    """Carries the detail of key-frames to the frames of one shot; see `models/carry.py`.

    Frames may be asked for in ascending or descending order. The detail of the key-frames on either side is
    held, and the LR routes to these.
    """

    def __init__(
        self,
        programs: Programs,
        window: WindowFeatures,
        key_frames: Sequence[int],
        detail: Callable[[int], Held | None],
        damage_of: Callable[[int], float] = lambda key: 0.0,
        keep_all: bool = False,
    ):
        """
        Args:
            key_frames: the shot's key-frames, as places in the window.
            detail: gives a key-frame's detail, or None if it has none. If the key-frame is damaged, the
                detail contains the share `REPLACED` times the damage of its HR features.
            damage_of: how damaged a key-frame is, in [0, 1]; called after `detail`.
            keep_all: hold everything, because all frames will be asked for again, for another tile.
        """
        self._programs, self._window = programs, window
        self._detail, self._damage_of = detail, damage_of
        self._key_frames, self._keep_all = sorted(key_frames), keep_all
        self._held: dict[int, Held] = {}
        self._without_detail: set[int] = set()
        # By frame: key-frames, and places in these and weights at each of the frame's pixels.
        self._located: dict[int, list[tuple[int, Held, Held]]] = {}
        # By key-frame and side (1 after it, -1 before it), from its neighbour outwards: the routes that are
        # still to come, and flow and confidence of those that are known.
        self._routes: dict[tuple[int, int], tuple[Iterator[Route], list[tuple[Held, Held]]]] = {}

    def at(self, place: int, tile: Tile | None = None) -> Array | None:
        """The detail at a frame, float32; None if no key-frame of the shot has any."""
        before = self._nearest([key for key in reversed(self._key_frames) if key <= place])
        after = self._nearest([key for key in self._key_frames if key >= place])
        sides = {key for key in (before, after) if key is not None}
        if not self._keep_all:
            self._forget(sides, place)
        if not sides:
            return None
        box = self._window.hr_tile(tile or self._window.tiles[0]).read
        if place in sides:
            found = crop(self._held[place], box).astype(jnp.float32)
            return self._without_features({place: jnp.ones((1, 1, 1, 1))}, found, place, tile)
        if place not in self._located:
            self._located[place] = self._locate(place, before, after, sides)
        made, taken = None, {}
        for key, warp, weight in self._located[place]:
            detail, places, taken[key] = detail_crop(self._held[key], crop(warp, box), crop(weight, box))
            one = self._programs.sample_detail(detail, places, taken[key])
            made = one if made is None else made + one
        assert made is not None, "a place is found in at least one key-frame"
        return self._window.in_flight.add(self._without_features(taken, made, place, tile))

    def _without_features(
        self, weights: Mapping[int, Array], carried: Array, place: int, tile: Tile | None
    ) -> Array:
        """What is carried to a frame, minus the part of its features that damaged key-frames' replace.

        Args:
            weights: of the key-frames, at each pixel.
            carried: the sum of the details, weighted.
        """
        shares = [REPLACED * self._damage_of(key) for key in weights]
        if not any(shares):
            return carried
        return replace_share(carried, self._window.hr(place, tile), jnp.array(shares), list(weights.values()))

    def _locate(
        self, place: int, before: int | None, after: int | None, sides: set[int]
    ) -> list[tuple[int, Held, Held]]:
        """The places of a frame's pixels in the key-frames on both sides, and their weights."""
        window, hold = self._window, self._window.holder.hold
        this_frame = window.frames[place], window.image(place)
        warps, confidences = {}, {}
        for key in sides:
            route, damage, least = self._route(place, key), self._damage_of(key), None
            if damage:
                least = least_sharpness(window.speed(place), window.speed(key), route, jnp.float32(damage))
            warp, confidences[key] = self._programs.locate(
                *this_frame, window.frames[key], window.image(key), route, least
            )
            warps[key] = hold(window.in_flight.add(warp))
        shares = dict.fromkeys(sides, 1.0)
        if before is not None and after is not None:
            shares = {before: (after - place) / (after - before), after: (place - before) / (after - before)}
        by_side = jnp.array([[shares[key], self._damage_of(key)] for key in confidences])
        weights = blend_sides(list(confidences.values()), *by_side.T)
        return [(key, warps[key], hold(weight)) for key, weight in zip(confidences, weights, strict=True)]

    def _nearest(self, key_frames: Sequence[int]) -> int | None:
        """The first of these key-frames that has detail."""
        for key in key_frames:
            if key not in self._held and key not in self._without_detail:
                detail = self._detail(key)
                if detail is None:
                    self._without_detail.add(key)
                else:
                    self._held[key] = detail
            if key in self._held:
                return key
        return None

    def _forget(self, sides: set[int], place: int) -> None:
        self._held = {key: detail for key, detail in self._held.items() if key in sides}
        self._routes = {side: routes for side, routes in self._routes.items() if side[0] in sides}
        self._located = {known: found for known, found in self._located.items() if known == place}

    def _route(self, place: int, key: int) -> Route:
        """The route from a frame to a key-frame, at LR size."""
        side = 1 if place > key else -1
        if (key, side) not in self._routes:
            outwards = routes_outwards(key, count(key + side, side), self._window.detail_flow)
            self._routes[key, side] = (outwards, [])
        outwards, known = self._routes[key, side]
        for route in islice(outwards, max(0, abs(place - key) - len(known))):
            flow, confidence = map(self._window.holder.hold, route)
            known.append((flow, confidence))
        return Route(*map(load, known[abs(place - key) - 1]))
