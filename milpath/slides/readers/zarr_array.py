"""One array of pixels in the Zarr format, versions 2 and 3, read chunk by chunk with bounded memory."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from milpath.records.digests import require_regular_file

# Metadata of an array or a group have a few KB, those of a chunk at most a few MB of pixels.
_MAX_METADATA = 4 << 20
_MAX_CHUNK_BYTES = 1 << 28
_MAX_IN_SHARD = 1 << 20
_NOT_STORED = (1 << 64) - 1
# Neighbouring tiles touch the same chunks.
_KEPT_BYTES = 64 << 20
_MAX_SIDE = 1 << 22
_TYPES = {"|u1": "u1", "uint8": "u1", "<u2": "<u2", ">u2": ">u2", "uint16": "u2"}


def _blosc_decode(data: bytes, out: Any) -> Any:
    """Decode a chunk after a check of the lengths in its header, beyond which the library reads memory unchecked."""
    size, block, length = (int.from_bytes(data[place : place + 4], "little") for place in (4, 8, 12))
    if length != len(data) or size != out.nbytes or not 0 < block <= size:
        raise ValueError(f"its header states {length:,} bytes of {size:,}; it has {len(data):,} of {out.nbytes:,}")
    return imagecodecs.blosc_decode(data, out=out)


# Each takes the size of the decoded chunk as a limit, so that no chunk unpacks without bound. Other codecs, of which some
# run code (pickle), are refused. A codec is loaded when it is first used.
_DECODERS = {
    "blosc": _blosc_decode,
    "zstd": lambda data, out: imagecodecs.zstd_decode(data, out=out),
    "zlib": lambda data, out: imagecodecs.zlib_decode(data, out=out),
    "gzip": lambda data, out: imagecodecs.gzip_decode(data, out=out),
    "lz4": lambda data, out: imagecodecs.lz4_decode(data, out=out, header=True),
}
_ERRORS = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RuntimeError)


class ZarrArray:
    """An array of unsigned integers of 8 or 16 bits.

    Args:
        folder: The folder of the array, with `.zarray` (version 2) or `zarr.json` (version 3).

    Attributes:
        shape: Length of each axis.
        dtype: Type of the samples.
        fill: Value of chunks that are not stored.
        missing: Chunks read so far that are not stored.

    Raises:
        ValueError: If it is damaged, too large, or uses a codec or type that is not read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.missing: set[tuple[int, ...]] = set()
        self._kept: dict[tuple[int, ...], NDArray[Any] | None] = {}
        self._in_shard: tuple[int, ...] | None = None
        self._index_tail = 0
        second = (folder / ".zarray").is_file()
        meta = read_metadata(folder / (".zarray" if second else "zarr.json"))
        try:
            self._describe_2(meta) if second else self._describe_3(meta)
        except _ERRORS as error:
            if isinstance(error, ValueError):
                raise ValueError(f"array {folder.name}: {error}") from None
            raise ValueError(f"array {folder.name}: its metadata are damaged ({type(error).__name__})") from None
        size = math.prod(self._chunk) * self.dtype.itemsize
        if len(self.shape) != len(self._chunk) or not 2 <= len(self.shape) <= 5:
            raise ValueError(f"array {folder.name} has {len(self.shape)} axes, chunks have {len(self._chunk)}")
        if not all(0 < length <= _MAX_SIDE for length in (*self.shape, *self._chunk)) or size > _MAX_CHUNK_BYTES:
            raise ValueError(f"array {folder.name}: shape {self.shape} or chunks {self._chunk} are out of bounds")

    def _describe_2(self, meta: Mapping[str, Any]) -> None:
        self.shape, self._chunk = _lengths(meta["shape"]), _lengths(meta["chunks"])
        self.dtype = _dtype(meta["dtype"])
        self.fill = _fill(meta.get("fill_value"), self.dtype)
        if meta.get("order", "C") != "C" or meta.get("filters"):
            raise ValueError("order F and filters are not read")
        compressor = meta.get("compressor")
        self._codecs = [] if compressor is None else [_codec(compressor["id"])]
        self._prefix, self._separator = "", _separator(meta.get("dimension_separator", "."))

    def _describe_3(self, meta: Mapping[str, Any]) -> None:
        if meta["node_type"] != "array" or meta["chunk_grid"]["name"] != "regular" or meta.get("storage_transformers"):
            raise ValueError("it is not an array of regular chunks")
        self.shape, self._chunk = _lengths(meta["shape"]), _lengths(meta["chunk_grid"]["configuration"]["chunk_shape"])
        keys = meta["chunk_key_encoding"]
        if keys["name"] not in ("default", "v2"):
            raise ValueError(f"names of chunks by {keys['name']!r} are not read")
        default = keys["name"] == "default"
        self._separator = _separator((keys.get("configuration") or {}).get("separator", "/" if default else "."))
        self._prefix = f"c{self._separator}" if default else ""
        codecs = meta["codecs"]
        if codecs[0]["name"] == "sharding_indexed" and len(codecs) == 1:
            codecs = self._describe_shards(codecs[0]["configuration"])
        if codecs[0]["name"] != "bytes":
            raise ValueError(f"the codec {str(codecs[0]['name'])[:40]!r} is not read")
        self.dtype = _dtype(meta["data_type"])
        big = (codecs[0].get("configuration") or {}).get("endian", "little") == "big"
        self.dtype = self.dtype.newbyteorder(">" if big else "<")
        self._codecs = [_codec(codec["name"]) for codec in codecs[1:]]
        self.fill = _fill(meta.get("fill_value"), self.dtype)

    def _describe_shards(self, meta: Mapping[str, Any]) -> Any:
        """Take the chunks inside a file of several, its shard, as the chunks; return their codecs."""
        inner = _lengths(meta["chunk_shape"])
        if len(inner) != len(self._chunk) or not all(
            0 < i <= o and o % i == 0 for i, o in zip(inner, self._chunk, strict=True)
        ):
            raise ValueError("its shards are not whole numbers of chunks")
        index = [codec["name"] for codec in meta["index_codecs"]]
        if index not in (["bytes"], ["bytes", "crc32c"]) or meta.get("index_location", "end") != "end":
            raise ValueError("the index of its shards is not read")
        self._in_shard = tuple(outer // length for outer, length in zip(self._chunk, inner, strict=True))
        self._index_tail = 4 * (len(index) - 1)
        self._chunk = inner
        if math.prod(self._in_shard) > _MAX_IN_SHARD:
            raise ValueError("its shards hold too many chunks")
        return meta["codecs"]

    def read(self, where: Sequence[slice]) -> NDArray[np.unsignedinteger[Any]]:
        """Return a part of the array, decoding only the chunks that it touches.

        Args:
            where: Start and stop on each axis, inside the array.

        Raises:
            ValueError: If a chunk is damaged.
        """
        out = np.full([part.stop - part.start for part in where], self.fill, self.dtype)
        first = [part.start // length for part, length in zip(where, self._chunk, strict=True)]
        last = [(part.stop - 1) // length for part, length in zip(where, self._chunk, strict=True)]
        for offset in np.ndindex(*(stop - start + 1 for start, stop in zip(first, last, strict=True))):
            index = tuple(int(start + step) for start, step in zip(first, offset, strict=True))
            chunk = self._chunk_at(index)
            if chunk is None:
                continue
            source, target = [], []
            for number, length, part in zip(index, self._chunk, where, strict=True):
                low, high = max(part.start, number * length), min(part.stop, (number + 1) * length)
                source.append(slice(low - number * length, high - number * length))
                target.append(slice(low - part.start, high - part.start))
            out[tuple(target)] = chunk[tuple(source)]
        return out

    def forget(self) -> None:
        """Free the chunks that are kept."""
        self._kept.clear()

    def _chunk_at(self, index: tuple[int, ...]) -> NDArray[Any] | None:
        """Return a chunk in its full size, `None` if it is not stored; the last few are kept."""
        if index not in self._kept:
            if len(self._kept) >= max(1, _KEPT_BYTES // (math.prod(self._chunk) * self.dtype.itemsize)):
                del self._kept[next(iter(self._kept))]
            self._kept[index] = self._read_chunk(index)
            if self._kept[index] is None:
                self.missing.add(index)
        return self._kept[index]

    def _read_chunk(self, index: tuple[int, ...]) -> NDArray[Any] | None:
        size = math.prod(self._chunk) * self.dtype.itemsize
        outer = tuple(number // count for number, count in zip(index, self._in_shard or (1,) * len(index), strict=True))
        path = self._folder / (self._prefix + self._separator.join(map(str, outer)))
        try:
            require_regular_file(path)
            with path.open("rb") as file:
                length = 2 * size + 65536 if self._in_shard is None else self._seek(file, index)
                if length is None:
                    return None
                data: Any = file.read(min(length, 2 * size + 65536))
        except (FileNotFoundError, NotADirectoryError):
            return None
        for decode in self._codecs[::-1]:
            buffer = np.empty(size, np.uint8)
            try:
                data = np.asarray(decode(data, out=buffer)).view(np.uint8).ravel() if len(data) else data
            except _ERRORS as error:
                raise ValueError(f"chunk {path.name} is damaged ({' '.join(str(error).split())[:100]})") from None
        if len(data) != size:
            raise ValueError(f"chunk {path.name} has {len(data):,} bytes instead of {size:,}")
        return np.frombuffer(data, self.dtype).reshape(self._chunk)

    def _seek(self, file: IO[bytes], index: tuple[int, ...]) -> int | None:
        """Go to a chunk inside its shard and return its length in bytes, `None` if it is not stored."""
        assert self._in_shard is not None
        count = math.prod(self._in_shard)
        file.seek(0, os.SEEK_END)
        start = file.tell() - 16 * count - self._index_tail
        place = np.ravel_multi_index(
            [number % n for number, n in zip(index, self._in_shard, strict=True)], self._in_shard
        )
        if start < 0:
            raise ValueError(f"shard {Path(file.name).name} is damaged: it is too short for its index")
        file.seek(start + 16 * int(place))
        offset, length = (int(value) for value in np.frombuffer(file.read(16), "<u8"))
        if offset == length == _NOT_STORED:
            return None
        if offset + length > start:
            raise ValueError(f"shard {Path(file.name).name} is damaged: a chunk lies outside of it")
        file.seek(offset)
        return length


def read_metadata(path: Path) -> dict[str, Any]:
    """Return a JSON file of metadata.

    Raises:
        ValueError: If it is missing, too large, or not a JSON object.
    """
    try:
        require_regular_file(path)
        with path.open("rb") as file:
            content = file.read(_MAX_METADATA + 1)
        found = json.loads(content) if len(content) <= _MAX_METADATA else None
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path.parent.name}/{path.name} is missing or damaged; copy the folder again")
    return found


def _lengths(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise ValueError("its shape is damaged")
    return tuple(values)


def _dtype(name: Any) -> "np.dtype[Any]":
    if not isinstance(name, str) or name not in _TYPES:
        raise ValueError(f"samples of kind {str(name)[:40]!r}; expected unsigned 8 or 16 bits")
    return np.dtype(_TYPES[name])


def _fill(value: Any, dtype: "np.dtype[Any]") -> int:
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= np.iinfo(dtype).max:
        raise ValueError(f"its fill value {str(value)[:40]!r} is not a sample")
    return value


def _codec(name: Any) -> Any:
    if not isinstance(name, str) or name not in _DECODERS:
        raise ValueError(f"the codec {str(name)[:40]!r} is not read; known are {', '.join(_DECODERS)}")
    return _DECODERS[name]


def _separator(value: Any) -> str:
    if value not in (".", "/"):
        raise ValueError("the names of its chunks are damaged")
    return str(value)
