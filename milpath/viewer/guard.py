"""ASGI middleware in front of Gradio: limits requests, refuses paths that were not uploaded, keeps uploads apart."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.responses import JSONResponse

from milpath.viewer.private_uploads import PrivateUploads

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Gradio's page needs inline scripts and styles; everything is loaded from this host only.
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
# Gradio lets pages of any other address use an app that is not on localhost, with the cookies of their visitors.
_NOT_KEPT = (b"cache-control", b"access-control-")
_UPLOAD = "/gradio_api/upload"
# Allowance for the boundaries and headers of a multipart body.
_OVERHEAD = 1 << 20
_MAX_JSON = 1 << 20


class Guard:
    """ASGI middleware around Gradio.

    Args:
        app: The wrapped application.
        max_bytes: Maximum size of all files of an upload.
        incoming: Folder of the uploads. A mounted Gradio app copies every file and fetches every URL named in a request
            without checks, so requests that name anything outside this folder are refused.
    """

    def __init__(
        self, app: Callable[[Message, Receive, Send], Awaitable[None]], max_bytes: int, incoming: Path
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes + _OVERHEAD
        self._incoming = incoming.resolve()
        self._private = PrivateUploads(self._incoming)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                kept = [pair for pair in message.get("headers", []) if not pair[0].lower().startswith(_NOT_KEPT)]
                message["headers"] = [*kept, *own]
            await send(message)

        if scope["method"] in ("GET", "HEAD"):
            await self._pass_read(scope, receive, with_headers)
        elif (b"sec-fetch-site", b"cross-site") in scope["headers"]:
            refusal = "a page of another address may not use this one; open its own page"
            await JSONResponse({"detail": refusal}, 403)(scope, receive, with_headers)
        elif scope["path"] == _UPLOAD:
            with self._private.upload() as upload:
                await self._app(scope, _Bounded(receive, self._max_bytes, upload.note_whole), upload.keep)
                await upload.respond(with_headers)
        else:
            await self._pass_checked(scope, receive, with_headers)

    async def _pass_read(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass on a request that only reads."""
        try:
            await self._app(scope, receive, send)
        except RuntimeError as error:
            # Gradio tells a page that it no longer knows it, as after a restart, and then raises what it has told.
            if not isinstance(error.__cause__, HTTPException):
                raise
            await send({"type": "http.response.body", "body": b""})

    async def _pass_checked(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on if it is JSON that names only uploaded files."""
        body, more = b"", True
        while more and len(body) <= _MAX_JSON:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        refusal = "the request is too long" if more or len(body) > _MAX_JSON else self._why_not(body)
        if refusal:
            await JSONResponse({"detail": refusal}, 400)(scope, receive, send)
            return
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, again, send)

    def _why_not(self, body: bytes) -> str | None:
        """Return why a request is refused, or None."""
        try:
            content = json.loads(body) if body else None
        except (ValueError, RecursionError):
            return "the request is not valid JSON"
        waiting = [content]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                if "path" in value and not self.holds(value["path"]):
                    return "this is not an uploaded file; upload the file on the page"
                waiting.extend(value.values())
            elif isinstance(value, list):
                waiting.extend(value)
        return None

    def holds(self, path: object) -> bool:
        """Return whether a path is that of an uploaded file."""
        if not isinstance(path, str) or "\0" in path:
            return False
        place = Path(path).resolve()
        return place.is_relative_to(self._incoming) and place != self._incoming


class _Bounded:
    """The body of an upload; if it is too long or interrupted, raise the exception after which Gradio deletes it.

    Args:
        receive: Receives the parts.
        max_bytes: Maximum size of all parts.
        on_whole: Called when the last part has come.
    """

    def __init__(self, receive: Receive, max_bytes: int, on_whole: Callable[[], None]) -> None:
        self._receive = receive
        self._left = max_bytes
        self._whole = False
        self._on_whole = on_whole

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._whole:
                self._on_whole()
            if self._left < 0:
                raise MultiPartException("The files exceed the maximum allowed size.")
        elif not self._whole:
            raise MultiPartException("The upload was interrupted.")
        return message
