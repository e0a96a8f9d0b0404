"""Zeiss CZI files, written byte by byte: pieces at several resolutions, scenes, codecs and metadata."""

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import imagecodecs
import numpy as np

RAW, JPEG, JPEG_XR, ZSTD, ZSTD_WITH_HEADER = 0, 1, 4, 5, 6
_PIXEL_TYPES = {(1, "uint8"): 0, (1, "uint16"): 1, (3, "uint8"): 3, (3, "uint16"): 4}
_BGR = bytes.fromhex("24c3dd6f034efe4bb1853d77768dc90c")
_RGB = _BGR[:-1] + b"\x0d"


def write_czi(
    path: Path,
    picture: np.ndarray,
    factors: Sequence[int] = (1, 2, 4),
    side: int = 64,
    codec: int = RAW,
    corner: tuple[int, int] = (0, 0),
    microns: float | None = 0.5,
    scene: int | None = None,
    **words,
) -> Path:
    """Write a picture as a mosaic with a pyramid.

    Args:
        path: The file.
        picture: Level 0, uint8 or uint16 `(height, width, 3)` or `(height, width, 1)`.
        factors: Pixels of level 0 per pixel of each level.
        side: Side of a piece in its own pixels.
        codec: How its pixels are compressed.
        corner: Where the picture lies on the plane.
        microns: Microns per pixel; `None` states none.
        scene: Number of the scene; `None` for no scenes.
        words: For `write_pieces`.
    """
    return write_pieces(path, mosaic(picture, factors, side, codec, corner, scene), microns, **words)


def mosaic(picture, factors=(1, 2, 4), side=64, codec=RAW, corner=(0, 0), scene=None, **axes: int) -> list[bytes]:
    """Return the pieces of a picture."""
    found = []
    for factor in factors:
        level = picture[::factor, ::factor]
        for number, (top, left) in enumerate(np.ndindex(-(-level.shape[0] // side), -(-level.shape[1] // side))):
            pixels = level[top * side : (top + 1) * side, left * side : (left + 1) * side]
            x, y = (begin + place * side * factor for begin, place in zip(corner, (left, top), strict=True))
            width, height = (
                min(length * factor, begin + whole - place)
                for length, begin, whole, place in zip(
                    pixels.shape[1::-1], corner, picture.shape[1::-1], (x, y), strict=True
                )
            )
            named = {"C": 0, **axes} | ({"M": number} if factor == 1 else {}) | ({} if scene is None else {"S": scene})
            found.append(piece(pixels, x, y, width, height, codec, **named))
    return found


def piece(pixels: np.ndarray, x: int, y: int, width: int, height: int, codec: int = RAW, **axes: int) -> bytes:
    """Return the entry of a piece and its data, whose position is filled in later."""
    data = encode(pixels, codec)
    kind = _PIXEL_TYPES[pixels.shape[2], pixels.dtype.name]
    sides = [("X", x, width, pixels.shape[1]), ("Y", y, height, pixels.shape[0])]
    sides += [(axis, place, 1, 1) for axis, place in axes.items()]
    entry = struct.pack("<2siqiiB5xi", b"DV", kind, 0, 0, codec, int(pixels.shape[1] < width), len(sides))
    entry += b"".join(struct.pack("<4siifi", axis.encode(), start, size, 0, kept) for axis, start, size, kept in sides)
    return struct.pack("<i", len(entry)) + entry + data


def encode(pixels: np.ndarray, codec: int) -> bytes:
    """Return the bytes of pixels `(height, width, samples)` in the order red, green, blue."""
    if codec == JPEG_XR:
        flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
        return imagecodecs.jpegxr_encode(np.ascontiguousarray(flat), level=1.0).replace(_RGB, _BGR)
    plain = np.ascontiguousarray(pixels[:, :, ::-1]).tobytes()
    if codec == ZSTD:
        return imagecodecs.zstd_encode(plain)
    if codec == ZSTD_WITH_HEADER:
        if pixels.dtype == np.uint8:
            return b"\x01" + imagecodecs.zstd_encode(plain)
        apart = np.frombuffer(plain, np.uint8).reshape(-1, 2).T.tobytes()
        return b"\x03\x01\x01" + imagecodecs.zstd_encode(apart)
    return plain


def write_pieces(
    path: Path, pieces: Iterable[bytes], microns: float | None = 0.5, channels: Sequence[str] = (), part: int = 0
) -> Path:
    """Write a file of pieces from `mosaic` or `piece`, after which an attachment (a label) lies that is not the slide."""
    content, entries = bytearray(_part(b"ZISRAWFILE", bytes(512))), []
    for made in pieces:
        length = int.from_bytes(made[:4], "little")
        entry, data = bytearray(made[4 : 4 + length]), made[4 + length :]
        entry[6:14] = len(content).to_bytes(8, "little")
        entries.append(bytes(entry))
        fixed = (struct.pack("<iiq", 0, 0, len(data)) + entry).ljust(256, b"\0")
        content += _part(b"ZISRAWSUBBLOCK", fixed + data)
    content += _part(b"ZISRAWATTACH", bytes(256) + b"a label")
    metadata = len(content)
    text = _metadata(microns, channels).encode()
    content += _part(b"ZISRAWMETADATA", struct.pack("<ii", len(text), 0).ljust(256, b"\0") + text)
    directory = len(content)
    content += _part(b"ZISRAWDIRECTORY", struct.pack("<i124x", len(entries)) + b"".join(entries))
    header = struct.pack("<iiii16s16siqqiq", 1, 0, 0, 0, b"g" * 16, b"g" * 16, part, directory, metadata, 0, 0)
    content[32 : 32 + len(header)] = header
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _part(name: bytes, content: bytes) -> bytes:
    reserved = -(-len(content) // 32) * 32
    return struct.pack("<16sqq", name, reserved, len(content)) + content.ljust(reserved, b"\0")


def _metadata(microns: float | None, channels: Sequence[str]) -> str:
    sides = "" if microns is None else "".join(
        f'<Distance Id="{axis}"><Value>{microns * 1e-6:.9g}</Value></Distance>' for axis in "XY"
    )  # fmt: skip
    named = "".join(f'<Channel Id="Channel:{number}" Name="{name}"/>' for number, name in enumerate(channels))
    return (
        f"<ImageDocument><Metadata><Scaling><Items>{sides}</Items></Scaling><Information><Image><Dimensions>"
        f"<Channels>{named}</Channels></Dimensions></Image></Information></Metadata></ImageDocument>"
    )
