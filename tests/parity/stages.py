"""Helpers for the parity tests of all backbones: frames, and the stages of the JAX side as they run."""

import re

import numpy as np
import torch

from ldip_jax.inference.engine import backbone_frames
from ldip_jax.inference.programs import Programs
from ldip_jax.inference.streaming import WindowFeatures

# Frames, height, width: odd sides, sides under 32 and under 64; only the last are multiples of 32.
CLIPS = [(1, 20, 28), (2, 8, 8), (5, 37, 53), (2, 64, 32)]
# Largest difference by stage, in pixels for flows; 1e-5 and 1e-6 were measured.
TOLERANCES = {"to_next": 5e-5, "to_previous": 5e-5}

_MMAGIC = (
    (r"(backward|forward)_trunk", r"\1_resblocks"),
    (r"upconv([12])", r"upsample\1.upsample_conv"),
    (r"(basic_module\.\d)\.basic_module\.(\d)", lambda m: f"{m[1]}.basic_module.{int(m[2]) // 2}.conv"),
)


def mmagic(name):
    """The name of the same parameter in mmagic's files."""
    for pattern, replacement in _MMAGIC:
        name = re.sub(pattern, replacement, name)
    return name


def lively(net):
    """Scale weights so that flows are of several pixels, where random weights give next to none."""
    spynet = getattr(net, "spynet", net)
    with torch.no_grad():
        for level in spynet.basic_module:
            for layer in level.basic_module[::2]:
                layer.weight *= 2.0
    return net.eval().requires_grad_(False)


def clip(seed, t, h, w):
    """Smooth noise that moves a little, float32 in [0, 1], t h w 3."""
    rng = np.random.default_rng(seed)
    large = torch.tensor(rng.random((1, 3, h // 4 + 3, w // 4 + 3)))
    still = torch.nn.functional.interpolate(large, scale_factor=4, mode="bicubic").clamp(0, 1)[0]
    frames = [still[:, i : i + h, 2 * i : 2 * i + w] for i in range(t)]
    return torch.stack(frames).permute(0, 2, 3, 1).float().numpy()


def channels_first(frames):
    """A clip t h w 3 as the twins take it."""
    return torch.tensor(frames).permute(0, 3, 1, 2)[None]


def channels_last(x):
    return x.numpy().transpose(0, 2, 3, 1)


def run_frame_by_frame(programs: Programs, frames, features: str):
    """The stages, named as by the twins' `stages`, from the programs of `ldip upscale`.

    Args:
        features: the twin's name for the LR features.
    """
    places = range(len(frames))
    branches = programs.net.backbone.branches
    stages = {branch.name: {} for branch in branches}
    order = {branch.name: iter(places[:: -1 if branch.reverse else 1]) for branch in branches}
    step = programs.step

    def recorded(branch, *args):
        carry, out = step(branch, *args)
        stages[branch.name][next(order[branch.name])] = out
        return carry, out

    programs.step = recorded
    try:
        window = WindowFeatures(programs, list(frames), lambda _: None)
    finally:
        programs.step = step
    named = {name: [outputs[i] for i in places] for name, outputs in stages.items()}
    named["to_next"] = [window.flow(i, i + 1) for i in places[:-1]]
    named["to_previous"] = [window.flow(i, i - 1) for i in places[1:]]
    named[features] = window.features
    named["hr_pre"] = [programs.upscale(features, None) for features in window.features]
    named["output"] = list(backbone_frames(window, places, lambda _: None))
    return named


def assert_every_stage_equals(ours, theirs, atol=1e-5):
    """Compare the results of `run_frame_by_frame` and of a twin's `stages`."""
    assert ours.keys() == theirs.keys()
    for name, over_time in theirs.items():
        assert len(ours[name]) == len(over_time)
        for one, other in zip(ours[name], over_time, strict=True):
            tolerance = TOLERANCES.get(name, atol)
            np.testing.assert_allclose(one, channels_last(other), rtol=0, atol=tolerance, err_msg=name)
