"""The parts of a CZI file: the directory of its pieces, their stored bytes, and its metadata."""

import os
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from milpath.slides.readers.slide import Size

# Every part starts with its name and two lengths, the larger of which is reserved for it.
_PART = struct.Struct("<16sqq")
_HEADER = struct.Struct("<iiii16s16siqqiq")
_ENTRY, _DIMENSION = struct.Struct("<2siqiiB5xi"), struct.Struct("<4siifi")
_LENGTHS = struct.Struct("<iiq")
_DIRECTORY_FIXED, _METADATA_FIXED, _PIECE_FIXED = 128, 256, 256
_MAX_DIMENSIONS, _MAX_DIRECTORY, _MAX_XML = 40, 1 << 28, 64 << 20
_MAX_SIDE = 1 << 22


class CziPiece(NamedTuple):
    """One rectangle of pixels of a CZI: a tile of level 0, or a smaller copy of a larger area.

    Attributes:
        x: Left edge in pixels of level 0; may be negative.
        y: Top edge likewise.
        width: Width in pixels of level 0.
        height: Height likewise.
        stored: Width and height of its own pixels.
        pixel_type: Number of the kind of pixels.
        compression: Number of the codec.
        position: Where it starts in the file.
        order: Index in the mosaic; of two pieces on one place the higher is visible.
        place: Start and length on each other axis, such as C (channel), Z (focal plane), T (time) and S (scene).
    """

    x: int
    y: int
    width: int
    height: int
    stored: Size
    pixel_type: int
    compression: int
    position: int
    order: int
    place: dict[str, tuple[int, int]]


class CziFile:
    """An open CZI file.

    Args:
        path: The file.

    Attributes:
        part: Number of the file from 0, of an image in several files.
        pieces: Its pieces, in the order of the directory; none of a later part.

    Raises:
        ValueError: If it is damaged or cut off.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        try:
            self._size = self._file.seek(0, os.SEEK_END)
            content = self._part(0, b"ZISRAWFILE", _HEADER.size)
            *_, self.part, self._directory, self._metadata, _, _ = _HEADER.unpack(content)
            # The first file of several has the directory.
            self.pieces = () if self.part else tuple(self._entries())
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, position: int, length: int) -> bytes:
        """Return bytes of the file.

        Raises:
            ValueError: If they lie outside of it.
        """
        if position < 0 or length < 0 or position + length > self._size:
            raise ValueError(f"it ends at {self._size:,} bytes, before {position + length:,}, or is damaged")
        self._file.seek(position)
        return self._file.read(length)

    def _part(self, position: int, name: bytes, length: int) -> bytes:
        """Return the first bytes of a part after its name and lengths."""
        found, reserved, used = _PART.unpack(self._read(position, _PART.size))
        if found.rstrip(b"\0") != name or max(reserved, used) < length:
            raise ValueError(f"at {position:,} bytes it has no {name.decode()}: it is cut off or damaged")
        return self._read(position + _PART.size, length)

    def _entries(self) -> Iterator[CziPiece]:
        fixed = self._part(self._directory, b"ZISRAWDIRECTORY", _DIRECTORY_FIXED)
        count = int.from_bytes(fixed[:4], "little", signed=True)
        start = self._directory + _PART.size + _DIRECTORY_FIXED
        length = min(self._size - start, _MAX_DIRECTORY)
        if not 0 < count <= length // _ENTRY.size:
            raise ValueError(f"its directory states {count:,} pieces in {max(0, length):,} bytes")
        content, offset = self._read(start, min(length, count * (_ENTRY.size + _MAX_DIMENSIONS * _DIMENSION.size))), 0
        for _ in range(count):
            piece, offset = _entry(content, offset)
            yield piece

    def data_of(self, piece: CziPiece, most: int) -> bytes:
        """Return the stored bytes of a piece; empty if the microscope lost them.

        Args:
            piece: One of `pieces`.
            most: Largest plausible number of bytes.

        Raises:
            ValueError: If they are damaged, or the piece describes itself otherwise than the directory does.
        """
        position, length = self.place_of(piece)
        if length > most:
            raise ValueError(
                f"the piece at {piece.position:,} bytes states {length:,} bytes, expected at most {most:,}"
            )
        return self._read(position, length)

    def place_of(self, piece: CziPiece) -> tuple[int, int]:
        """Return where the bytes of a piece start, and how many they are.

        Raises:
            ValueError: As for `data_of`.
        """
        content = self._part(piece.position, b"ZISRAWSUBBLOCK", _PIECE_FIXED)
        metadata, attachment, length = _LENGTHS.unpack_from(content)
        count = _ENTRY.unpack_from(content, _LENGTHS.size)[-1]
        fixed = _LENGTHS.size + _ENTRY.size + max(0, min(count, _MAX_DIMENSIONS)) * _DIMENSION.size
        content = content if fixed <= len(content) else self._read(piece.position + _PART.size, fixed)
        itself, _ = _entry(content, _LENGTHS.size)
        # The directory's copy alone says where the piece lies; the other fields are equal.
        if itself._replace(position=piece.position, order=piece.order, place=piece.place) != piece:
            raise ValueError(f"the piece at {piece.position:,} bytes differs from its entry in the directory")
        if min(metadata, attachment, length) < 0:
            raise ValueError(f"the piece at {piece.position:,} bytes states a negative length")
        position = piece.position + _PART.size + max(_PIECE_FIXED, fixed) + metadata
        if position + length > self._size:
            raise ValueError(f"it ends at {self._size:,} bytes, before {position + length:,}: it is cut off")
        return position, length

    def metadata(self) -> ElementTree.Element | None:
        """Return the metadata, `None` if the file has none that can be read."""
        if not self._metadata:
            return None
        length, _ = struct.unpack("<ii", self._part(self._metadata, b"ZISRAWMETADATA", 8))
        content = self._read(self._metadata + _PART.size + _METADATA_FIXED, min(length, _MAX_XML))
        text = content.rstrip(b"\0").decode("utf-8", "replace")
        # Metadata have neither; entities may expand without bound.
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            return None
        try:
            return ElementTree.fromstring(text)  # noqa: S314
        except (ElementTree.ParseError, ValueError):
            return None


def _entry(content: bytes, offset: int) -> tuple[CziPiece, int]:
    """Return an entry of the directory, and where the next one starts."""
    try:
        schema, pixel_type, position, part, compression, _, count = _ENTRY.unpack_from(content, offset)
        offset += _ENTRY.size
        if schema != b"DV" or part or not 2 <= count <= _MAX_DIMENSIONS:
            raise ValueError("an entry of its directory is damaged, or belongs to an image in several files")
        sides: dict[str, Any] = {}
        for number in range(count):
            name, start, size, _, stored = _DIMENSION.unpack_from(content, offset + number * _DIMENSION.size)
            sides[name.rstrip(b"\0 ").decode("ascii", "replace")] = start, size, stored or size
        (x, width, across), (y, height, down) = sides.pop("X"), sides.pop("Y")
    except (struct.error, KeyError):
        raise ValueError("an entry of its directory is damaged") from None
    if not all(0 < side <= _MAX_SIDE for side in (width, height, across, down)) or across > width or down > height:
        raise ValueError(f"a piece of {across} x {down} px for {width} x {height} px of the slide is out of bounds")
    if max(abs(x), abs(y)) > 1 << 30:
        raise ValueError(f"a piece lies at {x}, {y} px, out of bounds")
    order = sides.pop("M", (0, 1, 1))[0]
    place = {name: (start, size) for name, (start, size, _) in sides.items()}
    piece = CziPiece(x, y, width, height, Size(across, down), pixel_type, compression, position, order, place)
    return piece, offset + count * _DIMENSION.size
