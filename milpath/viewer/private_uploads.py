"""A copy of each uploaded file for its upload alone: Gradio keeps files by their content, so that two people share one."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class PrivateUploads:
    """Give every upload files of its own, and remove those that Gradio would share.

    Gradio names an uploaded file by its content: of two people who upload the same slide, the first to be answered would
    take the file of the second away. A shared file is removed when no upload is between its last byte and its response.

    Args:
        incoming: Folder of the uploads.
    """

    def __init__(self, incoming: Path) -> None:
        self._incoming = incoming
        self._ending = 0
        self._shared: set[Path] = set()

    @contextmanager
    def upload(self) -> Iterator["PrivateUpload"]:
        """Yield an upload from its first byte to its response."""
        upload = PrivateUpload(self)
        try:
            yield upload
        finally:
            if upload.is_whole:
                self._ending -= 1
            if self._ending == 0:
                for path in self._shared:
                    path.unlink(missing_ok=True)
                    with suppress(OSError):  # a file of another name
                        path.parent.rmdir()
                self._shared.clear()

    def begin_end(self) -> None:
        """Note that the last byte of an upload has come."""
        self._ending += 1

    def copy(self, path: Path) -> Path:
        """Return a private copy of a shared file, without copying its bytes where the file system can."""
        folder = Path(tempfile.mkdtemp(dir=self._incoming))
        try:
            os.link(path, folder / path.name)
        except OSError:
            shutil.copyfile(path, folder / path.name)
        self._shared.add(path)
        return folder / path.name


class PrivateUpload:
    """One upload.

    Args:
        uploads: All of them.

    Attributes:
        is_whole: Whether its last byte has come.
    """

    def __init__(self, uploads: PrivateUploads) -> None:
        self._uploads = uploads
        self._messages: list[Message] = []
        self.is_whole = False

    def note_whole(self) -> None:
        """Note that its last byte has come."""
        if not self.is_whole:
            self.is_whole = True
            self._uploads.begin_end()

    async def keep(self, message: Message) -> None:
        """Keep a message of the response; Gradio may move the files only after it."""
        self._messages.append(message)

    async def respond(self, send: Send) -> None:
        """Send the response, with the paths of the private copies."""
        if self._messages and self._messages[0].get("status") == 200:
            body = b"".join(message.get("body", b"") for message in self._messages)
            shared = [Path(path) for path in json.loads(body)]
            private = [str(await asyncio.to_thread(self._uploads.copy, path)) for path in shared]
            body, start = json.dumps(private).encode(), self._messages[0]
            headers = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
            start = {**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]}
            self._messages = [start, {"type": "http.response.body", "body": body}]
        for message in self._messages:
            await send(message)
