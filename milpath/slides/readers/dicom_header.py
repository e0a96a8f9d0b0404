"""The few fields of a DICOM header that say which slide an instance belongs to; pixels are left to OpenSlide."""

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_IMPLICIT, _BIG, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_LONG = frozenset((b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UR", b"UT", b"UN", b"SV", b"UV"))
_SYNTAX, _KIND, _CLASS, _SERIES = (0x0002, 0x0010), (0x0008, 0x0008), (0x0008, 0x0016), (0x0020, 0x000E)
_WANTED = (_SYNTAX, _KIND, _CLASS, _SERIES)
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_UNDEFINED = 0xFFFFFFFF
# A header before the series has a few hundred elements; this bounds the work for a corrupt one.
_MAX_ELEMENTS = 20_000
_MAX_VALUE = 1024


class DicomHeader(NamedTuple):
    """What an instance is.

    Attributes:
        series: Its series: the instances of one slide share it.
        sop_class: Its class; `WHOLE_SLIDE` for the levels and associated images of a slide.
        image_type: Such as ("ORIGINAL", "PRIMARY", "VOLUME", "NONE"); the third is VOLUME for a level of the slide.
    """

    series: str
    sop_class: str
    image_type: tuple[str, ...]

    @property
    def is_level(self) -> bool:
        """Whether it is a level of a slide, not its label, photograph or thumbnail."""
        return self.sop_class == WHOLE_SLIDE and (len(self.image_type) < 3 or self.image_type[2] == "VOLUME")


def is_dicom(path: Path) -> bool:
    """Return whether a file has the signature of DICOM."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_dicom_header(path: Path) -> DicomHeader | None:
    """Return the header of a DICOM file, `None` if it is damaged or in a rare encoding (big-endian, deflated)."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return None
        try:
            found = _read_elements(file)
        except (struct.error, EOFError):
            return None
    series = found.get(_SERIES, "")
    return DicomHeader(series, found.get(_CLASS, ""), tuple(found.get(_KIND, "").split("\\"))) if series else None


def _read_elements(file: BinaryIO) -> dict[tuple[int, int], str]:
    """Return the wanted elements as text; reading stops behind the last of them."""
    found: dict[tuple[int, int], str] = {}
    depth = 0
    for _ in range(_MAX_ELEMENTS):
        group, element = struct.unpack("<HH", _exactly(file, 4))
        tag = (group, element)
        syntax = found.get(_SYNTAX, "")
        if group != 2 and syntax in (_BIG, _DEFLATED):
            return {}
        if depth == 0 and tag > _SERIES and group != 0xFFFE:
            return found
        if tag in (_ITEM, _ITEM_END, _SEQUENCE_END):
            (length,) = struct.unpack("<I", _exactly(file, 4))
        else:
            length = _length_of(file, implicit=group != 2 and syntax == _IMPLICIT)
        if tag == _SEQUENCE_END:
            depth = max(0, depth - 1)
        elif length == _UNDEFINED:
            # The elements of the items follow, up to the end of the sequence.
            depth += tag != _ITEM
        elif tag in (_ITEM, _ITEM_END) and depth:
            continue
        elif tag in _WANTED and depth == 0 and length <= _MAX_VALUE:
            found[tag] = _exactly(file, length).decode("ascii", "replace").strip("\0 ")
        else:
            file.seek(length, 1)
    return found


def _length_of(file: BinaryIO, *, implicit: bool) -> int:
    """Return the length of a value, whose type precedes it unless it is implicit."""
    form = "<I" if implicit else "<2xI" if _exactly(file, 2) in _LONG else "<H"
    (length,) = struct.unpack(form, _exactly(file, struct.calcsize(form)))
    return int(length)


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data
