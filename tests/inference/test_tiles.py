"""Frames in tiles, with maps on disk, equal whole frames, except for the recurrence."""

import gc
import os
from dataclasses import replace

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.inference import memory_plan as plans
from ldip_jax.inference import upscaler as module
from ldip_jax.inference.memory_plan import plan_memory
from ldip_jax.inference.model import load_model
from ldip_jax.inference.reference_images import Still
from ldip_jax.inference.references import ReferenceRules
from ldip_jax.inference.selection import WindowReferences
from ldip_jax.inference.spill import Holder, Spilled, crop, load
from ldip_jax.inference.streaming import TileLayout
from ldip_jax.inference.tile_crops import cache_allowance, detail_crop, reference_crop
from ldip_jax.inference.tiles import Box, Tiling, scaled_box, scaled_read, tilings, whole
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.models.carry import PROPAGATIONS
from ldip_jax.models.ref_align import Reference
from ldip_jax.ops.warp import bicubic
from tests.scenes import blocks

SIZE = (40, 48)
COUNT = 3


@pytest.mark.parametrize(
    ("size", "halo", "multiple"), [((200, 321), 32, 8), ((64, 65), 4, 8), ((7, 90), 3, 2)]
)
def test_tiles_cover_a_map_once_and_read_a_halo_around_what_they_keep(size, halo, multiple):
    layouts = list(tilings(size, halo, multiple, 8))
    assert layouts[0] == Tiling(size, size, halo, multiple)
    assert len(layouts) > 3
    for tiling in layouts:
        seen = np.zeros(size, int)
        assert len(tiling.tiles) == tiling.count
        for read, keep in tiling.tiles:
            seen[keep.index[1:]] += 1
            assert read.size == tiling.tile
            for r, k, n in zip(read, keep, size, strict=True):
                assert r.start % multiple == 0
                assert 0 <= r.start <= k.start < k.stop <= r.stop <= n
                assert k.start - r.start >= halo or r.start == 0
                assert r.stop - k.stop >= halo or r.stop == n
        np.testing.assert_array_equal(seen, 1)


@pytest.mark.parametrize("out", [(160, 192), (61, 97)])
def test_tiles_cover_a_larger_map_too(out):
    tiling = Tiling(SIZE, (24, 32), 4, 8)
    seen, sizes = np.zeros(out, int), set()
    for tile in tiling.tiles:
        read, keep = scaled_read(tile.read, SIZE, out), scaled_box(tile.keep, SIZE, out)
        seen[keep.index[1:]] += 1
        sizes.add(read.size)
        assert all(r.start <= k.start < k.stop <= r.stop for r, k in zip(read, keep, strict=True))
    np.testing.assert_array_equal(seen, 1)
    assert len(sizes) == 1


def test_spilled_maps_are_restored_and_leave_no_file(rng, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    holder = Holder(spill=True)
    maps = [jnp.asarray(rng.standard_normal((1, 9, 11, 3)), dtype) for dtype in (jnp.float32, jnp.bfloat16)]
    held = [holder.hold(values) for values in maps]
    box = Box(range(2, 7), range(3, 9))
    for values, spilled in zip(maps, held, strict=True):
        assert isinstance(spilled, Spilled)
        np.testing.assert_array_equal(load(spilled), values)
        np.testing.assert_array_equal(crop(spilled, box), values[box.index])
        np.testing.assert_array_equal(crop(values, box), values[box.index])
    assert held[1].dtype == ml_dtypes.bfloat16
    assert os.listdir(tmp_path) == []
    # Freed space is reused.
    offset = held[0]._offset
    del held, spilled
    gc.collect()
    assert holder.hold(maps[0])._offset == offset
    plain = Holder(spill=False)
    assert plain.hold(maps[0]) is maps[0]


def test_detail_is_cropped_to_the_places_of_a_tile(rng):
    detail = jnp.asarray(rng.standard_normal((1, 300, 280, 2)), jnp.float32)
    y, x = np.mgrid[100:140, 90:140].astype(np.float32)
    warp = jnp.asarray(np.stack([x + 7.25, y - 3.5], axis=-1))[None]
    weight = jnp.ones((1, 40, 50, 1))
    # One place is far away, and is ignored.
    warp = warp.at[0, 0, 0].set(jnp.array([5.0, 290.0]))
    cropped, places, weights = detail_crop(detail, warp, weight)
    assert cropped.shape == (1, 128, 128, 2)
    assert weights[0, 0, 0, 0] == 0.0
    assert weights.sum() == weight.sum() - 1
    corner = np.asarray(warp - places)[0, 5, 5].astype(int)
    np.testing.assert_array_equal(
        cropped[0], detail[0, corner[1] : corner[1] + 128, corner[0] : corner[0] + 128]
    )
    # Without it, a smaller part is enough, with the same values at all places.
    near, close, weights = detail_crop(detail, warp.at[0, 0, 0].set(warp[0, 0, 1]), weight)
    assert near.shape == (1, 64, 64, 2)
    assert weights.min() == 1.0
    np.testing.assert_array_equal(bicubic(near, close)[0, 1:], bicubic(cropped, places)[0, 1:])
    # For a whole frame, nothing is cropped.
    everywhere = jnp.zeros((1, 300, 280, 2))
    assert detail_crop(detail, everywhere, everywhere[..., :1])[0] is detail


def test_a_reference_is_cropped_to_what_a_tile_shows(rng):
    image = jnp.asarray(rng.uniform(0, 1, (1, 256, 320, 3)), jnp.float32)
    y, x = np.mgrid[:200, :240].astype(np.float32)
    warp = jnp.asarray(np.stack([x + 50, y + 40], axis=-1))[None]
    reference = Reference(image, jnp.array([[250, 300]]), warp, jnp.ones((1, 200, 240, 1)), jnp.ones(1))
    for box in (Box(range(0, 56), range(0, 56)), Box(range(144, 200), range(184, 240))):
        cropped = reference_crop(reference, box)
        assert cropped.image.shape == (1, 128, 128, 3)
        places = np.round(np.asarray(cropped.warp)[0]).astype(int)
        expected = np.asarray(image)[0, box.rows.start + 40 :, box.columns.start + 50 :][:56, :56]
        inside = np.asarray(cropped.confidence)[0, ..., 0] > 0
        shown = np.asarray(cropped.image)[0, places[..., 1].clip(0), places[..., 0].clip(0)]
        np.testing.assert_array_equal(shown[inside], expected[inside])
        # The second box reaches the end of the image, where the crop ends too.
        assert inside.mean() > 0.9
        height, width = np.asarray(cropped.size)[0]
        assert max(places[..., 1].max() - height, places[..., 0].max() - width) < 0 or not inside.all()


def test_kept_features_leave_room_for_the_largest_crop():
    def part(height, width):
        return Reference(jnp.zeros((1, height, width, 3)), *[jnp.zeros(1)] * 4)

    tile, frame = Box(range(100), range(50)), (400, 200)
    assert cache_allowance([part(128, 64)], tile, frame) == 4 * 64 * (4 * 100 * 50 - 128 * 64)
    assert cache_allowance([part(128, 64), part(200, 100)], tile, frame) == 0
    assert cache_allowance([part(64, 64)], Box(range(400), range(200)), frame) == 0


@pytest.fixture(scope="module")
def clip():
    scene = blocks(3, SIZE[0], SIZE[1] + COUNT)
    return np.stack([scene[:, place : place + SIZE[1]] for place in range(COUNT)])


def laid_out(monkeypatch, layout):
    real = plan_memory
    monkeypatch.setattr(module, "plan_memory", lambda *args: replace(real(*args), layout=layout))


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_frames_in_tiles_equal_whole_frames(model, clip, matcher, monkeypatch, propagation):
    carry, size = propagation == "carry", (16, 24)
    # HRIP needs a wide halo and is slow: tiles in one row.
    tile, halo = ((12, 20), 4) if carry else ((16, 20), 8)
    tiles = Tiling(size, tile, halo, 4)
    clip = clip[:, : size[0], : size[1]]
    stills = [Still("a", np.repeat(np.repeat(clip[2], 4, axis=0), 4, axis=1), moment=2)]
    # Key-frames are damaged, so that their features are carried too.
    monkeypatch.setattr(WindowReferences, "damage", lambda self, place: 0.5)
    # Without HRIP around key-frames, nothing after the recurrence reaches further than the halo.
    model = replace(model, net=model.net.clone(parent=None, name=None, hrip_reach=0))

    def run(layout):
        laid_out(monkeypatch, layout)
        rules, out = ReferenceRules(0), (4 * size[0], 4 * size[1])
        upscaler = Upscaler(model, size, out, key_stride=2, rules=rules, propagation=propagation, cuts="none")
        upscaler.check(COUNT, stills)
        done = []
        frames = np.stack(list(upscaler.frames(clip, stills, done.append)))
        if not carry:
            expected = upscaler.work(COUNT, stills)
            assert {kind: done.count(kind) for kind in done} == {k: n for k, n in expected.items() if n}
        return frames

    one = run(TileLayout(whole(size), whole(size)))
    spilled = run(TileLayout(whole(size), whole(size), True))
    np.testing.assert_allclose(spilled, one, atol=1e-6)
    detail = run(TileLayout(whole(size), tiles, True))
    worst = np.abs(detail - one).max()
    # Convolutions reach no further than the halo; HRIP does, a little.
    assert worst < (1e-3 if carry else 2e-2)
    everything = run(TileLayout(tiles, tiles, True))
    assert 0.0 < np.abs(everything - one).max() < 0.1
    assert np.sqrt(np.mean(np.square(everything - one))) < 2e-3


def test_the_arbitrary_scale_head_works_in_tiles(networks, clip, monkeypatch):
    model, out = load_model(str(networks.wide), str(networks.head), native=False), (61, 97)

    def run(layout):
        laid_out(monkeypatch, layout)
        return np.stack(list(Upscaler(model, SIZE, out).frames(clip[:2])))

    one = run(TileLayout(whole(SIZE), whole(SIZE)))
    # The head's convolutions reach 9 pixels of the output, and the tiles' halo is as wide.
    tiles = run(TileLayout(whole(SIZE), Tiling(SIZE, (32, 40), 8, 8), True))
    np.testing.assert_allclose(tiles, one, atol=1e-5)


def test_a_plan_keeps_within_its_budget_and_reports_the_least_possible(model, matcher, monkeypatch):
    monkeypatch.setattr(plans, "resident", lambda: 300 * 2**20)
    upscaler = Upscaler(model, (540, 960), (2160, 3840))
    roomy = upscaler.memory_plan(100, 2)
    upscaler.memory = 2**40
    assert upscaler.memory_plan(100, 2).layout.spill is False
    budgets = [n * 2**30 for n in (64, 16, 8, 4, 3)]
    counts = []
    for budget in budgets:
        upscaler.memory = budget
        plan = upscaler.memory_plan(100, 2)
        assert plan.memory <= budget == plan.budget
        assert (plan.disk > 0) == plan.layout.spill
        counts.append((plan.layout.recurrence.count, plan.layout.detail.count))
    assert counts == sorted(counts)
    assert counts[0] == (1, 1) != counts[-1]
    assert roomy.window_length == plan.window_length
    upscaler.memory = 2**30
    with pytest.raises(InputError, match=r"memory 1024M: frames of 960x540 need at least \d+M") as caught:
        upscaler.check(100, ())
    upscaler.memory = int(str(caught.value).split("at least ")[1].split("M")[0]) * 2**20
    upscaler.check(100, ())
    with pytest.raises(InputError, match=r"free of the .* that this clip needs on disk"):
        plan_memory(task_of(upscaler, monkeypatch), upscaler.memory, disk=2**20)


def test_frames_are_queued_as_far_as_memory_allows(model, matcher, monkeypatch):
    monkeypatch.setattr(plans, "resident", lambda: 300 * 2**20)
    upscaler = Upscaler(model, (540, 960), (2160, 3840))
    lr, hr = 540 * 960, 16 * 540 * 960
    upscaler.memory = 2**40
    roomy = upscaler.memory_plan(100, 2)
    assert roomy.read_ahead == min(roomy.window_length, plans.QUEUE // (12 * lr))
    assert roomy.write_behind == plans.MIN_QUEUE < plans.QUEUE // (12 * lr)
    upscaler.memory = roomy.memory - 1
    fewer = upscaler.memory_plan(100, 2)
    assert (fewer.read_ahead, fewer.write_behind) == (plans.MIN_QUEUE, plans.MIN_QUEUE)
    assert fewer.layout == roomy.layout
    # Queued frames count towards the memory.
    assert roomy.memory - fewer.memory == 12 * lr * (roomy.read_ahead - fewer.read_ahead)
    upscaler.memory = fewer.memory - 1
    none = upscaler.memory_plan(100, 2)
    assert (none.read_ahead, none.write_behind) == (0, 0)
    assert none.layout == roomy.layout
    assert fewer.memory - none.memory >= 12 * (2 * lr + 2 * hr)


def test_restoring_shares_the_memory(model, networks, matcher, monkeypatch):
    """Its windows are held besides those of the run, and the least memory reported suffices for both."""
    monkeypatch.setattr(plans, "resident", lambda: 300 * 2**20)
    size = (540, 960)
    restorer = Upscaler(load_model(str(networks.backbone), "none", native=True), size, (2160, 3840))
    plain = Upscaler(model, size, (2160, 3840))
    upscaler = Upscaler(model, size, (2160, 3840), restorer=restorer)
    for budget in (16 * 2**30, 8 * 2**30):
        plain.memory = upscaler.memory = budget
        plan = upscaler.memory_plan(100, 2)
        assert plan.memory <= budget
        held = restorer.memory_plan(100).memory
        assert held <= restorer.memory < budget
        assert plan.layout.detail.pixels <= plain.memory_plan(100, 2).layout.detail.pixels
    upscaler.memory = 2**30
    with pytest.raises(InputError, match=r"need at least \d+M") as caught:
        upscaler.check(100, ())
    upscaler.memory = int(str(caught.value).split("at least ")[1].split("M")[0]) * 2**20
    upscaler.check(100, ())


def test_memory_is_reserved_for_the_encoder(model, matcher, monkeypatch):
    monkeypatch.setattr(plans, "resident", lambda: 300 * 2**20)
    upscaler = Upscaler(model, (540, 960), (2160, 3840))
    upscaler.memory = 2**40
    before = upscaler.memory_plan(100, 2).memory
    held = 3 * 2**30
    upscaler.reserve(held)
    assert upscaler.memory_plan(100, 2).memory == before + held
    # A run that fits only without an encoder is refused, and the way out is given.
    upscaler.memory = held
    upscaler.reserve(0)
    upscaler.check(100, ())
    upscaler.reserve(held)
    with pytest.raises(InputError, match=r"3072M of these are the encoder's; a folder of PNG"):
        upscaler.check(100, ())


def task_of(upscaler, monkeypatch):
    tasks = []
    monkeypatch.setattr(
        module, "plan_memory", lambda task, budget: tasks.append(task) or plan_memory(task, budget)
    )
    upscaler.memory += 1  # A plan for the same memory would be reused.
    upscaler.memory_plan(100)
    return tasks[0]
