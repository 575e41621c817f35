"""A studio that serves random networks, and a client for it."""

import http.client
import io
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="needs the extra studio")
pytest.importorskip("uvicorn", reason="needs the extra studio")

import uvicorn

from ldip_jax.cli.main import main
from ldip_jax.studio import job
from ldip_jax.studio.guard import HEADER
from ldip_jax.studio.server import HOST, Studio, make_app
from tests.media.make import make_video, moving
from tests.networks import HR, LR, Networks, write_networks

COUNT = 12


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """Files of random networks."""
    return write_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture
def words(networks: Networks, request: pytest.FixtureRequest) -> list[str]:
    """Arguments with which random networks accept any still; an indirect parameter is another LRRF."""
    lrrf = getattr(request, "param", networks.trained)
    weights = ["--backbone", str(networks.backbone), "--lrrf", str(lrrf), "--matcher", "flow"]
    return [*weights, "--refs-as-given", "--ref-threshold", "0"]


@pytest.fixture
def studio(words, tmp_path, monkeypatch) -> Iterator[Studio]:
    """A studio whose folder is inside that of the test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    instance = Studio(1 << 20, words)
    yield instance
    instance.close()


class Finished(subprocess.Popen):
    """Runs a command of the studio's child in this process; has what jobs use of a `Popen`."""

    def __init__(self, command: Sequence[str], **options: Any):
        assert command[1:3] == ["-m", "ldip_jax.studio.child"]
        self.stderr = io.StringIO()
        with redirect_stderr(self.stderr), redirect_stdout(io.StringIO()):
            self.returncode = main(command[3:])
        self.stderr.seek(0)

    def __exit__(self, *error: object) -> None:
        pass

    def poll(self) -> int:
        return self.returncode


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run in this process, where programs are traced only once; they cannot be stopped."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    stand_in = SimpleNamespace(Popen=Finished, PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr(job, "subprocess", stand_in)


@contextmanager
def serving(studio: Studio) -> Iterator[int]:
    """Serves a studio and yields the port."""
    server = uvicorn.Server(uvicorn.Config(make_app(studio), HOST, 0, ws="none", log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


class Response(NamedTuple):
    """A response of the server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def values(self) -> dict[str, Any]:
        return json.loads(self.body)


class Client:
    """Talks to a studio as its page does."""

    def __init__(self, port: int):
        self.port = port
        self.key = self.request("POST", "/sessions", b"{}").values["key"]

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Response:
        """Send a request; header names have underscores for dashes; ours is sent unless given as ""."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        sent = {HEADER: "1"} | {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {name: value for name, value in sent.items() if value})
        answer = connection.getresponse()
        result = Response(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
        connection.close()
        return result

    def session_request(
        self, method: str, path: str = "", body: bytes | None = None, **headers: str
    ) -> Response:
        """Send a request to the client's session."""
        return self.request(method, f"/s/{self.key}{path}", body, **headers)

    def upload(self, kind: str, name: str, body: bytes) -> Response:
        """Upload a file."""
        return self.session_request("PUT", f"/upload/{kind}", body, x_name=quote(name, safe=""))

    def start(self, kind: str, **settings: object) -> Response:
        """Start a job."""
        return self.session_request("POST", f"/start/{kind}", json.dumps(settings).encode())

    def wait(self, kind: str, until: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
        """Wait until a job has ended or a condition holds, and return the state."""
        while True:
            state = self.session_request("GET").values
            job = state["jobs"][kind]
            if job["state"] not in ("waiting", "running") or (until is not None and until(job)):
                return state
            time.sleep(0.05)


@pytest.fixture
def client(studio) -> Iterator[Client]:
    """A client of a studio that is being served."""
    with serving(studio) as port:
        yield Client(port)


@pytest.fixture
def clip(tmp_path, rng) -> bytes:
    """A video of `COUNT` frames."""
    return make_video(tmp_path / "a.mp4", moving(rng, COUNT, *LR), options={"bf": "0"}).read_bytes()


@pytest.fixture
def photo(tmp_path, rng) -> bytes:
    """A still."""
    Image.fromarray(rng.integers(0, 256, (*HR, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    return (tmp_path / "photo.png").read_bytes()
