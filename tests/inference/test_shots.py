"""How detail is propagated through whole clips: never across a cut, and as if there were no windows."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.inference import streaming as windows_module
from ldip_jax.inference import window_chain
from ldip_jax.inference.references import ReferenceRules
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.models.carry import PROPAGATIONS
from ldip_jax.weights.rules import flatten, nest
from tests.inference.stubs import stills
from tests.networks import HR, LR, NARROW
from tests.scenes import blocks


@pytest.fixture(scope="module")
def clip():
    scene = blocks(3, LR[0], LR[1] + 24)
    return np.stack([scene[:, place : place + LR[1]] for place in range(12)])


def without_memory(model):
    """A backbone that sees each frame by itself."""
    channels = NARROW["mid_channels"]

    def cut(name, leaf):
        if "trunk" in name and name.endswith("kernel") and leaf.shape[2] == 3 + channels:
            return np.concatenate([leaf[:, :, :3], np.zeros_like(leaf[:, :, 3:])], axis=2)
        return leaf

    flat = flatten(model.params["backbone"])
    short = {name: cut(name, leaf) for name, leaf in flat.items()}
    assert sum(short[name] is not flat[name] for name in flat) == 2
    return replace(model, params={**model.params, "backbone": nest(short)})


@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_the_references_of_one_shot_change_no_frame_of_another(model, clip, matcher, propagation):
    short = clip[:5]

    def run(cuts, blind):
        matcher.blind = set(blind)
        rules = ReferenceRules(self_refs=0)
        upscaler = Upscaler(model, LR, HR, key_stride=2, rules=rules, propagation=propagation, cuts=cuts)
        frames = np.stack(list(upscaler.frames(short, stills(1))))
        return frames, sorted(upscaler.choices)

    for cuts, keys in (((3,), [0, 2, 3, 4]), ("none", [0, 2, 4])):
        one, other = run(cuts, ()), run(cuts, range(3))
        assert one[1] == other[1] == keys
        changed = np.abs(one[0] - other[0]).max(axis=(1, 2, 3))
        assert changed[:3].min() > 1e-4
        assert (changed[3] == 0.0) == (cuts == (3,))
        if cuts == (3,):
            assert not changed[3:].any()


def test_carried_detail_does_not_depend_on_windows(model, matcher, monkeypatch):
    """Up to rounding, if the backbone itself keeps nothing from frame to frame."""
    # One scene with a little noise: random flow networks follow no motion, and detail needs frames
    # that agree.
    noise = np.random.default_rng(8).standard_normal((12, *LR, 3))
    clip = np.clip(blocks(3, *LR) + 0.02 * noise, 0.0, 1.0).astype(np.float32)
    model = without_memory(model)

    def run():
        upscaler = Upscaler(
            model, LR, HR, key_stride=3, rules=ReferenceRules(0), propagation="carry", cuts="none"
        )
        frames = np.stack(list(upscaler.frames(clip, stills(2))))
        return frames, upscaler.choices

    whole, choices = run()
    monkeypatch.setattr(windows_module, "BUDGET", 1)
    monkeypatch.setattr(windows_module, "OVERLAP", 3)
    seen = []
    held = window_chain.WindowFeatures
    monkeypatch.setattr(
        window_chain,
        "WindowFeatures",
        lambda programs, frames, *rest: seen.append(len(frames)) or held(programs, frames, *rest),
    )
    in_windows, same = run()
    assert seen == [9, 9]
    assert same == choices
    np.testing.assert_allclose(in_windows, whole, atol=1e-6)
    backbone_only = Upscaler(replace(model, net=model.net.clone(parent=None, name=None, lrrf=None)), LR, HR)
    changed = np.abs(whole - np.stack(list(backbone_only.frames(clip)))).max(axis=(1, 2, 3))
    assert changed.min() > 1e-3


def test_a_still_of_a_frame_far_from_key_frames_makes_it_a_key_frame(model, clip, matcher):
    short = clip[:5]
    still = replace(stills(1)[0], image=np.clip(0.7 * short[2] + 0.2, 0, 1).repeat(4, 0).repeat(4, 1))
    upscaler = Upscaler(
        model, LR, HR, key_stride=4, rules=ReferenceRules(0), propagation="carry", cuts="none"
    )
    list(upscaler.frames(short, [still]))
    assert sorted(upscaler.choices) == [0, 2, 4]
    list(upscaler.frames(short, stills(1)))
    assert sorted(upscaler.choices) == [0, 4]


def test_a_still_with_a_moment_serves_only_its_shot(model, clip, matcher):
    one, other, free = stills(3)
    offered_stills = [replace(one, moment=1), replace(other, moment=6), free]
    upscaler = Upscaler(
        model, LR, HR, key_stride=4, rules=ReferenceRules(0), propagation="carry", cuts=(4, 10)
    )
    done = Counter()
    list(upscaler.frames(clip[:12], offered_stills, lambda kind: done.update([kind])))
    offered = {
        key: tuple(sorted(choice.name for choice in choices)) for key, choices in upscaler.choices.items()
    }
    first = dict.fromkeys((0, 1, 3), ("still0", "still2"))
    second = dict.fromkeys((4, 6, 8, 9), ("still1", "still2"))
    assert offered == first | second | dict.fromkeys((10, 11), ("still2",))
    assert done["match"] == upscaler.work(12, offered_stills)["match"] == 2 * 7 + 2


def test_a_moment_outside_the_clip_is_refused_before_any_work(model, matcher):
    upscaler = Upscaler(model, LR, HR)
    upscaler.check(5, [replace(stills(1)[0], moment=4)])
    with pytest.raises(InputError, match="still0: belongs to frame 5, but the clip has frames 0 to 4"):
        upscaler.check(5, [replace(stills(1)[0], moment=5)])


def test_every_cut_is_known_before_its_window(model, monkeypatch):
    """Even in the window's last frames, from which the frames that are kept may take detail."""
    size = (16, 20)
    one, two = (blocks(seed, size[0], size[1] + 30) for seed in (1, 2))
    for cut in range(12, 24):
        frames = [(one if place < cut else two)[:, place : place + size[1]] for place in range(30)]
        known = []

        def record(self, window, *rest, known=known):
            known.append((window.first, len(window.frames), set(self.cuts)))
            return iter(())

        monkeypatch.setattr(Upscaler, "_window_images", record)
        monkeypatch.setattr(windows_module, "BUDGET", 1)
        upscaler = Upscaler(model, size, (64, 80), key_stride=6, matcher="flow")
        list(upscaler.frames(frames))
        first, count, cuts = known[0]
        assert (first, count) == (0, 18)
        assert cuts == ({cut} if cut <= 18 else set())
        assert known[1][2] == {cut}


def test_frames_too_small_for_cut_detection_are_one_shot(model, clip, matcher):
    upscaler = Upscaler(model, LR, HR)
    noise = np.random.default_rng(5).uniform(0, 1, (8, *LR, 3)).astype(np.float32)
    list(upscaler.frames(noise, stills(1)))
    assert upscaler.cuts == set()


def test_the_requested_propagation_overrides_that_of_the_export(model):
    assert Upscaler(model, LR, HR, matcher="flow").model.net.propagation == "hrip"
    carrying = Upscaler(model, LR, HR, matcher="flow", propagation="carry").model.net
    # Weights that were trained for HRIP produce their detail with it.
    assert (carrying.propagation, carrying.hrip_reach) == ("carry", 2)
    with pytest.raises(InputError, match=r"^propagation teleport: choose from hrip, carry, both$"):
        Upscaler(model, LR, HR, propagation="teleport")
