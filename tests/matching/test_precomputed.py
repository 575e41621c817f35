import tracemalloc
import zipfile

import numpy as np
import pytest

from ldip_jax.errors import InputError
from ldip_jax.matching.loading import PrecomputedMatcher
from ldip_jax.matching.matcher import Pair

H, W = 6, 8


@pytest.fixture
def pair():
    reference = np.zeros((1, 5, 7, 3), np.float32)
    return Pair(np.zeros((1, H, W, 3), np.float32), reference, key_frame=12, name="still one")


def arrays(**changes):
    grid = np.stack(np.meshgrid(np.arange(W), np.arange(H)), axis=-1).astype(np.float32)
    return {"warp": grid, "confidence": np.full((H, W), 0.75, np.float32)} | changes


def save(folder, contents):
    path = folder / "00000012_still one.npz"
    np.savez(path, **contents)
    return path


def test_a_file_is_read_unchanged_but_places_outside_get_no_confidence(tmp_path, pair):
    save(tmp_path, arrays())
    matcher = PrecomputedMatcher(tmp_path)
    match = matcher.coarse(pair)
    np.testing.assert_array_equal(match.warp[0], arrays()["warp"])
    expected = np.zeros((H, W))
    expected[:5, :7] = 0.75
    np.testing.assert_array_equal(match.confidence[0, ..., 0], expected)
    assert matcher.refine(pair, match, (4.0, 4.0)) is match


def test_compressed_and_fortran_ordered_files_are_read_too(tmp_path, pair):
    contents = {name: np.asfortranarray(array) for name, array in arrays().items()}
    np.savez_compressed(tmp_path / "00000012_still one.npz", **contents)
    match = PrecomputedMatcher(str(tmp_path)).coarse(pair)
    np.testing.assert_array_equal(match.warp[0], arrays()["warp"])


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"warp": arrays()["warp"]}, r"holds arrays \['warp'\]"),
        (arrays(extra=np.zeros(3)), "holds arrays"),
        (arrays(warp=arrays()["warp"].astype(np.float64)), "'warp' is float64, not float32"),
        (arrays(confidence=np.ones((H, W), np.uint8)), "'confidence' is uint8"),
        (arrays(warp=np.zeros((W, H, 2), np.float32)), r"'warp' has shape \(8, 6, 2\), not \(6, 8, 2\)"),
        (arrays(confidence=np.zeros((H, W, 1), np.float32)), "'confidence' has shape"),
        (arrays(warp=np.full((H, W, 2), np.nan, np.float32)), "not finite"),
        (arrays(confidence=np.full((H, W), np.inf, np.float32)), "not finite"),
        (arrays(confidence=np.full((H, W), 1.5, np.float32)), r"within \[0, 1\]"),
        (arrays(confidence=np.full((H, W), -0.1, np.float32)), r"within \[0, 1\]"),
        (arrays(warp=np.array([{"a": 1}], object)), "'warp' is object"),
    ],
)
def test_invalid_arrays_are_named(tmp_path, pair, contents, message):
    path = save(tmp_path, contents)
    with pytest.raises(InputError, match=message) as error:
        PrecomputedMatcher(tmp_path).coarse(pair)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cut", [0, 10, 200, -30])
def test_damaged_files_are_named(tmp_path, pair, cut):
    path = save(tmp_path, arrays())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"00000012_still one\.npz: cannot be read as an \.npz file"):
        PrecomputedMatcher(tmp_path).coarse(pair)


def test_a_flipped_bit_in_the_data_is_noticed(tmp_path, pair):
    path = save(tmp_path, arrays())
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="cannot be read"):
        PrecomputedMatcher(tmp_path).coarse(pair)


def test_a_missing_file_and_a_missing_folder_are_named(tmp_path, pair):
    with pytest.raises(InputError, match=r"00000012_still one\.npz: no such file"):
        PrecomputedMatcher(tmp_path).coarse(pair)
    with pytest.raises(InputError, match="no such folder"):
        PrecomputedMatcher(tmp_path / "nowhere")


def member(text, version=1):
    """A member of an archive whose header is `text`."""
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


def hostile(folder, warp, compression=zipfile.ZIP_DEFLATED):
    path = folder / "00000012_still one.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("warp.npy", warp)
        archive.writestr("confidence.npy", member(b"{}"))
    return path


@pytest.mark.parametrize(
    "text", [b"", b"{", b"({", b"'", b"[" * 500, b"{'descr': 'evil'}", b"\xff\xfe", b"{'descr': '|O', }"]
)
@pytest.mark.parametrize("version", [1, 2])
def test_a_nonsensical_header_is_refused(tmp_path, pair, text, version):
    hostile(tmp_path, member(text, version))
    with pytest.raises(InputError, match=r"00000012_still one\.npz") as caught:
        PrecomputedMatcher(tmp_path).coarse(pair)
    assert "\n" not in str(caught.value)


def test_an_unknown_compression_is_refused(tmp_path, pair):
    path = hostile(tmp_path, save(tmp_path, arrays()).read_bytes()[:384])
    data = bytearray(path.read_bytes())
    for start, field in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        data[data.find(start) + field] = 97
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"cannot be read as an \.npz file \(.*compression"):
        PrecomputedMatcher(tmp_path).coarse(pair)


def test_a_small_file_that_claims_a_huge_array_is_refused_unread(tmp_path, pair):
    text = b" " * (100 << 20)
    path = hostile(tmp_path, member(text, 2))
    assert path.stat().st_size < 200_000
    tracemalloc.start()
    with pytest.raises(InputError, match="'warp' takes 104857612 bytes, not 384"):
        PrecomputedMatcher(tmp_path).coarse(pair)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()
