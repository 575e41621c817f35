"""Keeps other web pages out of the studio, and its own page from loading anything from elsewhere."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A page of another site cannot send this header here without asking first, which is not answered.
HEADER = "x-ldip-studio"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class OwnPage:
    """Middleware: what changes something must come from our own page; every answer has strict headers."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        if scope["method"] not in ("GET", "HEAD") and HEADER not in Headers(scope=scope):
            refusal = JSONResponse({"error": "only the page of ldip studio may do this"}, 403)
            await refusal(scope, receive, sent)
            return
        await self._app(scope, receive, sent)
