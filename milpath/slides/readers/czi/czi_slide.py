"""Reader for Zeiss CZI: a plane on which pieces lie, at several resolutions."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milpath.slides.readers.czi.czi_file import CziFile, CziPiece
from milpath.slides.readers.czi.czi_pixels import bytes_of, decode_piece, require_readable
from milpath.slides.readers.rgb import WHITE, to_rgb
from milpath.slides.readers.slide import Size, Slide, missing_pieces
from milpath.slides.readers.stated_resolution import microns_in

_AXES = {
    "C": "channels", "Z": "focal planes (Z)", "T": "time points (T)", "R": "rotations (R)", "I": "illuminations (I)",
    "H": "phases (H)", "V": "views (V)", "B": "blocks (B)",
}  # fmt: skip
_CONVERT = "write the plane to use as an OME-TIFF pyramid (bfconvert, or QuPath's export)"
_KEPT_BYTES = 64 << 20
# Of two scenes on one place, neither is the slide: their boxes overlap by more than this part of the smaller.
_OVERLAP = 0.5
_AT_ONCE = 256


class _Level:
    """The pieces of one resolution, the last of which is on top.

    Attributes:
        pieces: The pieces.
        boxes: Left, top, right and bottom edge of each in pixels of level 0, `(pieces, 4)`.
    """

    def __init__(self, pieces: Iterable[CziPiece]) -> None:
        self.pieces = sorted(pieces, key=lambda piece: piece.order)
        self.boxes = np.array([(p.x, p.y, p.x + p.width, p.y + p.height) for p in self.pieces], np.int64)

    def covers(self, other: "_Level") -> bool:
        """Return whether the middle of every piece of another level lies in a piece of this one."""
        across, down = (other.boxes[:, [axis]] + other.boxes[:, [axis + 2]] for axis in (0, 1))
        left, top, right, bottom = 2 * self.boxes.T
        for start in range(0, len(across), _AT_ONCE):
            x, y = across[start : start + _AT_ONCE], down[start : start + _AT_ONCE]
            if not ((left <= x) & (x < right) & (top <= y) & (y < bottom)).any(axis=1).all():
                return False
        return True


class CziSlide(Slide):
    """A CZI image in colour or grey, of 8 or 16 bits; its scenes lie on one plane, with white between them.

    Args:
        path: The file.

    Raises:
        ValueError: If it is damaged, or holds more than one plane that may be the slide.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._decoded: dict[int, NDArray[np.unsignedinteger[Any]] | None] = {}
        try:
            self._file = CziFile(path)
        except ValueError as error:
            raise ValueError(f"{self._refusal(error)}; copy it again") from None
        try:
            self._open()
        except ValueError as error:
            self.close()
            raise self._refusal(error) from None

    def _refusal(self, error: ValueError) -> ValueError:
        return ValueError(f"{self.path.name} cannot be read: {error}")

    def _open(self) -> None:
        if self._file.part:
            raise ValueError(f"it is part {self._file.part + 1} of an image in several files; {_CONVERT}")
        metadata = self._file.metadata()
        pieces = self._file.pieces
        self._require_one_plane(pieces, _channel_names(metadata))
        kinds = {piece.pixel_type for piece in pieces}
        for piece in pieces:
            require_readable(piece)
        if len(kinds) > 1:
            raise ValueError(f"its pieces have {len(kinds)} kinds of pixels; {_CONVERT}")
        scenes: dict[tuple[int, int] | None, list[CziPiece]] = defaultdict(list)
        for piece in pieces:
            scenes[piece.place.get("S")].append(piece)
        levels = [_levels_of(found) for found in scenes.values()]
        _require_apart([found[1] for found in levels])
        factors = sorted(set.intersection(*(set(found) for found in levels)))
        self._levels = [_Level(piece for found in levels for piece in found[factor].pieces) for factor in factors]
        self._factors = factors
        left, top = self._levels[0].boxes[:, :2].min(axis=0)
        right, bottom = self._levels[0].boxes[:, 2:].max(axis=0)
        self._corner = int(left), int(top)
        self.level_sizes = tuple(
            self._size_of(level, (int(right - left), int(bottom - top))) for level in range(len(factors))
        )
        self.state_resolution(*_microns(metadata))

    def _require_one_plane(self, pieces: Sequence[CziPiece], channels: Sequence[str]) -> None:
        """Refuse channels of fluorescence, focal planes and the like."""
        for axis in sorted({axis for piece in pieces for axis in piece.place} - {"S"}):
            places = {piece.place.get(axis, (0, 1)) for piece in pieces}
            count = max(len(places), *(length for _, length in places))
            if count > 1:
                named = f" ({', '.join(name[:40] for name in channels[:6])})" if axis == "C" and channels else ""
                what = _AXES.get(axis, f"places on its axis {axis}")
                raise ValueError(f"it holds {count} {what}{named}, and a slide is one; {_CONVERT}")

    def _places(self, level: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the upper left and the lower right corners of the pieces in pixels of a level."""
        corners = np.rint((self._levels[level].boxes[:, :2] - self._corner) / self._factors[level]).astype(np.int64)
        return corners, corners + np.array([piece.stored for piece in self._levels[level].pieces], np.int64)

    def _size_of(self, level: int, sides: tuple[int, int]) -> Size:
        """Return the size of a level: where its pieces end, within the sides of level 0."""
        ends = self._places(level)[1].max(axis=0)
        return Size(
            *(min(math.ceil(side / self._factors[level]), int(end)) for side, end in zip(sides, ends, strict=True))
        )

    def prepare(self, level: int) -> None:
        """Check that the pieces of a level lie in the file, and note those that are empty."""
        try:
            missing = sum(not self._file.place_of(piece)[1] for piece in self._levels[level].pieces)
        except ValueError as error:
            raise ValueError(f"{self._refusal(error)}; copy it again") from None
        if missing:
            self.note(missing_pieces(missing, len(self._levels[level].pieces), level))

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region inside a level, decoding only the pieces it touches; white where there are none."""
        pieces = self._levels[level].pieces
        corners, ends = self._places(level)
        touched = (corners < (x + width, y + height)).all(axis=1) & (ends > (x, y)).all(axis=1)
        region = np.full((height, width, 3), WHITE, np.uint8)
        for index in np.flatnonzero(touched):
            pixels = self._pixels_of(pieces[index], level)
            if pixels is None:
                continue
            left, top = (int(side) for side in corners[index] - (x, y))
            rows, columns = (
                slice(max(0, -start), min(length, limit - start))
                for start, length, limit in ((top, pixels.shape[0], height), (left, pixels.shape[1], width))
            )
            target = region[top + rows.start : top + rows.stop, left + columns.start : left + columns.stop]
            part = pixels[rows, columns]
            if part.dtype == np.uint16:
                self.highest_sample = max(self.highest_sample, int(part.max(initial=0)))
            target[...] = to_rgb(part.astype(part.dtype.newbyteorder("="), copy=False))
        return region

    def _pixels_of(self, piece: CziPiece, level: int) -> NDArray[np.unsignedinteger[Any]] | None:
        """Return the pixels of a piece; the last few are kept, since neighbouring tiles touch the same pieces."""
        if piece.position not in self._decoded:
            kept = max(1, _KEPT_BYTES // bytes_of(piece))
            while len(self._decoded) >= kept:
                del self._decoded[next(iter(self._decoded))]
            try:
                self._decoded[piece.position] = decode_piece(self._file, piece)
            except ValueError as error:
                raise ValueError(f"{self.path.name} cannot be read at level {level}: {error}; copy it again") from None
        return self._decoded[piece.position]

    def close(self) -> None:
        """Close the file."""
        self._decoded.clear()
        self._file.close()


def _levels_of(pieces: Sequence[CziPiece]) -> dict[int, _Level]:
    """Return the levels of a scene by pixels of level 0 per pixel, without those that do not cover all of it.

    Raises:
        ValueError: If there is no level 0.
    """
    # Microscopes reduce by 2 or by 3: the large pieces say which.
    ratios = [p.width / p.stored.width for p in pieces if p.stored.width < p.width and min(p.stored) >= 64]
    base = 3 if sum(_distance(r, 3) for r in ratios) < sum(_distance(r, 2) for r in ratios) else 2
    by_factor: dict[int, list[CziPiece]] = defaultdict(list)
    for piece in pieces:
        by_factor[_factor_of(piece, base)].append(piece)
    if 1 not in by_factor:
        raise ValueError("it has no pixels at full resolution")
    levels = {factor: _Level(found) for factor, found in by_factor.items()}
    return {factor: level for factor, level in levels.items() if factor == 1 or level.covers(levels[1])}


def _distance(ratio: float, base: int) -> float:
    """Return how far a ratio is from a power of a base, in powers."""
    power = math.log(ratio, base)
    return abs(power - round(power))


def _factor_of(piece: CziPiece, base: int) -> int:
    """Return the pixels of level 0 per pixel of a piece, a power of the base.

    Raises:
        ValueError: If its sides are not that much smaller.
    """
    sides = ((piece.width, piece.stored.width), (piece.height, piece.stored.height))
    whole, stored = max(sides, key=lambda side: side[1])
    factor = int(base ** round(math.log(whole / stored, base)))
    # A side that does not divide is rounded up or down.
    if any(not (small - 1.5) * factor <= large <= (small + 1.5) * factor for large, small in sides):
        raise ValueError(
            f"a piece of {piece.stored.width} x {piece.stored.height} px shows {piece.width} x {piece.height} px, which "
            f"is not a reduction by a power of {base}"
        )
    return factor


def _require_apart(scenes: Sequence[_Level]) -> None:
    """Refuse scenes that lie on one place: they are images of their own."""
    boxes = np.array([(*scene.boxes[:, :2].min(axis=0), *scene.boxes[:, 2:].max(axis=0)) for scene in scenes])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    for index in range(1, len(boxes)):
        near = np.maximum(boxes[:index, :2], boxes[index, :2])
        far = np.minimum(boxes[:index, 2:], boxes[index, 2:])
        shared = (far - near).clip(0).prod(axis=1)
        if (shared > _OVERLAP * np.minimum(area[:index], area[index])).any():
            raise ValueError(f"it holds {len(scenes)} scenes that lie on one place, and a slide is one; {_CONVERT}")


def _microns(metadata: Any) -> tuple[float | None, float | None]:
    """Return width and height of a pixel of level 0, `None` if not stated; a CZI states metres."""
    found: dict[str, float | None] = {}
    for item in metadata.iterfind("Metadata/Scaling/Items/Distance") if metadata is not None else ():
        found.setdefault(str(item.get("Id")), microns_in(item.findtext("Value"), "m"))
    return found.get("X"), found.get("Y")


def _channel_names(metadata: Any) -> list[str]:
    path = "Metadata/Information/Image/Dimensions/Channels/Channel"
    found = metadata.iterfind(path) if metadata is not None else ()
    return [str(item.get("Name") or item.get("Id") or "?") for item in found]
