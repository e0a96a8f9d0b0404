"""Lock that admits one process to a folder; the system releases it when the process ends."""

import errno
import logging
import os
import platform
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from milpath.records.atomic_files import write_json
from milpath.records.plain_values import read_mapping

LOCK_FILE = ".lock"
HOLDER_FILE = ".lock.json"

_log = logging.getLogger(__name__)
# The holder of a lock writes its name after it got the lock, and removes it before it gives the lock back.
_NAMELESS_SECONDS = 1.0
# Error codes of file systems without locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


class FolderLock:
    """A lock on a folder, used with `with` or with `acquire` and `release`.

    The lock belongs to the process, not to the file: a killed process releases it, and the file that it leaves has no
    effect. On a file system without locks a warning is logged and the work continues.

    Args:
        folder: The folder; created when the lock is acquired.
        way_out: What the user can do if another process holds it.

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
        """Acquire the lock; the error names the process that holds it.

        Raises:
            ValueError: If another process holds the lock.
            OSError: If the folder cannot be written to.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._acquire_or_refuse()
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _log.warning("%s has no file locks (%s): let no other process work on it", self.folder, error)
            return
        write_json(self.folder / HOLDER_FILE, {"pid": os.getpid(), "host": platform.node()})

    def _acquire_or_refuse(self) -> None:
        """Acquire the lock, or raise an error with the name of the process that holds it."""
        until = time.monotonic() + _NAMELESS_SECONDS
        while True:
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                holder = self.holder()
                if not holder and time.monotonic() < until:
                    time.sleep(0.02)
                    continue
                who = f" (pid {holder.get('pid')} on {holder.get('host')})" if holder else ""
                raise ValueError(f"another process{who} is working on {self.folder}; {self.way_out}") from None
            return

    def release(self) -> None:
        """Release the lock; does nothing if it is not held."""
        if self._lock.is_locked:
            (self.folder / HOLDER_FILE).unlink(missing_ok=True)
            self._lock.release()

    def holder(self) -> dict[str, int | str]:
        """Return `pid` and `host` of the process that acquired the lock last; empty if unknown."""
        try:
            return read_mapping(self.folder / HOLDER_FILE)
        except (OSError, ValueError):
            return {}

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
