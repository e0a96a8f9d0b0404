"""What stands before the page: no request may grow without bound, no page may fetch from another host."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.formparsers import MultiPartException

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Gradio's page builds itself from inline scripts and styles; everything comes from this host alone.
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
# Room for the boundaries and headers of a multipart body.
_OVERHEAD = 1 << 20


class Guard:
    """ASGI middleware that bounds bodies and sets headers of security.

    Args:
        app: What answers.
        max_bytes: Files of one request together.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]], max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes + _OVERHEAD

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received, whole = 0, False

        async def bounded() -> Message:
            nonlocal received, whole
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                whole = not message.get("more_body", False)
                if received > self._max_bytes:
                    raise MultiPartException(f"The files exceed the maximum allowed size of {self._max_bytes} bytes.")
            elif not whole:
                # Gradio deletes what it wrote of an upload after this exception, and leaves it after any other.
                raise MultiPartException("The upload was broken off.")
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        await self._app(scope, bounded, with_headers)
