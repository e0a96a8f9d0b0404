"""Small slides in the format of 3DHISTECH (MRXS), whose plane is larger than the scanned area."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 256
_NAME = "MILPATHDRAWN001"


def write_mirax(
    path: Path, picture: np.ndarray, offset: tuple[int, int] = (2, 1), levels: int = 3, microns: float = 0.5
) -> Path:
    """Write a picture as a slide; its file is plain text, since OpenSlide reads only the folder beside it.

    Args:
        path: File ending in `.mrxs`.
        picture: uint8 RGB whose sides are multiples of 256.
        offset: Empty camera images to the left of the picture and above it.
        levels: Levels of the pyramid, each half as large as the one before.
        microns: Microns per pixel of level 0.
    """
    down, across = (size // SIDE for size in picture.shape[:2])
    plane = [-(-(count + shift + 1) // 4) * 4 for count, shift in ((across, offset[0]), (down, offset[1]))]
    canvas = np.full((plane[1] * SIDE, plane[0] * SIDE, 3), 255, np.uint8)
    left, top = offset[0] * SIDE, offset[1] * SIDE
    canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    data, entries = bytearray(b"\0" * 64), []
    for level in range(levels):
        step, found = 2**level, []
        for row in range(offset[1] // step * step, offset[1] + down, step):
            for column in range(offset[0] // step * step, offset[0] + across, step):
                field = canvas[row * SIDE : (row + step) * SIDE, column * SIDE : (column + step) * SIDE]
                buffer = io.BytesIO()
                small = Image.fromarray(field).resize((SIDE, SIDE), Image.Resampling.BOX)
                small.save(buffer, "JPEG", quality=90)
                found.append((row * plane[0] + column, len(data), buffer.tell(), 0))
                data += buffer.getvalue()
        entries.append(found)
    folder = path.with_suffix("")
    folder.mkdir(parents=True)
    path.write_text("drawn slide\n")
    (folder / "Data0000.dat").write_bytes(data)
    (folder / "Index.dat").write_bytes(_index(entries))
    (folder / "Slidedat.ini").write_bytes(("\ufeff" + "\r\n".join(_settings(plane, levels, microns)) + "\r\n").encode())
    return path


def _index(entries: list[list[tuple[int, int, int, int]]]) -> bytes:
    """Return the index: a pointer to the pages of each level, and the camera images of each page."""
    head = b"01.02" + _NAME.encode()
    roots = len(head) + 8
    first = roots + 4 * len(entries)
    pointers, body = [], bytearray()
    for found in entries:
        pointers.append(first + len(body))
        body += struct.pack("<iiii", 0, first + len(body) + 8, len(found), 0)
        for entry in found:
            body += struct.pack("<iiii", *entry)
    return head + struct.pack(f"<{2 + len(pointers)}i", roots, roots, *pointers) + bytes(body)


def _settings(plane: list[int], levels: int, microns: float) -> list[str]:
    """Return the lines of `Slidedat.ini`."""
    names = [f"LAYER_0_LEVEL_{level}_SECTION" for level in range(levels)]
    lines = [
        "[GENERAL]", "SLIDE_VERSION=01.02", f"SLIDE_ID={_NAME}", f"IMAGENUMBER_X={plane[0]}",
        f"IMAGENUMBER_Y={plane[1]}", "OBJECTIVE_MAGNIFICATION=20", "CameraImageDivisionsPerSide=1",
        "[HIERARCHICAL]", "HIER_COUNT=1", "NONHIER_COUNT=0", "INDEXFILE=Index.dat",
        "HIER_0_NAME=Slide zoom level", f"HIER_0_COUNT={levels}",
        *(f"HIER_0_VAL_{level}_SECTION={name}" for level, name in enumerate(names)),
        "[DATAFILE]", "FILE_COUNT=1", "FILE_0=Data0000.dat",
    ]  # fmt: skip
    for level, name in enumerate(names):
        lines += [
            f"[{name}]", "OVERLAP_X=0", "OVERLAP_Y=0", f"MICROMETER_PER_PIXEL_X={microns * 2**level}",
            f"MICROMETER_PER_PIXEL_Y={microns * 2**level}", "IMAGE_FORMAT=JPEG", "IMAGE_FILL_COLOR_BGR=16777215",
            f"DIGITIZER_WIDTH={SIDE}", f"DIGITIZER_HEIGHT={SIDE}", f"IMAGE_CONCAT_FACTOR={int(level > 0)}",
        ]  # fmt: skip
    return lines
