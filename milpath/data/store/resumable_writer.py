"""Writer of a bag store that continues after the last whole bag when it was killed."""

import hashlib
import io
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np

from milpath.data.store.bag_store_writer import BagStoreWriter

_log = logging.getLogger(__name__)
_JOURNAL = "finished.jsonl"
_BLOCK_BYTES = 8 << 20


class ResumableStoreWriter(BagStoreWriter):
    """A `BagStoreWriter` whose unfinished work stays on disk if the process is killed or stopped.

    Unfinished work is in `{path}.unfinished`: the tiles so far, the tile rows of each bag, and a journal with one line per
    bag. A line is written after its bag, and its digest is verified before the bag is used again. The path must identify
    the tiles, and only one process may write to it at a time.

    Attributes:
        finished: Bags of earlier processes, which `keep` adds without their tiles.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "store"
        >>> try:
        ...     with ResumableStoreWriter(path) as writer:
        ...         writer.add("slide_a", np.zeros((2, 3), np.float32), labels={"label": 1})
        ...         raise KeyboardInterrupt
        ... except KeyboardInterrupt:
        ...     pass
        >>> with ResumableStoreWriter(path) as writer:
        ...     list(writer.finished)
        ...     writer.keep("slide_a", labels={"label": 0})
        ['slide_a']
    """

    def __init__(
        self, path: str | Path, source: Mapping[str, Any] | None = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(path, source, extra)
        self._partial = self.path.with_name(f"{self.path.name}.unfinished")
        self._found: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._partial.mkdir(parents=True, exist_ok=True)
        self._found = self._recover()
        self.finished = {entry["bag_id"]: number for number, entry in enumerate(self._found)}
        self._kept = 0
        if not self.finished:
            super().__enter__()
        else:
            _log.info("%s: continuing after %s finished bags", self.path, f"{len(self.finished):,}")
            self._file = (self._partial / "tiles.npy").open("r+b")
            self._file.truncate(self._end_of(len(self._found)))
            self._file.seek(0, io.SEEK_END)
        # Whatever followed the last whole bag is written again.
        lines = [json.dumps(entry) + "\n" for entry in self._found]
        (self._partial / _JOURNAL).write_text("".join(lines), encoding="utf-8")
        self._journal = (self._partial / _JOURNAL).open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # a full disk has been reported, and its journal is not needed
            self._journal.close()
        try:
            if kind is None:
                self._finish()
        except Exception as failure:
            kind = type(failure)
            raise
        finally:
            self._file.close()
            # An error would be there again; after a stop, the same command continues.
            if kind is not None and issubclass(kind, Exception):
                shutil.rmtree(self._partial, ignore_errors=True)

    def add(
        self,
        bag_id: str,
        tiles: np.ndarray,
        labels: Mapping[str, Any],
        tile_rows: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
    ) -> None:
        """Append a bag, or keep it if an earlier process wrote it."""
        if bag_id in self.finished:
            self.keep(bag_id, labels)
            return
        super().add(bag_id, tiles, labels, tile_rows)
        self._file.flush()
        np.savez(self._partial / f"rows_{self.num_bags - 1}.npz", **self._tile_rows[-1])
        digest = hashlib.sha256(np.ascontiguousarray(tiles).data).hexdigest()
        entry = {"bag_id": bag_id, "num_tiles": len(tiles), "shape": list(self._shape), "dtype": self._dtype.str}
        self._journal.write(json.dumps(entry | {"sha256": digest}) + "\n")
        self._journal.flush()

    def keep(self, bag_id: str, labels: Mapping[str, Any]) -> None:
        """Add a bag that an earlier process wrote, with the labels of today.

        Args:
            bag_id: The next of `finished`, in their order.
            labels: As in `add`.
        """
        entry = self._found[self._kept]
        if entry["bag_id"] != bag_id:
            raise ValueError(f"{self._partial} holds {entry['bag_id']!r} before {bag_id!r}; delete it and start again")
        columns = self._rows_of(self._kept)
        self._shape, self._dtype = tuple(entry["shape"]), np.dtype(entry["dtype"])
        self._register(bag_id, entry["num_tiles"], labels, columns)
        self._kept += 1

    def _remove_work_files(self) -> None:
        """Remove tile rows and journal."""
        for path in [*self._partial.glob("rows_*.npz"), self._partial / _JOURNAL]:
            path.unlink()

    def _rows_of(self, number: int) -> dict[str, np.ndarray]:
        """Return the tile rows of a bag."""
        # numpy leaves a file open that is not a whole archive.
        with (self._partial / f"rows_{number}.npz").open("rb") as file, np.load(file, allow_pickle=False) as rows:
            return dict(rows)

    def _recover(self) -> list[dict[str, Any]]:
        """Return the journal up to the first bag that is not whole."""
        found: list[dict[str, Any]] = []
        try:
            lines = (self._partial / _JOURNAL).read_text(encoding="utf-8").splitlines()
            with (self._partial / "tiles.npy").open("rb") as file:
                for number, line in enumerate(lines):
                    entry = json.loads(line)
                    kind = (entry["shape"], entry["dtype"])
                    if not found:
                        file.seek(len(_header(*kind)))
                    if found and kind != (found[0]["shape"], found[0]["dtype"]):
                        break
                    if _sha256_of_next(file, _size_of(entry)) != entry["sha256"]:
                        break
                    self._rows_of(number)
                    found.append(entry)
        except (OSError, ValueError, KeyError, TypeError, BadZipFile):
            pass  # the journal ends here
        if not found:
            shutil.rmtree(self._partial, ignore_errors=True)
        return found

    def _end_of(self, number: int) -> int:
        """Return the size of the array file after some bags."""
        first = self._found[0]
        return len(_header(first["shape"], first["dtype"])) + sum(map(_size_of, self._found[:number]))


def _size_of(entry: Mapping[str, Any]) -> int:
    """Return the bytes of the tiles of a bag."""
    return int(entry["num_tiles"] * np.prod(entry["shape"], dtype=np.int64) * np.dtype(entry["dtype"]).itemsize)


def _header(shape: Sequence[int], dtype: str) -> bytes:
    """Return a header of the array file; its length does not depend on the number of tiles."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": (0, *shape)})
    return header.getvalue()


def _sha256_of_next(file: io.BufferedReader, size: int) -> str:
    """Return the digest of the next bytes of a file."""
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, _BLOCK_BYTES))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest() if size == 0 else "too short"
