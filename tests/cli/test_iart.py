"""An IART checkpoint from a user: described, converted, and run by `ldip upscale`."""

import numpy as np

from ldip_jax.weights.load import load_weights
from tests.cli.clips import random_frames, read_folder, write_folder
from tests.weights.forge import write_pth
from tests.weights.narrow import IART, iart_arrays


def test_an_iart_checkpoint_is_described_converted_and_run(ldip, tmp_path, rng):
    path = write_pth(tmp_path / "IART_REDS_BI_N6.pth", iart_arrays(), wrap="params")
    reported = ldip("weights", "info", path)
    assert reported.code == 0
    for part in ("iart", *(f"{name} {value}" for name, value in IART.items()), "a part that never runs"):
        assert part in reported.out
    assert ldip("weights", "convert", path, tmp_path / "iart.safetensors").code == 0
    assert load_weights(tmp_path / "iart.safetensors").sha256 == load_weights(path).sha256
    clip = write_folder(tmp_path / "in", random_frames(rng, 3))
    for source in (path, tmp_path / "iart.safetensors"):
        out = tmp_path / source.suffix
        done = ldip("upscale", clip, out, "--backbone", source, "--lrrf", "none")
        assert done.code == 0, done.err
        assert "10x8 to 40x32, IART_REDS_BI_N6.pth only" in done.out
    one, other = read_folder(tmp_path / ".pth"), read_folder(tmp_path / ".safetensors")
    np.testing.assert_array_equal(one, other)
    assert one.shape == (3, 32, 40, 3)
    assert one.std() > 0.05
