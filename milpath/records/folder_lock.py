"""One process at a time in a folder: a lock that the system releases with its process, and the name of who holds it."""

import errno
import json
import logging
import os
import platform
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from milpath.records.atomic_files import write_json

LOCK_FILE = ".lock"
HOLDER_FILE = ".lock.json"

_log = logging.getLogger(__name__)
# What file systems without locks answer.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


class FolderLock:
    """A lock on a folder, for `with` or for `acquire` and `release`.

    The lock belongs to the process, not to the file: a process that is killed releases it, and the files it leaves say
    nothing. On a file system without locks a warning is logged and the work goes on.

    Args:
        folder: The folder; made when the lock is taken.
        way_out: What a person can do if another process holds it.

    Example:
        >>> import tempfile
        >>> with FolderLock(tempfile.mkdtemp()) as lock:
        ...     lock.holder()["pid"] == os.getpid()
        True
    """

    def __init__(self, folder: str | Path, way_out: str = "wait for it to end, or give another run_name") -> None:
        self.folder = Path(folder)
        self.way_out = way_out
        self._lock = FileLock(self.folder / LOCK_FILE)

    def acquire(self) -> None:
        """Take the lock, or name the process that has it.

        Raises:
            ValueError: If another process holds the lock.
            OSError: If the folder cannot be written to.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            holder = self.holder()
            who = f" (pid {holder.get('pid')} on {holder.get('host')})" if holder else ""
            raise ValueError(f"another process{who} works on {self.folder}; {self.way_out}") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _log.warning("%s has no file locks (%s): let no other process work on it", self.folder, error)
            return
        write_json(self.folder / HOLDER_FILE, {"pid": os.getpid(), "host": platform.node()})

    def release(self) -> None:
        """Let the next process in; without the lock this does nothing."""
        if self._lock.is_locked:
            (self.folder / HOLDER_FILE).unlink(missing_ok=True)
            self._lock.release()

    def holder(self) -> dict[str, int | str]:
        """Return `pid` and `host` of the process that took the lock last; empty if it did not say."""
        try:
            content = json.loads((self.folder / HOLDER_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
