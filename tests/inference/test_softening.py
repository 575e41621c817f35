"""Clips that are sharper than those of the backbone's training are found and softened; others are left."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ldip_jax.inference import softening
from ldip_jax.inference import upscaler as module
from ldip_jax.inference.model import load_model
from ldip_jax.inference.softening import (
    BLURS,
    FRAMES,
    LEAST_FRAMES,
    SIDE,
    busiest_part,
    find_softening,
    remainder,
    soften,
)
from ldip_jax.inference.upscaler import Upscaler
from ldip_jax.ops.imresize import imresize
from tests.networks import HR, LR


@pytest.fixture
def truth(rng):
    """Three frames in HR with detail at all scales."""
    noise = sum(gaussian_filter(rng.normal(0.0, s, (3, 96, 128, 3)), (0, s, s, 0)) for s in (1, 2, 4))
    return list((0.5 + 0.5 * noise / np.abs(noise).max()).astype(np.float32))


def averaged(images: list[np.ndarray]) -> list[np.ndarray]:
    return [image.reshape(24, 4, 32, 4, 3).mean(axis=(1, 3)) for image in images]


def bicubic(images: list[np.ndarray]) -> list[np.ndarray]:
    return [imresize(image, size=(24, 32)) for image in images]


def test_frames_are_blurred_as_by_scipy(rng):
    frame = rng.uniform(0, 1, (20, 31, 3)).astype(np.float32)
    expected = gaussian_filter(frame, (0.45, 0.45, 0), mode="nearest", truncate=4.0 / 0.9)
    np.testing.assert_allclose(soften(frame, 0.45), expected, atol=1e-6)
    assert soften(frame, 0.45).dtype == np.float32


def test_nothing_remains_of_frames_reduced_as_in_training(truth):
    assert remainder(bicubic(truth), truth) < 1e-5
    assert remainder(averaged(truth), truth) > 0.01


def test_the_remainder_does_not_depend_on_contrast(truth, monkeypatch):
    # Both are linear; so values near grey leave as much as others.
    pale = [0.5 + np.float32(0.8) * (image - 0.5) for image in truth]
    monkeypatch.setattr(softening, "LEAST_TEXTURE", 0.0)
    assert remainder(averaged(pale), pale) == pytest.approx(remainder(averaged(truth), truth), rel=1e-3)


@pytest.mark.parametrize(("enough", "expected"), [(0.0, 0.0), (0.3, 0.4), (0.42, 0.45), (9.0, BLURS[-1])])
def test_the_least_blur_that_is_enough_is_chosen(monkeypatch, enough, expected):
    """Enough blur makes a remainder small; here, it is that of the stub."""
    texture = softening._texture
    frames = list(np.random.default_rng(3).uniform(0.2, 0.8, (LEAST_FRAMES, 24, 24, 3)).astype(np.float32))
    energy = {sigma: texture(soften(frames[0], sigma) if sigma else frames[0]).mean() for sigma in BLURS}

    def left(tried, upscaled):
        sigma = min(BLURS, key=lambda s: abs(energy[s] - texture(tried[0]).mean()))
        return 0.0 if sigma >= enough else 1.0

    monkeypatch.setattr(softening, "remainder", left)
    assert find_softening(frames, lambda part: part) == expected


def test_too_few_frames_are_left_as_they_are():
    frames = [np.zeros((16, 16, 3), np.float32)] * (LEAST_FRAMES - 1)
    assert find_softening(frames, lambda part: pytest.fail("was upscaled")) == 0.0


def test_a_flat_clip_is_left_as_it_is():
    frames = [np.full((16, 16, 3), 0.25, np.float32)] * LEAST_FRAMES
    assert find_softening(frames, lambda part: [np.full((64, 64, 3), 0.25, np.float32)] * len(part)) == 0.0


def test_rounding_is_not_texture():
    """A smooth gradient in 8 bits leaves its steps, whatever the backbone makes of it."""
    x = np.linspace(0.2, 0.3, 256, dtype=np.float32)
    large = np.stack(np.broadcast_arrays(x[None], x[:, None], 0.4 + x[None] - x[:, None]), axis=-1)
    small = np.round(imresize(large, size=(64, 64)) * 255) / np.float32(255)
    frames = [small.astype(np.float32)] * LEAST_FRAMES
    assert find_softening(frames, lambda part: [large] * len(part)) == 0.0


def test_the_part_with_the_most_texture_is_taken(rng):
    frames = np.full((3 * FRAMES, SIDE + 50, SIDE + 90, 3), 0.5, np.float32)
    # Texture begins after one flat run, in a corner.
    frames[FRAMES : 2 * FRAMES, 40:, 80:] = rng.uniform(0, 1, (FRAMES, SIDE + 10, SIDE + 10, 3))
    frames[:, :, :, 0] += 0.001 * np.arange(len(frames))[:, None, None]
    part = busiest_part(list(frames))
    assert [frame.shape for frame in part] == [(SIDE, SIDE, 3)] * FRAMES
    assert all(part[i].std() > 0.2 for i in range(FRAMES))


@pytest.mark.parametrize("size", [(5, 300), (300, 3), (1, 1), (2, 2)])
def test_small_and_narrow_frames_have_a_part(rng, size):
    frames = list(rng.uniform(0, 1, (LEAST_FRAMES, *size, 3)).astype(np.float32))
    part = busiest_part(frames)
    assert part[0].shape == (min(size[0], SIDE), min(size[1], SIDE), 3)


@pytest.fixture(scope="module")
def model(networks):
    return load_model(str(networks.backbone), "none", native=True)


def test_an_upscaler_softens_what_it_finds_sharp(model, monkeypatch, rng):
    clip = rng.uniform(0, 1, (6, *LR, 3)).astype(np.float32)
    tried = []

    def find(frames, upscale):
        tried.append((len(frames), [image.shape for image in upscale(frames[:2])]))
        return 0.45

    monkeypatch.setattr(module, "MEASURED", (model.backbone.name,))
    monkeypatch.setattr(module, "find_softening", find)
    upscaler = Upscaler(model, LR, HR)
    found = np.stack(list(upscaler.frames(clip)))
    # Every clip anew, once, from as many frames as the first window holds.
    assert tried == [(6, [(*HR, 3)] * 2)]
    assert upscaler.softening == 0.45
    given = np.stack(list(Upscaler(model, LR, HR, soften=0.45).frames(clip)))
    np.testing.assert_array_equal(found, given)
    soft = np.stack([soften(frame, 0.45) for frame in clip])
    np.testing.assert_array_equal(found, np.stack(list(Upscaler(model, LR, HR, soften=0.0).frames(soft))))
    assert len(tried) == 1
    # A trial of another size does as the clip.
    assert upscaler.for_frames((16, 16)).soften == 0.45


def test_unknown_backbones_are_not_tried(model, monkeypatch, rng):
    monkeypatch.setattr(module, "find_softening", lambda *_: pytest.fail("was tried"))
    upscaler = Upscaler(model, LR, HR)
    list(upscaler.frames(rng.uniform(0, 1, (4, *LR, 3)).astype(np.float32)))
    assert upscaler.softening == 0.0
