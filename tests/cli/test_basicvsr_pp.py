"""BasicVSR++ from a user's file: inspected, converted and run, both for upscaling and for restoring."""

import numpy as np
import pytest

import ldip_jax
from ldip_jax.weights.catalogue import CATALOGUE
from ldip_jax.weights.load import load_weights, save_weights
from ldip_jax.weights.pip_download import DownloadError
from tests.cli.clips import random_frames, read_folder, write_folder
from tests.networks import LR
from tests.weights.forge import write_pth
from tests.weights.narrow import as_mmagic, basicvsr_pp_arrays

PARAMETERS = {
    "basicvsrpp-reds4": 7_322_927,
    "basicvsrpp-ntire-vsr": 43_780_463,
    "basicvsrpp-denoise": 9_760_175,
}


def official(folder, **options):
    """A file as mmagic writes it, which also contains entries that our networks do not have."""
    arrays = {f"generator.{name}": array for name, array in as_mmagic(basicvsr_pp_arrays(**options)).items()}
    arrays |= {"step_counter": np.zeros(1, np.int64), "data_preprocessor.mean": np.zeros(3, np.float32)}
    return write_pth(folder / "net.pth", arrays, wrap="state_dict")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return official(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def restorer(tmp_path_factory):
    return official(tmp_path_factory.mktemp("restorer"), same_size=True)


def converted(checkpoint):
    """The same network in our format, which is read much faster."""
    path = checkpoint.with_suffix(".safetensors")
    if not path.exists():
        save_weights(path, load_weights(checkpoint))
    return path


def test_the_content_of_a_file_is_reported(ldip, checkpoint):
    done = ldip("weights", "info", checkpoint)
    assert done.code == 0
    for part in (
        "basicvsrpp",
        "mid_channels 8, num_blocks 2, same_size False",
        "unwrapped 'state_dict'",
        "stripped 'generator.'",
        "left out step_counter",
        "left out data_preprocessor.mean",
        "left out spynet.mean, a constant of the network",
        "upsample1.upsample_conv to upconv1",
    ):
        assert part in done.out
    assert "renamed 32 modules" in done.out
    components = ldip("info", "--backbone", checkpoint)
    assert components.code == 0
    for part in ("deform_align_backward_1", "backbone_forward_2", "reconstruction"):
        assert part in components.out


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items(), ids=PARAMETERS)
def test_official_files_are_described_before_they_are_fetched(ldip, name, count):
    done = ldip("info", "--backbone", name)
    assert done.code == 0
    assert f"{name} (basicvsrpp), not fetched yet" in done.out
    assert f"{count:,}" in done.out


def test_without_network_the_user_is_asked_for_the_official_file(ldip, monkeypatch):
    def unreachable(*args, **more):
        raise DownloadError("no network")

    monkeypatch.setattr("ldip_jax.weights.fetch.http_download", unreachable)
    done = ldip("weights", "fetch", "basicvsrpp-reds4")
    assert (done.code, done.out) == (2, "")
    assert CATALOGUE["basicvsrpp-reds4"].source.file in done.message
    assert "its sha256 begins with db622b2f" in done.message


def test_a_converted_file_upscales_a_clip_identically(upscale, ldip, checkpoint, tmp_path, rng):
    frames = random_frames(rng, 4)
    clip = write_folder(tmp_path / "in", frames)
    done = upscale(clip, tmp_path / "out", "--bit-depth", 16, "--backbone", checkpoint)
    assert done.code == 0
    assert "net.pth only" in done.out
    assert ldip("weights", "convert", checkpoint, tmp_path / "net.safetensors").code == 0
    expected = ldip_jax.upscale(np.stack(frames), backbone=tmp_path / "net.safetensors", lrrf="none")
    assert expected.shape == (4, 32, 40, 3)
    assert expected.std() > 0.05
    assert np.abs(read_folder(tmp_path / "out") * 65535.0 - expected * 65535.0).max() < 0.51


def test_a_restoring_network_keeps_the_size(upscale, restorer, tmp_path, rng):
    """Sides that are not multiples of 4 are padded with their last pixels, and cropped again."""
    height, width = LR[0] - 1, LR[1]
    frames = random_frames(rng, 3, (height, width))
    clip = write_folder(tmp_path / "in", frames)
    assert upscale(clip, tmp_path / "out", "--bit-depth", 16, "--backbone", restorer).code == 0
    restorer = converted(restorer)
    whole = np.pad(np.stack(frames), ((0, 0), (0, 1), (0, 2), (0, 0)), "edge")
    expected = ldip_jax.upscale(whole, backbone=restorer, lrrf="none")[:, :height, :width]
    assert np.abs(read_folder(tmp_path / "out") * 65535.0 - expected * 65535.0).max() < 0.51
    done = upscale(clip, tmp_path / "twice", "--scale", 2, "--backbone", restorer)
    assert done.code == 0
    assert f"{width}x{height} to {2 * width}x{2 * height}" in done.out
    assert "restored at the same size, then resized" in done.err


def test_frames_are_restored_first(upscale, restorer, checkpoint, tmp_path, rng):
    """The result is that of two runs with floating-point frames in between."""
    checkpoint, restorer = converted(checkpoint), converted(restorer)
    frames = random_frames(rng, 4)
    clip = write_folder(tmp_path / "in", frames)
    options = ("--backbone", checkpoint, "--restore", restorer, "--bit-depth", 16)
    done = upscale(clip, tmp_path / "out", *options)
    assert done.code == 0
    assert "restored by net.pth, then net.pth only" in done.out
    restored = ldip_jax.upscale(np.stack(frames), backbone=restorer, lrrf="none")
    expected = ldip_jax.upscale(restored, backbone=checkpoint, lrrf="none")
    assert np.abs(expected - ldip_jax.upscale(np.stack(frames), backbone=checkpoint)).max() > 0.01
    once = ldip_jax.upscale(np.stack(frames), backbone=checkpoint, restore=restorer)
    np.testing.assert_array_equal(once, expected)
    assert np.abs(read_folder(tmp_path / "out") * 65535.0 - expected * 65535.0).max() < 0.51


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (
            "basicvsr-reds4",
            "not a network that restores at the same size, such as basicvsrpp-ntire-decompress1",
        ),
        ("gmflow", "not a network that restores"),
        ("missing.pth", "neither a file nor a name of weights"),
    ],
)
def test_networks_that_do_not_restore_are_refused(upscale, network, reason, tmp_path, rng):
    clip = write_folder(tmp_path / "in", random_frames(rng, 2))
    done = upscale(clip, tmp_path / "out", "--restore", network)
    assert done.code == 2
    assert reason in done.message
