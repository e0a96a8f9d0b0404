"""Whole slides in DICOM, written byte by byte: one instance per level, in tiles of JPEG."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_JPEG, _EXPLICIT = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.1"
_ROOT = "1.2.826.0.1.3680043.8.498."
_LONG = ("OB", "SQ", "UN")


def write_dicom(
    path: Path,
    picture: np.ndarray,
    series: int = 1,
    instance: int = 1,
    microns: float | tuple[float, float] = 0.5,
    kind: str = "VOLUME",
    side: int = 128,
    sop_class: str = WHOLE_SLIDE,
    frames: list[bytes] | None = None,
) -> Path:
    """Write one instance.

    Args:
        path: The file.
        picture: uint8 RGB.
        series: Number of its series: instances of one slide share it.
        instance: Number of the instance in the series.
        microns: Microns per pixel, of rows and columns if they differ.
        kind: Third value of ImageType: VOLUME for a level, LABEL, OVERVIEW or THUMBNAIL for another image.
        side: Side of its tiles in pixels.
        sop_class: Its class.
        frames: Its tiles as whole JPEG streams whose samples are red, green, blue; `None` compresses the picture.
    """
    down, across = microns if isinstance(microns, tuple) else (microns, microns)
    height, width = picture.shape[:2]
    colours = "YBR_FULL_422" if frames is None else "RGB"
    frames = frames or list(_frames(picture, side))
    uid, study = f"{_ROOT}{series}.{instance}", f"{_ROOT}{series}"
    spacing = f"{down / 1000:.9g}\\{across / 1000:.9g}"
    measures = _sequence((0x0028, 0x9110), [_element((0x0028, 0x0030), "DS", spacing)])
    path_of_light = _sequence((0x0048, 0x0105), [_element((0x0048, 0x0106), "SH", "1")])
    body = [
        _element((0x0008, 0x0008), "CS", f"ORIGINAL\\PRIMARY\\{kind}\\NONE"),
        _element((0x0008, 0x0016), "UI", sop_class),
        _element((0x0008, 0x0018), "UI", uid),
        _element((0x0008, 0x0060), "CS", "SM"),
        _element((0x0020, 0x000D), "UI", study),
        _element((0x0020, 0x000E), "UI", f"{study}.0"),
        _element((0x0020, 0x0013), "IS", str(instance)),
        _element((0x0020, 0x0052), "UI", f"{study}.9"),
        _element((0x0020, 0x9311), "CS", "TILED_FULL"),
        _element((0x0028, 0x0002), "US", 3),
        _element((0x0028, 0x0004), "CS", colours),
        _element((0x0028, 0x0006), "US", 0),
        _element((0x0028, 0x0008), "IS", str(len(frames))),
        _element((0x0028, 0x0010), "US", side),
        _element((0x0028, 0x0011), "US", side),
        _element((0x0028, 0x0100), "US", 8),
        _element((0x0028, 0x0101), "US", 8),
        _element((0x0028, 0x0102), "US", 7),
        _element((0x0028, 0x0103), "US", 0),
        _element((0x0048, 0x0006), "UL", width),
        _element((0x0048, 0x0007), "UL", height),
        path_of_light,
        _element((0x0048, 0x0302), "UL", 1),
        _element((0x0048, 0x0303), "UL", 1),
        _sequence((0x5200, 0x9229), [measures]),
        _pixels(frames),
    ]
    meta = b"".join(
        (
            _element((0x0002, 0x0001), "OB", b"\0\1"),
            _element((0x0002, 0x0002), "UI", sop_class),
            _element((0x0002, 0x0003), "UI", uid),
            _element((0x0002, 0x0010), "UI", _JPEG),
            _element((0x0002, 0x0012), "UI", f"{_ROOT}1"),
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * 128 + b"DICM" + _element((0x0002, 0x0000), "UL", len(meta)) + meta + b"".join(body))
    return path


def write_dicom_slide(folder: Path, picture: np.ndarray, levels: int = 3, series: int = 1, **words) -> Path:
    """Write a slide: an instance per level, each half as large as the one before, a label and an overview."""
    microns = words.pop("microns", 0.5)
    for level in range(levels):
        part = np.asarray(Image.fromarray(picture).reduce(2**level))
        write_dicom(folder / f"level_{level}.dcm", part, series, level + 1, microns * 2**level, **words)
    for number, kind in enumerate(("LABEL", "OVERVIEW"), levels + 1):
        # One tile, as scanners write them.
        image = np.full((100, 100, 3), 40 * number, np.uint8)
        write_dicom(folder / f"{kind.lower()}.dcm", image, series, number, 20.0, kind=kind, side=100)
    return folder


def _frames(picture: np.ndarray, side: int):
    height, width = picture.shape[:2]
    for top in range(0, height, side):
        for left in range(0, width, side):
            tile = np.full((side, side, 3), 255, np.uint8)
            part = picture[top : top + side, left : left + side]
            tile[: part.shape[0], : part.shape[1]] = part
            buffer = io.BytesIO()
            Image.fromarray(tile).save(buffer, "JPEG", quality=92, subsampling="4:2:2")
            yield buffer.getvalue()


def _element(tag: tuple[int, int], kind: str, value: object) -> bytes:
    if kind == "US":
        content = struct.pack("<H", value)
    elif kind == "UL":
        content = struct.pack("<I", value)
    else:
        content = value if isinstance(value, bytes) else str(value).encode()
    content += (b"\0" if kind in ("UI", "OB") else b" ") * (len(content) % 2)
    form = "<2xI" if kind in _LONG else "<H"
    return struct.pack("<HH", *tag) + kind.encode() + struct.pack(form, len(content)) + content


def _sequence(tag: tuple[int, int], items: list[bytes]) -> bytes:
    """Return a sequence of undefined length, as scanners write it."""
    body = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    return struct.pack("<HH2s2xI", *tag, b"SQ", 0xFFFFFFFF) + body + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def _pixels(frames: list[bytes]) -> bytes:
    """Return encapsulated pixel data with its table of offsets."""
    padded = [frame + b"\0" * (len(frame) % 2) for frame in frames]
    offsets = np.cumsum([0, *(len(frame) + 8 for frame in padded)])[:-1].astype("<u4").tobytes()
    items = [offsets, *padded]
    body = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    return struct.pack("<HH2s2xI", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF) + body + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
