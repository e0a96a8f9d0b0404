"""Lock that admits one process to a folder; the system releases it when the process ends."""

import errno
import logging
import os
import platform
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
# A lock file of this age is not one that another process is about to lock.
_SETTLED_SECONDS = 60.0
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


@contextmanager
def scratch_folder(prefix: str, parent: str | Path | None = None) -> Iterator[Path]:
    """Yield a temporary folder that is deleted at the end of the block; those that killed processes left are deleted before.

    Args:
        prefix: What the names of such folders begin with.
        parent: Folder in which they lie; `None` is the system's temporary folder.
    """
    place = Path(tempfile.gettempdir() if parent is None else parent)
    with suppress(OSError):  # it may be written to and not be listed
        for folder in place.iterdir():
            if folder.name.startswith(prefix):
                _remove_abandoned(folder)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=place) as name:
        lock = FileLock(Path(name) / LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except (OSError, NotImplementedError):  # a disk without locks: without the file it is not taken for abandoned
            (Path(name) / LOCK_FILE).unlink(missing_ok=True)
        try:
            yield Path(name)
        finally:
            lock.release()


def _remove_abandoned(folder: Path) -> None:
    """Delete a temporary folder of this user that no process has locked; without a lock file it is none of these."""
    with suppress(OSError, NotImplementedError):  # a lock that another holds is an OSError as well
        status = (folder / LOCK_FILE).lstat()
        owner = os.geteuid() if hasattr(os, "geteuid") else status.st_uid
        settled = time.time() - status.st_mtime > _SETTLED_SECONDS
        if stat.S_ISREG(status.st_mode) and not folder.is_symlink() and status.st_uid == owner and settled:
            with FileLock(folder / LOCK_FILE).acquire(timeout=0):
                shutil.rmtree(folder)
