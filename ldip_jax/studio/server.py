"""The server of `ldip studio`: for this machine only, and for its own page only."""

import asyncio
import json
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from filelock import FileLock, Timeout
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ldip_jax.errors import InputError
from ldip_jax.memory import show_size
from ldip_jax.studio.guard import OwnPage
from ldip_jax.studio.session import Session
from ldip_jax.studio.settings import DAMAGED, FORMATS, read_settings

HOST = "127.0.0.1"
MOST_SESSIONS = 16
_PREFIX = "ldip-studio-"
_SWEEP = 30.0
_ASSETS = {"": "text/html", "studio.css": "text/css", "studio.js": "text/javascript"}
# Bytes of a refused upload that are still read, because browsers show no answer to what is cut off.
_DRAINED = 1 << 26
# Bytes of settings.
_LONGEST = 4096


class Studio:
    """All pages, and the folder of their files.

    Attributes:
        folder: removed by `close`; also after a crash, when the next studio starts.
    """

    def __init__(self, max_upload: int, words: Sequence[str] = ()):
        """
        Args:
            max_upload: bytes that the uploads of one page may take.
            words: more arguments of `ldip upscale`, for all runs.
        """
        _sweep_old()
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = FileLock(self.folder / "lock")
        self._lock.acquire()
        self.max_upload, self._words = max_upload, list(words)
        self.sessions: dict[str, Session] = {}
        self._turn = threading.Lock()

    def open(self) -> Session:
        """A new page's session.

        Raises:
            InputError: there are too many.
        """
        self.sweep()
        if len(self.sessions) >= MOST_SESSIONS:
            raise InputError("too many pages are open; close some, and press Start over in these first")
        session = Session(self.folder, self.max_upload, self._turn, self._words)
        self.sessions[session.key] = session
        return session

    def sweep(self) -> None:
        """End the sessions whose pages are gone."""
        for key in [key for key, session in self.sessions.items() if session.expired]:
            self.sessions.pop(key).close()

    def close(self) -> None:
        """End all sessions and remove all files."""
        for session in self.sessions.values():
            session.stop()
        for session in self.sessions.values():
            session.close()
        self.sessions.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release(force=True)


def _sweep_old() -> None:
    """Remove the folders of studios that were killed; those at work hold a lock."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout):
            if folder.is_symlink() or not (folder / "lock").is_file():
                continue
            lock = FileLock(folder / "lock", timeout=0)
            lock.acquire()
            shutil.rmtree(folder, ignore_errors=True)
            lock.release(force=True)


async def _values(request: Request) -> dict[str, Any]:
    """The JSON object that a page sends."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST:
            raise HTTPException(413, "too long")
    try:
        values = json.loads(body)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise HTTPException(400, "a JSON object is expected")
    return values


async def _drain(stream: AsyncIterator[bytes]) -> None:
    size = 0
    async for part in stream:
        size += len(part)
        if size > _DRAINED:
            break


def make_app(studio: Studio) -> Starlette:
    """The application; its end closes the studio."""

    def session_of(request: Request) -> Session:
        session = studio.sessions.get(request.path_params["key"])
        if session is None:
            raise HTTPException(404, "this page has ended; load it again")
        return session

    async def asset(request: Request) -> Response:
        name = request.url.path.removeprefix("/")
        text = files("ldip_jax.studio").joinpath(name or "studio.html").read_text(encoding="utf-8")
        return Response(text, media_type=_ASSETS[name])

    async def begin(request: Request) -> Response:
        values = await _values(request)
        # A page that is loaded again keeps its files.
        session = studio.sessions.get(str(values.get("key"))) or studio.open()
        formats = {key: entry.title for key, entry in FORMATS.items()}
        choices = {"format": formats, "damaged": DAMAGED}
        limit = show_size(studio.max_upload)
        return JSONResponse({"key": session.key, "choices": choices, "limit": limit})

    async def state(request: Request) -> Response:
        return JSONResponse(session_of(request).state())

    async def upload(request: Request) -> Response:
        session, kind = session_of(request), request.path_params["kind"]
        if kind not in ("clip", "still"):
            raise HTTPException(404)
        length = request.headers.get("content-length", "")
        name = unquote(request.headers.get("x-name", ""), errors="replace")
        stream = request.stream()
        try:
            await session.upload(kind, name, int(length) if length.isdecimal() else 0, stream)
        except InputError:
            await _drain(stream)
            raise
        return JSONResponse(session.state())

    async def remove(request: Request) -> Response:
        session = session_of(request)
        session.remove_still(request.path_params["name"])
        return JSONResponse(session.state())

    async def start(request: Request) -> Response:
        session, kind = session_of(request), request.path_params["kind"]
        if kind not in ("matches", "preview", "run"):
            raise HTTPException(404)
        session.start(kind, read_settings(await _values(request)))
        return JSONResponse(session.state())

    async def stop(request: Request) -> Response:
        session = session_of(request)
        session.stop()
        return JSONResponse(session.state())

    async def picture(request: Request) -> Response:
        path = session_of(request).pictures.get(request.path_params["name"])
        if path is None or not path.is_file():
            raise HTTPException(404)
        return FileResponse(path)

    async def result(request: Request) -> Response:
        session = session_of(request)
        if session.result is None:
            raise HTTPException(404, "there is no result yet")
        session.fetched = True
        return FileResponse(session.result, filename=session.result_name)

    async def end(request: Request) -> Response:
        session = session_of(request)
        del studio.sessions[session.key]
        await run_in_threadpool(session.close)
        return JSONResponse({})

    async def refused(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, 400)

    async def disconnected(request: Request, error: Exception) -> Response:
        return Response(status_code=400)

    async def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                await asyncio.sleep(_SWEEP)
                studio.sweep()

        sweeping = asyncio.create_task(sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            await run_in_threadpool(studio.close)

    return Starlette(
        routes=[
            *(Route(f"/{name}", asset) for name in _ASSETS),
            Route("/sessions", begin, methods=["POST"]),
            Route("/s/{key}", state),
            Route("/s/{key}", end, methods=["DELETE"]),
            Route("/s/{key}/upload/{kind}", upload, methods=["PUT"]),
            Route("/s/{key}/still/{name}", remove, methods=["DELETE"]),
            Route("/s/{key}/start/{kind}", start, methods=["POST"]),
            Route("/s/{key}/stop", stop, methods=["POST"]),
            Route("/s/{key}/picture/{name}", picture),
            Route("/s/{key}/result", result),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]),
            Middleware(OwnPage),
        ],
        exception_handlers={InputError: refused, ClientDisconnect: disconnected, HTTPException: failed},
        lifespan=lifespan,
    )
