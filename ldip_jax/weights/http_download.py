"""Downloads a file from a web server; resumes interrupted downloads and verifies files before use.

Uses the user's own proxies and certificates, as Python's `urllib` finds them in the environment.
"""

import contextlib
import http.client
import os
import secrets
import shutil
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from ldip_jax.weights.pip_download import DownloadError

TIMEOUT = 30.0
"""An attempt is given up after this many seconds without a byte from the server."""
TRIES = 100
BLOCK = 1 << 16


class _BrokenError(DownloadError):
    """An attempt that was interrupted; another one may get further."""


def http_download(
    url: str, target: Path, is_right: Callable[[Path], bool], *, limit: int, timeout: float | None = None
) -> None:
    """Download `url` to `target`, complete and checked, or not at all.

    A failed attempt leaves what it has received in a hidden `.part` file beside `target`. The next attempt
    resumes from there.

    Args:
        url: an address; redirects from https to http are refused.
        target: the file, replaced if it exists; its folder must exist.
        is_right: whether a complete file has the right content.
        limit: the largest size in bytes that is accepted.
        timeout: seconds without an answer, `TIMEOUT` by default.

    Raises:
        DownloadError: no network, access refused, no such file, interrupted, or not the right file.
        OSError: an error of the disk.
    """
    timeout = TIMEOUT if timeout is None else timeout
    part = _claim(target, timeout)
    try:
        resumed = part.stat().st_size > 0
        _complete(url, part, limit, timeout)
        right = is_right(part)
        if resumed and not right:
            # The part was of another file.
            part.write_bytes(b"")
            _complete(url, part, limit, timeout)
            right = is_right(part)
        if not right:
            part.unlink()
            raise DownloadError("the server sent a different file than expected")
        os.replace(part, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            if part.stat().st_size:
                os.replace(part, _partial_file(target))
            else:
                part.unlink()


def _partial_file(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _claim(target: Path, timeout: float) -> Path:
    """A file to download into, only for this process, with what an earlier attempt may have left."""
    own = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    # A file that has not been written to for this long was left by a process that has ended.
    dead = time.time() - 2 * timeout
    for found in (_partial_file(target), *target.parent.glob(f".{target.name}.*.part")):
        with contextlib.suppress(FileNotFoundError):
            if found == _partial_file(target) or found.stat().st_mtime < dead:
                os.replace(found, own)
                return own
    own.touch()
    return own


def _complete(url: str, part: Path, limit: int, timeout: float) -> None:
    """Append what is missing; resume after an interruption as long as every attempt gets further."""
    with part.open("ab") as file:
        for left in reversed(range(TRIES)):
            had = file.tell()
            try:
                _append(url, file, limit, timeout)
                return
            except _BrokenError as error:
                got = file.tell()
                if got > had and left:
                    continue
                kept = f"; {got / 1e6:.1f} MB are kept, and the next attempt resumes there" if got else ""
                raise DownloadError(f"{error}{kept}") from None


def _append(url: str, file: BinaryIO, limit: int, timeout: float) -> None:
    start = file.tell()
    headers = {"User-Agent": "ldip_jax", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers)
    if start:
        request.add_header("Range", f"bytes={start}-")
    opener = urllib.request.build_opener(_SafeRedirect)
    try:
        with _network_errors(timeout):
            reply = opener.open(request, timeout=timeout)
    except _NothingMoreError:
        # The part is at least as long as the whole file. It is checked, and downloaded again if it is wrong.
        return
    with reply:
        if start and not (reply.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
            start = 0
            file.truncate(0)
            file.seek(0)
            if reply.status != 200:
                raise DownloadError("the server sent another part of the file than requested")
        length = reply.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        if total and shutil.disk_usage(os.path.dirname(file.name)).free < total - start:
            raise OSError(28, "No space left on device")
        bar = tqdm(
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            leave=False,
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
        )
        with bar:
            while block := _read(reply, timeout):
                file.write(block)
                bar.update(len(block))
                if file.tell() > limit:
                    file.truncate(0)
                    raise DownloadError("the server sent a different file than expected")
    if total is not None and file.tell() < total:
        raise _BrokenError("the connection broke off")


def _read(reply: http.client.HTTPResponse, timeout: float) -> bytes:
    with _network_errors(timeout):
        return reply.read1(BLOCK)


class _NothingMoreError(Exception):
    """The server has no data from that position on."""


@contextlib.contextmanager
def _network_errors(timeout: float) -> Iterator[None]:
    """Turn network errors into a `DownloadError` that names the cause in a few words."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            raise _NothingMoreError from None
        cause = {401: "refused access", 403: "refused access", 404: "does not have it"}
        raise DownloadError(f"the server {cause.get(error.code, 'failed')}, HTTP {error.code}") from None
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DownloadError("the connection's certificate was refused") from None
        if isinstance(reason, TimeoutError):
            raise _BrokenError(f"no answer for {timeout:g} s") from None
        if isinstance(reason, (socket.gaierror, ConnectionRefusedError)):
            raise _BrokenError("no network, or the server cannot be reached") from None
        raise _BrokenError(f"no connection, or it broke off: {reason}".partition("\n")[0][:200]) from None


class _SafeRedirect(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from an encrypted connection to an unencrypted one."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if req.type == "https" and not newurl.startswith("https:"):
            raise DownloadError("the server redirects to an address without https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
