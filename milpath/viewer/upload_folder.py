"""The folder of uploads, which are deleted once they are processed."""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_WORK = "work"
_LONGEST_LINE = 400


class Uploads:
    """The only folder of an app; the owner of the app deletes it.

    Args:
        folder: An empty folder.

    Attributes:
        incoming: Folder of uploaded files that have not been processed yet.
    """

    def __init__(self, folder: Path) -> None:
        self.incoming = folder / "incoming"
        self._answering = folder / "answering"
        self.incoming.mkdir()
        self._answering.mkdir()

    @contextmanager
    def take(self, payload: Any) -> Iterator[tuple[list[Path], Path]]:
        """Move uploaded files out of the incoming folder; they are always deleted at the end of the block.

        Args:
            payload: Data sent by the page: a list of `{"path": ...}`. It is untrusted: a path that is not an upload is
                neither read nor deleted nor fetched.

        Yields:
            The files under the names given by the sender, and an empty folder that is deleted with them.

        Raises:
            ValueError: If there is no file, or it was not uploaded.
        """
        folder = Path(tempfile.mkdtemp(dir=self._answering))
        try:
            files = []
            for number, path in enumerate(self._paths(payload)):
                target = folder / str(number) / path.name
                target.parent.mkdir()
                try:
                    path.replace(target)
                except FileNotFoundError:
                    raise ValueError(f"{path.name} no longer exists; upload the file again") from None
                with suppress(OSError):  # another file with the same content may be there
                    path.parent.rmdir()
                files.append(target)
            work = folder / _WORK
            work.mkdir()
            yield files, work
        finally:
            shutil.rmtree(folder)

    def _paths(self, payload: Any) -> list[Path]:
        """Return the paths of uploaded files."""
        entries = payload if isinstance(payload, list) else []
        if not entries:
            raise ValueError("there is no file; upload a slide, or the PNG tiles of one slide")
        paths = []
        for entry in entries:
            text = entry.get("path") if isinstance(entry, dict) else None
            path = Path(text).resolve() if isinstance(text, str) and "\0" not in text else None
            if path is None or not path.is_relative_to(self.incoming.resolve()) or path == self.incoming.resolve():
                raise ValueError("this is not an uploaded file; upload the file on the page")
            paths.append(path)
        return list(dict.fromkeys(paths))

    def one_line(self, error: Exception) -> str:
        """Return the message of an error in one line, without the folders of this machine."""
        folder = rf"{re.escape(str(self._answering))}/[^/]+/(?:\d+/|{_WORK}/(?:\d+/)?(?:slides/)?)?"
        return re.sub(folder, "", " ".join(str(error).split()))[:_LONGEST_LINE]

    def forget_older_than(self, seconds: float) -> None:
        """Delete uploaded files that were never processed."""
        bound = time.time() - seconds
        for path in sorted(self.incoming.rglob("*"), reverse=True):
            with suppress(OSError):  # it was processed meanwhile, or holds a newer file
                if path.is_dir():
                    path.rmdir()
                elif path.stat().st_mtime < bound:
                    path.unlink()
