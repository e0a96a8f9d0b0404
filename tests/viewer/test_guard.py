"""The middleware in front of the page, around an application that answers as Gradio does."""

import asyncio

import pytest
from starlette.exceptions import HTTPException

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


def answer_of(app, folder, method, path, *headers):
    """Return the messages of an answer."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [ORIGIN, *headers]}
    asyncio.run(Guard(app, 1, folder)(scope, receive, send))
    return sent


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
def test_no_page_of_another_address_may_read_an_answer(tmp_path, method):
    sent = answer_of(as_gradio, tmp_path, method, "/gradio_api/queue/join")
    names = [name.lower() for name, _ in sent[0]["headers"]]
    assert not [name for name in names if name.startswith(b"access-control")]
    assert names.count(b"cache-control") == names.count(b"content-security-policy") == 1
    assert b"content-type" in names
    assert sent[1]["body"] == b"yes"


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
def test_no_page_of_another_address_may_upload_or_ask(tmp_path, path):
    """A browser sends a form of any page without asking, and 2 GB of it would lie here for half an hour."""
    sent = answer_of(as_gradio, tmp_path, "POST", path, (b"sec-fetch-site", b"cross-site"))
    assert sent[0]["status"] == 403
    assert b"a page of another address may not use this one" in sent[1]["body"]
    for own in (b"same-origin", b"same-site", b"none"):
        assert answer_of(as_gradio, tmp_path, "POST", "/", (b"sec-fetch-site", own))[1]["body"] == b"yes"
    # A link to the app may be followed from anywhere.
    assert answer_of(as_gradio, tmp_path, "GET", "/", (b"sec-fetch-site", b"cross-site"))[1]["body"] == b"yes"


def test_a_page_that_outlived_a_restart_leaves_no_traceback_and_a_fault_does(tmp_path):
    async def answered(scope, receive, send):
        await as_gradio(scope, receive, send)
        raise RuntimeError("response already started") from HTTPException(404)

    async def broken(scope, receive, send):
        raise RuntimeError("broken")

    *_, told, end = answer_of(answered, tmp_path, "GET", "/gradio_api/queue/data")
    assert (told["body"], end["body"]) == (b"yes", b"")
    with pytest.raises(RuntimeError, match="broken"):
        answer_of(broken, tmp_path, "GET", "/gradio_api/queue/data")
