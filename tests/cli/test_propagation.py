"""`ldip upscale` with `--propagation` and `--cuts`."""

import re

import numpy as np

from tests.cli.clips import listing, random_frames, read_folder, write_folder

LRRF = ("--matcher", "flow", "--key-stride", 4, "--exclude", 1, "--self-refs", 2)


def test_detail_is_propagated_as_requested_but_not_across_cuts(upscale, networks, tmp_path, rng):
    # Frames of one scene: detail is carried between frames that agree.
    (scene,) = random_frames(rng, 1)
    noise = rng.integers(-4, 5, (5, *scene.shape))
    frames = list(np.clip(scene.astype(int) + noise, 0, 255).astype(np.uint8))
    clip = write_folder(tmp_path / "in", frames)
    images = {}

    def run(name, *words):
        done = upscale(clip, tmp_path / name, "--lrrf", networks.trained, *LRRF, *words)
        assert done.code == 0
        images[name] = read_folder(tmp_path / name)
        return done.out

    assert "cut" not in run("default")
    assert "cut" not in run("hrip", "--propagation", "hrip", "--cuts", "none")
    # The export says what the default is.
    assert listing(tmp_path / "hrip") == listing(tmp_path / "default")
    summary = run("carry", "--propagation", "carry", "--cuts", "3")
    assert re.search(r"with LRRF, \d of its own frames as references, 1 cut, ", summary)
    run("both", "--propagation", "both", "--cuts", "none")
    for one, two in (("hrip", "carry"), ("carry", "both"), ("hrip", "both")):
        assert np.abs(images[one] - images[two]).max(axis=(1, 2, 3)).min() > 1 / 255
