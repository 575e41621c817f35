"""Plans how frames are cut into tiles, and what waits on disk, so that a run keeps to its memory.

The figures below were measured with the compiler's memory analysis and checked against the peak of whole
processes; see docs/performance.md. They count float32, on a CPU.
"""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace

import jax

from ldip_jax.errors import InputError
from ldip_jax.inference.engine import MAX_CACHED_BYTES
from ldip_jax.inference.keyframe_motion import REACH
from ldip_jax.inference.streaming import TileLayout
from ldip_jax.inference.tiles import Size, Tiling, tilings, whole
from ldip_jax.memory import SHARE, free_memory, resident, show_size
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.networks.spynet import SPyNet

# What compiling and compiled programs take on a CPU: only the backbone; with LRRF and a matcher.
COMPILED, COMPILED_LRRF = 450 * 2**20, 920 * 2**20
# Bytes per pixel of an LR frame: a frame; a flow; the flow network, but for its bands.
FRAME, FLOW, FLOW_NETWORK, FLOW_BANDS = 12, 8, 260, 96 * 2**20
# Bytes per HR pixel. PICTURE: an image on its way to the encoder. HEAD: features and decoding, only the
# backbone. LOCATE: matching, refinement and carry of whole images, but for bands, which take LOCATE_BANDS
# bytes; measured with bands: at most 54 at 7680x4320 and 71 at 3840x2160. MATCH_BY_FLOW: all of that if the
# flow network matches, because it compares whole images in both directions. LRRF, LRRF_TILE: Ref-Fusion or
# HRIP, of whole frames, and of tiles, which read more of references than they show. ANCHORS: images of
# key-frames and a reference, whole, beside a tile. WAITING: of each reference. DETAIL: of each key-frame,
# and of each frame that HRIP passes. IMAGE: of each frame.
PICTURE, HEAD, LRRF, LRRF_TILE, ANCHORS = 48, 380, 1700, 2600, 24
LOCATE, LOCATE_BANDS, MATCH_BY_FLOW = 48, 2**28, 190
WAITING, DETAIL, IMAGE = 24, 128, 6
# Halos, in pixels of LR features. The recurrence has no finite reach: what HALO leaves of its error is in
# docs/performance.md. After it, convolutions reach no further than DETAIL_HALO, and HRIP HRIP_HALO.
HALO, DETAIL_HALO, HRIP_HALO = 32, 4, 24
# Tiles begin at multiples of this, in pixels of LR features, and keep at least LEAST pixels along a side.
MULTIPLE, MIN_KEPT = 8, 32
# Bytes of frames that may wait to be processed, and of those that may wait to be written; or this many
# frames.
QUEUE, MIN_QUEUE = 2**28, 2


@dataclass(frozen=True)
class MemoryPlan:
    """How a clip is processed.

    Attributes:
        layout: tiles, and whether what waits is kept on disk.
        window_length: frames of a window.
        budget: bytes of memory that the run may use.
        memory: bytes of memory that it is expected to use.
        disk: bytes of the temporary folder that it is expected to use.
        read_ahead, write_behind: how many frames may wait to be processed and to be written while others are
            processed; 0 if there is no memory for that.
    """

    layout: TileLayout
    window_length: int
    budget: int
    memory: int
    disk: int
    read_ahead: int = 0
    write_behind: int = 0


@dataclass(frozen=True)
class Workload:
    """What decides how much memory a run takes.

    Attributes:
        net: the networks.
        lr_size: (height, width) of LR features.
        frame_size: (height, width) of the frames.
        hr_size: (height, width) of HR features.
        window_length: frames of a window.
        key_stride: frames from one key-frame to the next.
        references: at most this many at a key-frame.
        base_memory: bytes that the process holds before it begins.
        shared_frames: those whose features a window passes on to the next one.
        reserved: bytes that others take, such as an encoder.
        matches_by_flow: whether the flow network matches references, in whole images.
    """

    net: LDIP
    lr_size: Size
    frame_size: Size
    hr_size: Size
    window_length: int
    key_stride: int
    references: int
    base_memory: int
    shared_frames: int = 0
    reserved: int = 0
    matches_by_flow: bool = False

    @property
    def refined(self) -> bool:
        return self.net.lrrf is not None

    @property
    def runs_hrip(self) -> bool:
        """Whether HRIP passes detail through all frames."""
        return self.refined and self.net.propagation != "carry"

    @property
    def halo(self) -> int:
        """Of the tiles after the recurrence."""
        return HRIP_HALO if self.runs_hrip or (self.refined and self.net.hrip_reach) else DETAIL_HALO


def _area(size: Size) -> int:
    return size[0] * size[1]


def _flow_bytes(workload: Workload) -> int:
    """The flow of a pair of whole frames."""
    pixels = _area(workload.lr_size)
    need = FLOW_NETWORK * pixels + min(FLOW_BANDS, 700 * pixels)
    if workload.net.flow_net is not None and not isinstance(workload.net.flow_net, SPyNet):
        # All pixels are compared with each other, at an eighth of the size.
        need += 16 * (pixels // 64) ** 2
    return need


def _locate_bytes(workload: Workload) -> int:
    """Matching a reference, or finding a frame's places in a key-frame."""
    pixels = _area(workload.hr_size)
    if workload.matches_by_flow:
        return MATCH_BY_FLOW * pixels
    return LOCATE * pixels + min(LOCATE_BANDS, (MATCH_BY_FLOW - LOCATE) * pixels)


def _route_bytes(workload: Workload) -> int:
    """Routes to the key-frames on both sides."""
    # Key-frames move by up to REACH.
    apart = min(workload.window_length, workload.key_stride + 2 * REACH)
    return 12 * _area(workload.lr_size) * 2 * apart


def _peak_memory(workload: Workload, layout: TileLayout) -> int:
    """Peak memory of a run."""
    net, n = workload.net, workload.window_length
    lr, hr = _area(workload.lr_size), _area(workload.hr_size)
    # On a device, frames are held twice: as they were read, and on the device.
    frames = FRAME * _area(workload.frame_size) * n * (1 if layout.spill else 2)
    common = workload.base_memory + workload.reserved + frames
    step = net.backbone.step_bytes * layout.recurrence.pixels
    tile = hr * layout.detail.pixels // lr
    cut = layout.detail.count > 1
    detail = (LRRF_TILE if cut else LRRF) if workload.refined else HEAD
    after = max(detail * tile, PICTURE * hr)
    if workload.refined:
        after = max(after, _locate_bytes(workload))
        after += ANCHORS * hr if layout.spill else 0
    features = 4 * net.backbone.mid_channels * lr
    # Features of a frame from two windows, and both together.
    mixed = 3 * features if workload.shared_frames else 0
    if layout.spill:
        return common + max(_flow_bytes(workload), step, mixed, after)
    common += features * workload.shared_frames
    flows = 2 * FLOW * lr * n * (2 if net.flow_net is not None else 1)
    held = features * n
    if workload.refined:
        held += _route_bytes(workload) + IMAGE * hr * n + 2 * DETAIL * hr + WAITING * hr * workload.references
        held += DETAIL * hr * n if workload.runs_hrip else 0
        held += MAX_CACHED_BYTES
    recurrence = 4 * net.backbone.held_channels * lr * n + max(step, _flow_bytes(workload))
    return common + flows + max(recurrence, held + after)


def _peak_disk(workload: Workload, layout: TileLayout) -> int:
    """Bytes on disk at the peak of a run."""
    if not layout.spill:
        return 0
    net, n = workload.net, workload.window_length
    lr, hr = _area(workload.lr_size), _area(workload.hr_size)
    flows = 2 * FLOW * lr * n * (2 if net.flow_net is not None else 1)
    features = 4 * net.backbone.mid_channels * lr * (n + workload.shared_frames)
    recurrence = 4 * net.backbone.held_channels * layout.recurrence.pixels * n
    after = 0
    if workload.refined:
        keys = n // workload.key_stride + 2 if workload.runs_hrip else 2
        after = IMAGE * hr * n + DETAIL * hr * keys + (WAITING + 12) * hr * (workload.references + 2)
        after += _route_bytes(workload)
        if workload.runs_hrip:
            after += 2 * FRAME * hr * n + DETAIL * (hr * layout.detail.pixels // lr) * n
    return flows + features + max(recurrence, after)


def _with_queues(workload: Workload, plan: MemoryPlan) -> MemoryPlan:
    """The plan with frames that wait to be processed and to be written, as many as fit."""
    frame, hr, n = _area(workload.frame_size), _area(workload.hr_size), workload.window_length
    deep = [max(MIN_QUEUE, min(n, QUEUE // (FRAME * pixels))) for pixels in (frame, hr)]
    for ahead, behind in (deep, (MIN_QUEUE, MIN_QUEUE)):
        # One more frame is on its way in, and one on its way out to the encoder.
        memory = plan.memory + FRAME * frame * (ahead + 1) + (FRAME * (behind + 1) + PICTURE) * hr
        if memory <= plan.budget:
            return replace(plan, memory=memory, read_ahead=ahead, write_behind=behind)
    return plan


def _layouts(workload: Workload) -> Iterator[TileLayout]:
    """The ways to lay out a run, the fastest first."""
    yield TileLayout(whole(workload.lr_size), whole(workload.lr_size))
    recurrence = list(tilings(workload.lr_size, HALO, MULTIPLE, MIN_KEPT))
    detail = list(tilings(workload.lr_size, workload.halo, MULTIPLE, MIN_KEPT))
    # Memory grows with each of the two by itself, so each is as large as it can be beside the smallest other.
    smallest_recurrence, smallest_detail = _smallest(recurrence), _smallest(detail)
    yield from (TileLayout(one, smallest_detail, True) for one in recurrence)
    yield from (TileLayout(smallest_recurrence, one, True) for one in detail)


def _least_memory(workload: Workload) -> int:
    """Peak memory of a run with the layout that takes the least."""
    return min(_peak_memory(workload, layout) for layout in _layouts(workload))


def _smallest(tilings: list[Tiling]) -> Tiling:
    return min(tilings, key=lambda tiling: tiling.pixels)


def plan_memory(workload: Workload, budget: int, disk: int | None = None) -> MemoryPlan:
    """The fastest plan within a budget of memory.

    Args:
        budget: bytes of memory.
        disk: bytes free in the temporary folder; None: those that are.

    Raises:
        InputError: even the smallest tiles need more memory, or there is too little room on the disk.
    """
    plain, *spilled = _layouts(workload)
    if _peak_memory(workload, plain) <= budget:
        plan = MemoryPlan(plain, workload.window_length, budget, _peak_memory(workload, plain), 0)
        return _with_queues(workload, plan)
    least = min(_peak_memory(workload, layout) for layout in spilled)
    if least > budget:
        h, w = workload.frame_size
        smaller = f"; {advice}" if (advice := _advice(workload, budget)) else ""
        raise InputError(
            f"memory {show_size(budget)}: frames of {w}x{h} need at least {show_size(least)}{smaller}"
        )
    disk = shutil.disk_usage(tempfile.gettempdir()).free if disk is None else disk
    fit_in_memory = [layout for layout in spilled if _peak_memory(workload, layout) <= budget]
    fit_on_disk = [layout for layout in fit_in_memory if _peak_disk(workload, layout) <= disk]
    if not fit_on_disk:
        need = min(_peak_disk(workload, layout) for layout in fit_in_memory)
        raise InputError(
            f"{tempfile.gettempdir()}: {show_size(disk)} free of the {show_size(need)} that this clip needs"
            f" on disk with memory {show_size(budget)}; set TMPDIR to a larger disk, or give more memory"
        )
    recurrence, detail = (
        min(fit_on_disk, key=lambda layout: (part(layout).overhead, part(layout).pixels))
        for part in (lambda layout: layout.recurrence, lambda layout: layout.detail)
    )
    layout = TileLayout(recurrence.recurrence, detail.detail, True)
    memory, on_disk = _peak_memory(workload, layout), _peak_disk(workload, layout)
    return _with_queues(workload, MemoryPlan(layout, workload.window_length, budget, memory, on_disk))


def plan_two(workload: Workload, restoring: Workload, budget: int) -> tuple[MemoryPlan, int]:
    """The plan of a run whose frames are restored first, and the memory that restoring may use.

    Both networks hold a window at the same time. Restoring gets half of what they may use, or less if the
    rest is then too little.

    Args:
        workload: of the run itself; its base memory is that of both networks.
        restoring: of the network that restores.
        budget: bytes of memory.

    Raises:
        InputError: see `plan_memory`.
    """
    least = _least_memory(restoring)
    half = restoring.base_memory + (budget - restoring.base_memory) // 2
    for allowed in (max(half, least), least):
        restored = plan_memory(restoring, allowed)
        held = restored.memory - restoring.base_memory
        beside = replace(workload, base_memory=workload.base_memory + held)
        try:
            plan = plan_memory(beside, budget)
        except InputError:
            if allowed == least:
                raise
        else:
            return replace(plan, disk=plan.disk + restored.disk), allowed
    raise AssertionError("the last try returns or raises")


def _advice(workload: Workload, budget: int) -> str:
    """An option that makes the run fit, or ""."""
    if workload.reserved and _least_memory(replace(workload, reserved=0)) <= budget:
        held = show_size(workload.reserved)
        return f"{held} of these are the encoder's; a folder of PNG or another --codec needs less"
    if workload.refined:
        backbone_only = replace(workload, net=workload.net.clone(parent=None, name=None, lrrf=None))
        if _least_memory(backbone_only) <= budget:
            return "only the backbone (--lrrf none) fits"
    return ""


def usable_memory() -> int:
    """Bytes that a run may use by default: what the device or the machine has free, less a margin."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            return int(0.9 * (stats["bytes_limit"] - stats.get("bytes_in_use", 0)))
    return resident() + int(SHARE * free_memory())


def base_memory(refined: bool, restores: bool = False) -> int:
    """Bytes that are taken before the first frame: the process itself and its programs.

    Args:
        refined: whether LRRF runs.
        restores: whether another network restores the frames first.
    """
    if jax.local_devices()[0].platform != "cpu":
        return 0
    return resident() + (COMPILED_LRRF if refined else COMPILED) + (COMPILED if restores else 0)
