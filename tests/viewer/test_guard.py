"""The middleware in front of the page, around an application that answers as Gradio does."""

import asyncio

import pytest

from milpath.viewer.guard import Guard

ORIGIN = (b"origin", b"http://evil.example")


async def as_gradio(scope, receive, send):
    """Let any page read the answer, as Gradio does away from localhost."""
    origin = dict(scope["headers"])[b"origin"]
    headers = [
        (b"content-type", b"text/plain"), (b"Access-Control-Allow-Origin", origin),
        (b"access-control-allow-credentials", b"true"), (b"cache-control", b"max-age=9"),
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"yes"})


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
def test_no_page_of_another_address_may_read_an_answer(tmp_path, method):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": "/gradio_api/queue/join", "headers": [ORIGIN]}
    asyncio.run(Guard(as_gradio, 1, tmp_path)(scope, receive, send))
    names = [name.lower() for name, _ in sent[0]["headers"]]
    assert not [name for name in names if name.startswith(b"access-control")]
    assert names.count(b"cache-control") == names.count(b"content-security-policy") == 1
    assert b"content-type" in names
    assert sent[1]["body"] == b"yes"
