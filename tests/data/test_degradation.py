"""Degradations against SciPy's and PyTorch's filters, and MATLAB's conventions at borders."""

import numpy as np
import pytest
from scipy import ndimage

from ldip_jax.data.degradation import DEGRADATIONS, antialiased, bd, bi, bicubic, crop_to_multiple
from ldip_jax.errors import InputError


@pytest.fixture
def frame(rng):
    """Noise, in which every tap and every border shows."""
    return rng.integers(0, 256, (36, 52, 3), np.uint8)


def test_bd_is_the_whole_kernel_at_the_middle_of_each_block(frame):
    x = np.arange(12) - 5.5
    kernel = np.exp(-(x[:, None] ** 2 + x**2) / (2 * 1.6**2))
    kernel /= kernel.sum()
    # SciPy centres an even kernel a pixel later than imfilter.
    channels = [
        ndimage.correlate(frame[..., i].astype(float), kernel, mode="nearest", origin=-1) for i in range(3)
    ]
    blurred = np.floor(np.stack(channels, -1) + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(bd(frame, (9, 13)), blurred[1::4, 1::4])


def test_bd_commutes_with_mirroring(frame):
    np.testing.assert_array_equal(bd(frame[::-1, ::-1], (9, 13)), bd(frame, (9, 13))[::-1, ::-1])


def test_bd_is_only_for_x4(frame):
    for size in ((12, 13), (9, 14), (18, 26)):
        with pytest.raises(InputError, match="only for x4, 52x36"):
            bd(frame, size)


def test_bi_by_hand():
    # Keys' kernel stretched by 2 over an edge: taps at distances 0.25, 0.75, 1.25, 1.75 on each side.
    edge = np.repeat([0, 0, 0, 0, 200, 200, 200, 200], 3).astype(np.uint8).reshape(1, 8, 3)

    def keys(x):
        x = abs(x)
        return 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2

    taps = [keys(d) / 2 for d in (0.25, 0.75, 1.25, 1.75)]
    # LR pixel 1 lies between HR pixels 2 and 3: its taps reach the bright pixels 4, 5 and 6.
    expected = 200 * (taps[1] + taps[2] + taps[3])
    assert bi(edge, (1, 4))[0, 1, 0] == max(0, np.floor(expected + 0.5))
    assert bi(edge, (1, 4))[0, 2, 0] == min(255, np.floor(200 - expected + 0.5))


def test_bi_mirrors_at_borders(frame):
    mirrored = np.pad(frame, ((16, 16), (16, 16), (0, 0)), "symmetric")
    np.testing.assert_array_equal(bi(frame, (9, 13)), bi(mirrored, (17, 21))[4:-4, 4:-4])


def test_the_other_two_equal_pytorch(frame):
    torch = pytest.importorskip("torch")
    x = torch.tensor(frame).permute(2, 0, 1)[None].float()
    for function, antialias in ((bicubic, False), (antialiased, True)):
        for size in ((9, 13), (14, 31)):
            y = torch.nn.functional.interpolate(x, size=size, mode="bicubic", antialias=antialias)
            expected = y.round().clamp(0, 255)[0].permute(1, 2, 0).numpy()
            # Ties may be rounded either way.
            assert np.abs(function(frame, size) - expected).max() <= 1
            assert np.mean(function(frame, size) != expected) < 1e-3


def test_no_two_degradations_agree(frame):
    results = [degrade(frame, (9, 13)) for degrade in DEGRADATIONS.values()]
    assert all(r.dtype == np.uint8 and r.shape == (9, 13, 3) for r in results)
    assert len({r.tobytes() for r in results}) == len(results)


def test_pixels_beyond_a_multiple_are_cropped(frame):
    assert crop_to_multiple(frame[:35, :50], 4).shape == (32, 48, 3)
    np.testing.assert_array_equal(crop_to_multiple(frame, 4), frame)
    with pytest.raises(InputError, match="52x3 is too small"):
        crop_to_multiple(frame[:3], 4)
