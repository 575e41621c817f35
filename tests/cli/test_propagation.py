"""`ldip upscale` with `--propagation` and `--cuts`."""

import re

import numpy as np

from tests.cli.clips import listing, random_frames, read_folder, write_folder

LRRF = ("--matcher", "flow", "--key-stride", 4, "--exclude", 1, "--self-refs", 2)


def test_detail_gets_to_other_frames_as_asked_and_across_no_cut(upscale, networks, tmp_path, rng):
    # Frames of one scene: detail is carried between frames that agree.
    (scene,) = random_frames(rng, 1)
    noise = rng.integers(-4, 5, (5, *scene.shape))
    frames = list(np.clip(scene.astype(int) + noise, 0, 255).astype(np.uint8))
    clip = write_folder(tmp_path / "in", frames)
    made = {}

    def run(name, *words):
        done = upscale(clip, tmp_path / name, "--lrrf", networks.trained, *LRRF, *words)
        assert done.code == 0
        made[name] = read_folder(tmp_path / name)
        return done.out

    assert "cut" not in run("default")
    assert "cut" not in run("hrip", "--propagation", "hrip", "--cuts", "none")
    # What the export says is the default.
    assert listing(tmp_path / "hrip") == listing(tmp_path / "default")
    said = run("carry", "--propagation", "carry", "--cuts", "3")
    assert re.search(r"with LRRF, \d of its own frames as references, 1 cut, ", said)
    run("both", "--propagation", "both", "--cuts", "none")
    for one, two in (("hrip", "carry"), ("carry", "both"), ("hrip", "both")):
        assert np.abs(made[one] - made[two]).max(axis=(1, 2, 3)).min() > 1 / 255
