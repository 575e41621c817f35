"""BasicVSR with its published weights against float64 PyTorch, from `golden/make_basicvsr.py`."""

from pathlib import Path

import numpy as np
import pytest

from ldip_jax.inference.programs import Programs
from ldip_jax.inference.streaming import WindowFeatures
from ldip_jax.models.ldip import LDIP
from ldip_jax.models.networks.basicvsr import BasicVSR
from tests.published import published_params

GOLDEN = Path(__file__).parents[1] / "golden"
FRAME = 2


@pytest.fixture(scope="session")
def published():
    return {name: published_params(name) for name in ("basicvsr-reds4", "basicvsr-vimeo-bi")}


@pytest.mark.parametrize("name", ["basicvsr-reds4", "basicvsr-vimeo-bi"])
def test_features_and_output_equal_the_official_ones(published, name):
    with np.load(GOLDEN / f"{name.replace('-', '_')}.npz") as file:
        golden = dict(file)
    frames = golden["frames"].astype(np.float32) / np.float32(255)
    programs = Programs(LDIP(BasicVSR(band_pixels=2**14)), {"backbone": published[name]})
    window = WindowFeatures(programs, list(frames), lambda _: None)
    hr_pre = programs.upscale(window.features[FRAME], None)
    output = programs.decode(hr_pre, window.frames[FRAME], None)
    # The stored features are rounded to float16, and so off by half a unit in the last place.
    for what, whole, rtol in (("hr_pre", hr_pre, 2**-11), ("output", output, 0.0)):
        expected, (row, column) = golden[what], golden[f"{what}_corner"]
        h, w = expected.shape[:2]
        ours = np.asarray(whole)[0, row : row + h, column : column + w]
        np.testing.assert_allclose(ours, expected.astype(np.float32), rtol=rtol, atol=1e-5, err_msg=what)
