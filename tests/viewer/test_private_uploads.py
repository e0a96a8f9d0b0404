"""Uploads of the same file at the same time, in the orders that a browser cannot be made to take."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from milpath.viewer.private_uploads import PrivateUploads

CONTENT = b"a slide"


async def _end(upload, shared: Path) -> Path:
    """Do what Gradio does when the last byte has come, and return where the response says the file is."""
    shared.parent.mkdir(exist_ok=True)
    shared.write_bytes(CONTENT)
    sent = []
    await upload.keep({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"99")]})
    await upload.keep({"type": "http.response.body", "body": json.dumps([str(shared)]).encode()})

    async def send(message):
        sent.append(message)

    await upload.respond(send)
    body = sent[1]["body"]
    assert dict(sent[0]["headers"])[b"content-length"] == str(len(body)).encode()
    (path,) = json.loads(body)
    return Path(path)


@pytest.mark.parametrize("linked", [True, False], ids=["linked", "copied"])
def test_the_first_of_two_to_be_answered_takes_nothing_from_the_second(tmp_path, monkeypatch, linked):
    def refuse(*_):
        raise OSError("no links on this file system")

    if not linked:
        monkeypatch.setattr(os, "link", refuse)
    uploads, shared = PrivateUploads(tmp_path), tmp_path / "hash" / "slide.tiff"

    async def both():
        with uploads.upload() as second:
            with uploads.upload() as first:
                first.note_whole()
                second.note_whole()
                mine = await _end(first, shared)
            mine.unlink()  # answered before the second has its response
            assert shared.exists(), "the second still needs it"
            theirs = await _end(second, shared)
        return mine, theirs

    mine, theirs = asyncio.run(both())
    assert mine != theirs
    assert theirs.name == "slide.tiff"
    assert theirs.read_bytes() == CONTENT
    assert not shared.parent.exists(), "nothing shared stays"


def test_an_upload_that_fails_keeps_no_file_of_others_alive(tmp_path):
    uploads, shared = PrivateUploads(tmp_path), tmp_path / "hash" / "slide.tiff"

    async def one_fails():
        with pytest.raises(ValueError, match="broken off"), uploads.upload() as broken:
            broken.note_whole()
            with uploads.upload() as whole:
                whole.note_whole()
                path = await _end(whole, shared)
            assert shared.exists()
            raise ValueError("broken off")
        return path

    assert asyncio.run(one_fails()).exists()
    assert not shared.exists()
