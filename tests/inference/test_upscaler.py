"""Clips of any length: every frame once, in order, and as if there were no windows."""

from collections import Counter

import numpy as np
import pytest

from ldip_jax.inference import streaming as windows_module
from ldip_jax.inference import upscaler as module
from ldip_jax.inference.keyframes import select_key_frames
from ldip_jax.inference.model import load_model
from ldip_jax.inference.programs import to_size
from ldip_jax.inference.references import ReferenceRules
from ldip_jax.inference.streaming import OVERLAP, WindowFeatures
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.models.carry import PROPAGATIONS
from ldip_jax.models.trainable import quick_jit
from ldip_jax.ops.grid import whole_grid
from tests.inference.stubs import stills
from tests.networks import HR, LR

LONG = 40


@pytest.fixture(scope="module")
def models(networks):
    backbone = str(networks.backbone)
    return {
        "backbone": load_model(backbone, "none", native=True),
        "trained": load_model(backbone, str(networks.trained), native=True),
        "untrained": load_model(backbone, str(networks.untrained), native=True),
        "head": load_model(str(networks.wide), str(networks.head), native=False),
    }


@pytest.fixture(scope="module")
def clip():
    rng = np.random.default_rng(5)
    # Frames of one scene: detail is carried between frames that agree.
    scene = rng.uniform(0.1, 0.9, (1, *LR, 3)) + 0.02 * rng.standard_normal((LONG, *LR, 3))
    return np.clip(scene, 0.0, 1.0).astype(np.float32)


def small_windows(monkeypatch):
    """Windows of three times what they share: with LRRF, that is the stride of key-frames."""
    monkeypatch.setattr(windows_module, "BUDGET", 1)
    monkeypatch.setattr(windows_module, "OVERLAP", 2)


def test_windows_are_seamless(models, monkeypatch):
    """Frames beyond the shared ones are unknown; the further from the seam, the less it shows."""
    clip = np.random.default_rng(5).uniform(0, 1, (LONG, *LR, 3)).astype(np.float32)
    upscaler = Upscaler(models["backbone"], LR, HR)
    whole = np.stack(list(upscaler.frames(clip)))
    monkeypatch.setattr(module, "window_length", lambda *args, **kwargs: 30)
    cut = np.stack(list(upscaler.frames(clip)))
    assert cut.shape == whole.shape == (LONG, *HR, 3)
    differences = np.abs(cut - whole).max(axis=(1, 2, 3))
    # Random weights forget less than trained ones.
    assert 0 < differences.max() < 0.2 * whole.std(), differences
    assert max(differences[0], differences[-1]) < 0.1 * differences.max(), differences
    assert abs(differences.argmax() - (30 - OVERLAP)) <= 1, differences
    # All frames differ: one in the wrong place would show.
    assert np.abs(whole[1:] - whole[:-1]).max(axis=(1, 2, 3)).min() > 10 * differences.max()


def test_frames_are_read_window_by_window_and_yielded_one_by_one(models, clip, monkeypatch):
    small_windows(monkeypatch)
    read, count = [], 28

    def source():
        for index, frame in enumerate(clip[:count]):
            read.append(index)
            yield frame

    stream = Upscaler(models["backbone"], LR, HR).frames(source())
    assert read == []
    for yielded in range(1, count + 1):
        next(stream)
        assert len(read) <= yielded + 4 * OVERLAP
    assert next(stream, None) is None
    assert read == list(range(count))


@pytest.mark.parametrize(
    ("count", "still_count", "cut", "propagation"),
    [
        (1, 0, False, "hrip"),
        (1, 2, False, "hrip"),
        (6, 2, False, "hrip"),
        (13, 1, True, "hrip"),
        (13, 1, True, "both"),
    ],
)
def test_the_amount_of_work_is_known_in_advance(
    models, clip, matcher, monkeypatch, count, still_count, cut, propagation
):
    if cut:
        small_windows(monkeypatch)
    rules = ReferenceRules(3, 2, 0.05)
    upscaler = Upscaler(models["trained"], LR, HR, key_stride=4, rules=rules, propagation=propagation)
    done = Counter()
    frames = list(upscaler.frames(clip[:count], stills(still_count), lambda kind: done.update([kind])))
    assert len(frames) == count
    assert dict(done) == {kind: n for kind, n in upscaler.work(count, stills(still_count)).items() if n}
    assert set(upscaler.costs()) >= set(done)
    assert min(upscaler.costs().values()) > 0


def test_the_amount_of_work_of_only_the_backbone(models, clip):
    upscaler = Upscaler(models["backbone"], LR, HR)
    done = Counter()
    list(upscaler.frames(clip[:3], (), lambda kind: done.update([kind])))
    assert dict(done) == upscaler.work(3) == {"features": 6, "decode": 3}


def test_references_of_a_key_frame_are_chosen_once_by_the_window_that_keeps_it(
    models, clip, matcher, monkeypatch
):
    upscaler = Upscaler(models["trained"], LR, HR, key_stride=4, rules=ReferenceRules(2, 3, 0.05))
    small_windows(monkeypatch)
    list(upscaler.frames(clip[:13], stills(1)))
    assert sorted(upscaler.choices) == select_key_frames(0, 13, 4, ends=True) == [0, 4, 8, 12]
    for key, choices in upscaler.choices.items():
        assert choices[0].name == "still0"
        (own,) = [int(choice.name.removeprefix("frame ")) for choice in choices[1:]]
        assert abs(own - key) > 3
        # The first window ends at frame 12, the second one begins at 4.
        assert own in (range(12) if key < 8 else range(4, 13))
    list(upscaler.frames(clip[:1]))
    assert upscaler.choices == {0: []}


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_an_untrained_lrrf_changes_nothing_and_a_trained_one_changes_every_frame(
    models, clip, matcher, propagation
):
    short, rules = clip[:5], ReferenceRules(3, 2, 0.05)

    def run(name):
        upscaler = Upscaler(models[name], LR, HR, key_stride=4, rules=rules, propagation=propagation)
        return np.stack(list(upscaler.frames(short, stills(2))))

    backbone_only = run("backbone")
    assert matcher.matched == []
    np.testing.assert_array_equal(run("untrained"), backbone_only)
    assert {name for _, name in matcher.matched} > {"still0", "still1", "frame 0"}
    changed = np.abs(run("trained") - backbone_only).max(axis=(1, 2, 3))
    assert changed.min() > 1e-3


def test_only_the_backbone_runs_where_no_still_matches(models, clip, matcher):
    short = clip[:5]

    def run(confidence, if_unmatched, still_count):
        matcher.confidence = confidence
        rules = ReferenceRules(exclude=2)
        upscaler = Upscaler(
            models["trained"], LR, HR, key_stride=4, rules=rules, backbone_only_if_unmatched=if_unmatched
        )
        return upscaler, np.stack(list(upscaler.frames(short, stills(still_count))))

    backbone_only = np.stack(list(Upscaler(models["backbone"], LR, HR).frames(short)))
    left, frames = run(0.0, True, 2)
    np.testing.assert_array_equal(frames, backbone_only)
    assert left.backbone_only_frames == 5
    assert sorted(left.choices) == [0, 4]
    assert all(not choice.used for choices in left.choices.values() for choice in choices)
    # With a still that matches, or without any still, `backbone_only_if_unmatched` changes nothing.
    for confidence, still_count in ((1.0, 2), (1.0, 0)):
        kept, frames = run(confidence, True, still_count)
        always, expected = run(confidence, False, still_count)
        np.testing.assert_array_equal(frames, expected)
        assert kept.choices == always.choices
        assert kept.backbone_only_frames == 0
        assert np.abs(frames - backbone_only).max(axis=(1, 2, 3)).min() > 1e-3


def test_only_the_backbone_runs_in_shots_where_no_still_matches(models, clip, matcher):
    """The clip's own frames never serve as references, not even where no still matches."""
    short = clip[:5]
    backbone_only = np.stack(list(Upscaler(models["backbone"], LR, HR).frames(short)))
    matcher.blind = {3, 4}
    upscaler = Upscaler(
        models["trained"],
        LR,
        HR,
        key_stride=2,
        rules=ReferenceRules(exclude=0),
        backbone_only_if_unmatched=True,
        cuts=(3,),
    )
    frames = np.stack(list(upscaler.frames(short, stills(1))))
    np.testing.assert_array_equal(frames[3:], backbone_only[3:])
    assert np.abs(frames - backbone_only)[:3].max(axis=(1, 2, 3)).min() > 1e-3
    assert upscaler.backbone_only_frames == 2
    used = {key: [choice.used for choice in choices] for key, choices in upscaler.choices.items()}
    assert used == {0: [True], 2: [True], 3: [False], 4: [False]}
    assert {name for _, name in matcher.matched} == {"still0"}
    # Self-references that are requested are used all the same.
    requested = Upscaler(
        models["trained"],
        LR,
        HR,
        key_stride=2,
        rules=ReferenceRules(1, 0, 0.05),
        backbone_only_if_unmatched=True,
        cuts=(3,),
    )
    list(requested.frames(short, stills(1)))
    assert requested.backbone_only_frames == 0


def test_matches_are_computed_again_unless_remembered(models, clip, matcher):
    short = clip[:4]
    for remember, factor in ((False, 2), (True, 1)):
        matcher.matched.clear()
        rules = ReferenceRules(2, 2, 0.05)
        upscaler = Upscaler(models["untrained"], LR, HR, rules=rules, remember=remember)
        first = np.stack(list(upscaler.frames(short, stills(1))))
        once = len(matcher.matched)
        second = np.stack(list(upscaler.frames(short, stills(1))))
        assert len(matcher.matched) == factor * once
        np.testing.assert_array_equal(first, second)


def test_a_folder_of_matches_has_no_self_references(models, tmp_path):
    upscaler = Upscaler(models["trained"], LR, HR, rules=ReferenceRules(5, 0, 0.05), matcher=str(tmp_path))
    assert "match" not in {kind for kind, n in upscaler.work(9).items() if n}
    assert upscaler.work(9, stills(2))["match"] == 2 * 2


@pytest.mark.parametrize("out", [(8, 10), (9, 44), (64, 80)])
def test_other_sizes_are_resized_from_x4(models, clip, out):
    short = clip[:2]
    native = Upscaler(models["backbone"], LR, HR)
    other = Upscaler(models["backbone"], LR, out)
    for full, resized in zip(native.frames(short), other.frames(short), strict=True):
        assert resized.shape == (*out, 3)
        assert resized.dtype == np.float32
        assert 0.0 <= resized.min() <= resized.max() <= 1.0
        # `full` is clipped, but not what is resized: they agree where nothing was clipped.
        np.testing.assert_allclose(resized.mean(), full.mean(), atol=0.05)
    programs = other._programs
    held = WindowFeatures(programs, list(short), lambda _: None)
    image = programs.decode(programs.upscale(held.features[0], None), held.frames[0], None)
    np.testing.assert_allclose(next(other.frames(short)), to_size(image, out)[0], atol=1e-6)


def test_the_arbitrary_scale_head_produces_the_size_itself(models, clip):
    model, short, out = models["head"], clip[:2], (17, 33)
    upscaler = Upscaler(model, LR, out)
    assert upscaler.notes == []
    frames = np.stack(list(upscaler.frames(short)))
    whole = quick_jit(model.net.apply)({"params": model.params}, short[None], None, whole_grid(LR, out))[0]
    np.testing.assert_allclose(frames, np.clip(whole, 0, 1), atol=1e-5)


def test_a_segment_does_not_depend_on_whether_others_are_computed(models, clip, matcher, monkeypatch):
    """So a resumed run skips existing segments."""
    small_windows(monkeypatch)
    clip = clip[:9]
    upscaler = Upscaler(models["trained"], LR, HR, key_stride=2, rules=ReferenceRules(2, 2, 0.05))
    whole = [(segment.places, list(segment.images)) for segment in upscaler.segments(clip, stills(1))]
    choices = dict(upscaler.choices)
    assert [place for places, _ in whole for place in places] == list(range(9))
    assert len(whole) > 2
    done = Counter()
    last = list(upscaler.segments(clip, stills(1), lambda kind: done.update([kind])))[-1]
    np.testing.assert_array_equal(list(last.images), whole[-1][1])
    assert upscaler.choices == {key: chosen for key, chosen in choices.items() if key in last.places}
    rest = upscaler.work(9, stills(1), done=last.places.start)
    assert rest["decode"] == len(last.places)
    assert dict(done) == {kind: n for kind, n in rest.items() if n}


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_single_frames_equal_those_of_the_whole_clip(models, clip, matcher, propagation):
    short, rules = clip[:9], ReferenceRules(0, 0, 0.0)
    upscaler = Upscaler(models["trained"], LR, HR, key_stride=4, propagation=propagation, rules=rules)
    whole = list(upscaler.frames(short, stills(2)))
    every = set(upscaler.choices)
    assert every == {0, 4, 8}
    found = list(upscaler.frames(short, stills(2), wanted=range(5, 7)))
    np.testing.assert_allclose(np.stack(found), np.stack(whole[5:7]), atol=1e-6)
    # With carry, only the key-frames on either side are matched.
    assert set(upscaler.choices) == ({4, 8} if propagation == "carry" else every)


def test_single_frames_of_the_backbone(models, clip):
    upscaler = Upscaler(models["backbone"], LR, HR)
    (found,) = upscaler.frames(clip[:5], wanted=range(3, 4))
    np.testing.assert_array_equal(found, list(upscaler.frames(clip[:5]))[3])
