"""Live samples: equal to crops of whole frames, and computed by few programs at any scale."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import as_basicvsr, ldip_basicvsr_as
from ldip_jax.data.clips import SamplingSpec, draw_sample
from ldip_jax.data.crop_spec import CropSpec
from ldip_jax.data.crops import cut_sample, matched_share, place_crop
from ldip_jax.data.synthetic import SyntheticClips
from ldip_jax.matching.dense import DenseMatcher
from ldip_jax.matching.refine import Refiner
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.networks import BACKBONES
from ldip_jax.models.networks.backbone import Flows
from ldip_jax.models.networks.basicvsr import BasicVSR
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.blur import gaussian_blur
from ldip_jax.ops.resize import resample_bicubic, resize_bicubic
from ldip_jax.training import feed, live_programs
from ldip_jax.training.feed import Feed
from ldip_jax.training.frozen import FrozenNetworks, bare_record
from ldip_jax.training.live import LiveSampler
from ldip_jax.training.setup import Run
from ldip_jax.weights.load import Weights
from tests.data.footage import Coordinates
from tests.networks import random_backbone

FRAMES = (64, 96)
SPEC = CropSpec(
    target_frames=2, hr_side=32, reference_side=32, window_jitter=4, max_key_frames=2, max_references=2
)
CLIPS = SamplingSpec(context_frames=3, target_frames=2, max_key_frames=2, max_references=2)


def moved(params, a, b):
    """A flow network that finds the same motion everywhere."""
    flow = jnp.broadcast_to(params["move"], (*a.shape[:3], 2))
    return flow, -flow


def some_size(size):
    return (64, 96) if size[0] < size[1] else (96, 64)


MOVE = {"move": np.array([2.0, 1.0], np.float32)}


@cache
def backbone():
    return random_backbone(1)


@cache
def matcher(refined):
    """Finds the same motion everywhere, and refines it by almost nothing."""
    quiet = jax.tree.map(lambda x: 0.0 * x, backbone().params["spynet"])
    return DenseMatcher(moved, MOVE, some_size, Refiner(quiet) if refined else None)


@cache
def works(*, refined=None, routes=False, scale=(4.0, 4.0)):
    """The frozen networks on whole frames, and the sampler on crops; one for all sizes of frames.

    `refined` is whether matches are; None for no matcher.
    """
    weights, match = backbone(), None if refined is None else matcher(refined)
    net = BACKBONES[weights.network](**weights.config)
    whole = FrozenNetworks(net, weights.params, match, routes=routes)
    spec = replace(SPEC, routes=routes)
    live = LiveSampler(
        LDIP(net), {"backbone": weights.params}, match, spec, batch_size=1, canvas=FRAMES, scale=scale
    )
    return whole, live


def both(works, clip, seed=3):
    """The sample of a clip from whole frames, and from crops at the same place."""
    whole, live = works
    other = lambda rng: np.zeros((40, 40, 3), np.uint8)  # noqa: E731
    sides = SPEC.sides(4.0)
    (got,) = live([clip], [np.random.default_rng(seed)], [other], sides)
    record, rng = whole(clip), np.random.default_rng(seed)
    place = place_crop(record, rng, live._spec, sides, partial(matched_share, record))
    return cut_sample(record, place, other, rng, live._spec), got


@pytest.mark.parametrize("size", [FRAMES, FRAMES[::-1]])
def test_samples_equal_those_of_whole_frames(size, rng):
    """The halo reaches the frame's edges, and the flow is the same everywhere, so nothing may differ."""
    clip = draw_sample(replace(CLIPS, augment=False), Coordinates(size, 4), rng)
    want, got = both(works(refined=False), clip)
    for name in ("lr", "hr", "key_frames", "valid", "origin", "step"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name), err_msg=name)
    for name in ("features", "to_next", "to_previous"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), atol=1e-4, err_msg=name)
    # Portrait pairs are matched in landscape, where the same flow is a motion along the other axis.
    if size == FRAMES:
        filled = want.valid > 0
        np.testing.assert_allclose(got.warps[filled], want.warps[filled], atol=1e-3)
        np.testing.assert_array_equal(got.confidence, want.confidence)
        np.testing.assert_array_equal(got.images, want.images)


@pytest.mark.parametrize("size", [FRAMES, FRAMES[::-1]])
@pytest.mark.parametrize("scale", [1.5, 4.0])
def test_pairs_are_refined_where_they_were_matched(size, scale, rng):
    """The refinement finds almost nothing, so warps are the flow of the matching size, in HR pixels."""
    clip = draw_sample(replace(CLIPS, augment=False), Coordinates(size, 4), rng, scale)
    live = works(refined=True, scale=(1.5, 4.0))[1]
    sides = live._spec.sides(scale)
    record = bare_record(clip)
    place = place_crop(record, np.random.default_rng(0), SPEC, sides, lambda key, box: 1.0)
    coarse = live._match_coarsely([record])
    seen = live._run_backbone([clip], [record], [place], sides)
    box = place.box
    y, x = np.mgrid[: box.hr_side, : box.hr_side] + np.array(box.hr_corner)[:, None, None]
    for part in coarse:
        for warp, confidence in live._refine(part, [clip], [record], [place], seen, sides).values():
            (H, W), landscape = clip.hr.shape[1:3], (2.0 / 96, 1.0 / 64)
            dx, dy = (
                (landscape[0] * W, landscape[1] * H)
                if size == FRAMES
                else (landscape[1] * W, landscape[0] * H)
            )
            want = np.stack([x + dx, y + dy], axis=-1)
            np.testing.assert_allclose(warp, want, atol=2e-3)
            assert confidence.mean() > 0.9
    assert seen.key_frame_images.shape[2:4] == (box.hr_side + 2 * live_programs.MARGIN,) * 2


def test_exact_clips_are_not_matched_and_routes_equal_those_of_whole_frames(rng):
    clip = draw_sample(CLIPS, SyntheticClips(FRAMES, 3)[0], rng)
    want, got = both(works(routes=True), clip)
    for name in ("images", "warps", "confidence", "to_next", "to_previous"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name), err_msg=name)
    np.testing.assert_allclose(got.features, want.features, atol=1e-4)
    confident = want.route_confidence > 0.5
    assert confident.mean() > 0.2
    np.testing.assert_allclose(
        got.route_warps[confident[..., 0]], want.route_warps[confident[..., 0]], atol=0.02
    )
    np.testing.assert_allclose(got.route_confidence, want.route_confidence, atol=0.02)


def test_a_low_pass_and_a_grid_of_variable_scale_equal_fixed_ones(rng):
    x = rng.random((2, 20, 24, 3), np.float32)
    sigmas = [0.6, 1.7]

    @quick_jit
    def blurs(x, rows):
        fixed = [gaussian_blur(x[i : i + 1], (s, 0.5 * s)) for i, s in enumerate(sigmas)]
        return gaussian_blur(x, (rows, 0.5 * rows), 9), jnp.concatenate(fixed)

    np.testing.assert_allclose(*blurs(x, np.array(sigmas, np.float32)), atol=1e-5)
    for size in ((15, 18), (40, 48)):
        step = np.full((2, 2), 20 / size[0], np.float32)
        got = quick_jit(partial(resample_bicubic, size=size))(x, 0.5 * step - 0.5, step)
        wanted = quick_jit(partial(resize_bicubic, size=size))(x)
        # At edges, a resize ignores what lies beyond, while a grid repeats the edge.
        np.testing.assert_allclose(got[:, 4:-4, 4:-4], wanted[:, 4:-4, 4:-4], atol=1e-4)


def shapes_only(traces):
    """Stand-ins for the programs, which return zeros and record when they are compiled."""

    def run_backbone(net, sides, matches, routes, params, windows):
        traces.append(("see", sides))
        (b, t), (hr, lr), k = windows.frames.shape[:2], sides, windows.key_frames.shape[1]
        wide = hr + 2 * live_programs.MARGIN
        images = jnp.zeros((b, k, wide, wide, 3)) if matches else None
        route_maps = (jnp.zeros((b, t, k, hr, hr, n)) for n in (2, 1)) if routes else (None, None)
        flows = Flows(*[jnp.zeros((b, t, lr, lr, 2))] * 2)
        return live_programs.BackboneOutputs(jnp.zeros((b, t, lr, lr, 4)), flows, images, *route_maps)

    def match(flow, params, images):
        traces.append("match")
        zeros = jnp.zeros((*images[0].shape[:3], 2))
        return zeros, zeros[..., :1], zeros[..., 0] > 0

    def refine(hr, most, params, inputs):
        traces.append("refine")
        return tuple(jnp.zeros((len(inputs[0]), hr, hr, n)) for n in (2, 1))

    return {"run_backbone": run_backbone, "match": match, "refine": refine}


def compilations(caplog, config, run, count):
    """How many programs are compiled for `count` samples, and the shapes of LR crops."""
    caplog.clear()
    # Not `jax.log_compiles`, which applies only to one thread.
    jax.config.update("jax_log_compiles", True)
    try:
        with caplog.at_level("WARNING"), Feed(config, run) as stream:
            shapes = {next(stream).lr.shape for _ in range(count // config.batch_size)}
    finally:
        jax.config.update("jax_log_compiles", False)
    return sum("Finished XLA compilation" in message for message in caplog.messages), shapes


def test_at_most_six_programs_compute_all_samples_of_any_scale(caplog, monkeypatch):
    traces = []
    for name, stand_in in shapes_only(traces).items():
        monkeypatch.setattr(live_programs, name, stand_in)
    config = ldip_basicvsr_as.get_config("debug")
    config.data.dataset = "reds"
    config.data.key_frames, config.data.references, config.data.fewest_references = 3, 5, 1
    clips = [Coordinates(size, 8, name) for size, name in (((90, 160), "a"), ((160, 90), "b"))]
    monkeypatch.setattr(feed, "open_clips", lambda *args, **options: clips)
    matcher = DenseMatcher(moved, {}, some_size, Refiner({}))
    monkeypatch.setattr(feed, "frozen_matcher", lambda *args: matcher)
    run = Run(LDIP(BasicVSR()), Weights("seeded", "basicvsr", {}, {}, "0" * 64, "", []), {}, {}, {})
    found, shapes = compilations(caplog, config, run, 200)
    assert found == len(traces) == len(set(traces)) <= 6
    assert len(shapes) == 4


def test_one_program_computes_all_samples_of_the_head(caplog):
    config = as_basicvsr.get_config("debug")
    weights = backbone()
    net = LDIP(BACKBONES[weights.network](**weights.config))
    run = Run(net, weights, {"backbone": weights.params}, {}, {})
    found, shapes = compilations(caplog, config, run, 8)
    assert (found, len(shapes)) == (1, 1)
