"""Official files from a server; here from a local one that misbehaves in every known way."""

import hashlib
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ldip_jax.cache import cache_dir
from ldip_jax.errors import InputError
from ldip_jax.weights import http_download as module
from ldip_jax.weights.catalogue import CATALOGUE, Download, Entry
from ldip_jax.weights.fetch import cached, fetch
from ldip_jax.weights.pip_download import DownloadError

CONTENT = bytes(range(256)) * 2000
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]
FILE = f"tiny_20210101-{DIGITS}.pth"
PART = f".{FILE}.part"


class Server(ThreadingHTTPServer):
    """Serves CONTENT with one behaviour for each request; the last one is kept.

    Attributes:
        behaviours: "whole", "cut" (breaks off), "stall", "ignore" (the range), "other" (content), "endless",
            "redirect", or an HTTP status.
        requested: the ranges of the requests.
    """

    daemon_threads = True

    def __init__(self, *behaviours):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours, self.requested = list(behaviours), []
        self.over = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/{FILE}"

    def close(self):
        self.over.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        behaviours = server.behaviours
        behaviour = behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]
        requested = self.headers.get("Range")
        server.requested.append(requested)
        start = int(requested.removeprefix("bytes=").removesuffix("-")) if requested else 0
        self.close_connection = True
        if isinstance(behaviour, int):
            self.send_error(behaviour)
            return
        if behaviour == "redirect":
            self.send_response(302)
            self.send_header("Location", f"/elsewhere/{FILE}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = CONTENT[::-1] if behaviour == "other" else CONTENT
        if start >= len(content):
            self.send_error(416)
            return
        if start and behaviour != "ignore":
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            start = 0
            self.send_response(200)
        if behaviour == "endless":
            self.end_headers()
            while not server.over.is_set():
                try:
                    self.wfile.write(content)
                except OSError:
                    return
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        if behaviour in ("cut", "stall"):
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)
        if behaviour == "stall":
            self.wfile.flush()
            server.over.wait(20)


@pytest.fixture
def serve(monkeypatch):
    """Starts a server and puts its file into the catalogue."""
    servers = []
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def serve(*behaviours):
        server = Server(*behaviours)
        servers.append(server)
        offer(monkeypatch, server.url)
        return server

    yield serve
    for server in servers:
        server.close()


def offer(monkeypatch, url):
    entry = Entry(
        name="tiny",
        kind="backbone",
        network="basicvsrpp",
        source=Download(url, DIGITS, len(CONTENT)),
        member=None,
        sha256=DIGITS,
        size=len(CONTENT),
        licence="Apache-2.0, Somebody",
        summary="a tiny one",
    )
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    return entry


def refused(*parts):
    """The message, which names the file to download and where to put it."""
    with pytest.raises(InputError) as caught:
        fetch("tiny", progress=lambda line: None)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("tiny", FILE, DIGITS, str(cache_dir()), *parts):
        assert part in message
    return message


def files_in_cache():
    return sorted(os.listdir(cache_dir()))


def test_a_whole_file_is_downloaded_and_not_requested_again(serve):
    server = serve("whole")
    lines = []
    path = fetch("tiny", progress=lines.append)
    assert path == cache_dir() / FILE
    assert path.read_bytes() == CONTENT
    assert files_in_cache() == [FILE]
    assert server.url in lines[0]
    assert lines[-1].endswith("licence: Apache-2.0, Somebody")
    assert cached(CATALOGUE["tiny"]) == path
    assert fetch("tiny") == path
    assert server.requested == [None]


def test_a_broken_download_is_resumed_where_it_stopped(serve):
    server = serve("cut", "cut", "whole")
    assert fetch("tiny").read_bytes() == CONTENT
    half, rest = len(CONTENT) // 2, len(CONTENT) - len(CONTENT) // 4
    assert server.requested == [None, f"bytes={half}-", f"bytes={rest}-"]
    assert files_in_cache() == [FILE]


def test_a_partial_download_is_kept_for_the_next_try(serve):
    server = serve("cut", 503)
    refused("503")
    assert files_in_cache() == [PART]
    server.behaviours[:] = ["whole"]
    assert fetch("tiny").read_bytes() == CONTENT
    assert server.requested[-1] == f"bytes={len(CONTENT) // 2}-"
    assert files_in_cache() == [FILE]


def test_a_partial_download_of_a_dead_process_is_resumed(serve):
    server = serve("whole")
    cache_dir().mkdir(parents=True)
    part = cache_dir() / f".{FILE}.0123456789abcdef.part"
    part.write_bytes(CONTENT[:1000])
    # As long as that process may be alive, its file is not touched.
    assert fetch("tiny").read_bytes() == CONTENT
    assert files_in_cache() == sorted([part.name, FILE])
    (cache_dir() / FILE).unlink()
    os.utime(part, (time.time() - 3600,) * 2)
    assert fetch("tiny").read_bytes() == CONTENT
    assert server.requested == [None, "bytes=1000-"]
    assert files_in_cache() == [FILE]


@pytest.mark.parametrize("behaviour", ["whole", "ignore"])
@pytest.mark.parametrize("part", [b"something else" * 100, CONTENT[:-1] + b"x", CONTENT + b"x"])
def test_a_part_of_another_file_is_discarded(serve, part, behaviour):
    serve(behaviour)
    cache_dir().mkdir(parents=True)
    (cache_dir() / PART).write_bytes(part)
    assert fetch("tiny").read_bytes() == CONTENT
    assert files_in_cache() == [FILE]


def test_a_part_that_is_complete_is_used(serve):
    server = serve("whole")
    cache_dir().mkdir(parents=True)
    (cache_dir() / PART).write_bytes(CONTENT)
    assert fetch("tiny").read_bytes() == CONTENT
    assert server.requested == [f"bytes={len(CONTENT)}-"]


def test_a_server_that_does_not_support_ranges(serve):
    serve("cut", "ignore")
    assert fetch("tiny").read_bytes() == CONTENT


def test_a_wrong_file_leaves_nothing(serve):
    serve("other")
    refused("the server sent a different file")
    assert files_in_cache() == []


def test_an_endless_file_is_not_read_to_its_end(serve):
    serve("endless")
    refused("the server sent a different file")
    assert files_in_cache() == []


def test_a_stalled_download_is_resumed(serve, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    server = serve("stall", "whole")
    assert fetch("tiny").read_bytes() == CONTENT
    assert server.requested == [None, f"bytes={len(CONTENT) // 2}-"]


def test_a_server_that_does_not_answer_is_reported(monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        offer(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}/{FILE}")
        refused("no answer for 0.3 s")
    assert files_in_cache() == []


@pytest.mark.parametrize(
    ("status", "cause"), [(404, "does not have it, HTTP 404"), (403, "refused access"), (500, "failed")]
)
def test_http_errors_are_reported(serve, status, cause):
    serve(status)
    refused(cause)
    assert files_in_cache() == []


def test_redirects_are_followed(serve):
    server = serve("redirect", "cut", "redirect", "whole")
    assert fetch("tiny").read_bytes() == CONTENT
    assert server.requested[-1] == f"bytes={len(CONTENT) // 2}-"


def test_redirects_away_from_https_are_refused():
    request = module.urllib.request.Request("https://somewhere.example/file")
    handler = module._SafeRedirect()
    with pytest.raises(DownloadError, match="without https"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://somewhere.example/file")
    followed = handler.redirect_request(request, None, 302, "Found", {}, "https://other.example/file")
    assert followed.full_url == "https://other.example/file"


def test_without_network_the_file_can_be_placed_by_hand(serve):
    serve("whole").close()
    refused("cannot be reached")
    (cache_dir() / FILE).write_bytes(CONTENT)
    assert fetch("tiny").read_bytes() == CONTENT


def test_a_wrong_file_placed_by_hand_is_named(serve):
    serve("whole").close()
    cache_dir().mkdir(parents=True)
    (cache_dir() / FILE).write_bytes(CONTENT[:-1])
    lines = []
    with pytest.raises(InputError, match="cannot be reached"):
        fetch("tiny", progress=lines.append)
    assert f"{cache_dir() / FILE}: not the expected file" in lines[0]
    assert files_in_cache() == [FILE]


def test_an_interrupted_download_keeps_its_part(serve, monkeypatch):
    serve("whole")
    read = module._read

    def interrupted(reply, timeout):
        monkeypatch.setattr(module, "_read", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        return read(reply, timeout)

    monkeypatch.setattr(module, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch("tiny")
    assert files_in_cache() == [PART]
    assert CONTENT.startswith((cache_dir() / PART).read_bytes())


def test_a_full_disk_is_reported(serve, monkeypatch):
    serve("whole")
    monkeypatch.setattr("shutil.disk_usage", lambda path: module.shutil._ntuple_diskusage(1, 1, 100))
    with pytest.raises(InputError, match=r"No space left on device.*LDIP_CACHE"):
        fetch("tiny")
    assert files_in_cache() == []


def test_two_downloads_at_once_both_succeed(serve):
    serve("whole")
    results = []
    threads = [threading.Thread(target=lambda: results.append(fetch("tiny").read_bytes())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [CONTENT, CONTENT]
    assert files_in_cache() == [FILE]
