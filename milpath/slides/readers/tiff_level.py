"""One level of a TIFF: locating and decoding its segments (tiles or strips)."""

import math
import os
import struct
from typing import BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from milpath.slides.readers.czi.jpeg_xr import require_jpeg_xr_header
from milpath.slides.readers.image_header import jpeg_2000_size, jpeg_size, jpeg_xl_size, png_header, webp_size
from milpath.slides.readers.rgb import WHITE, to_rgb

# Exceptions that tifffile and the decoders raise for damaged data.
DAMAGE = (
    ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError, struct.error,
    tifffile.TiffFileError,
)  # fmt: skip
_MAX_PIECE_BYTES = 1 << 29
_JPEG = (6, 7, 33007, 34892)
_JPEG_XR = 34934
# Compressions whose output ends where a segment ends: none, LZW, Deflate, PackBits, LZMA and Zstandard.
_BOUNDED = (1, 5, 8, 32773, 32946, 34925, 34926, 50000)
# An image of its own in each segment, which states its size.
_IMAGES = {
    **dict.fromkeys(_JPEG, ("JPEG", jpeg_size)),
    34712: ("JPEG 2000", jpeg_2000_size),
    34927: ("WebP", webp_size),
    50001: ("WebP", webp_size),
    34933: ("PNG", png_header),
    50002: ("JPEG XL", jpeg_xl_size),
    52546: ("JPEG XL", jpeg_xl_size),
}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_ALPHA = {1: "premultiplied", 2: "straight"}


class TiffLevel:
    """A readable level of a TIFF.

    Args:
        file: The open file.
        page: The TIFF page of the level.

    Attributes:
        num_segments: Segments that the page lists.
        missing: Indices of those that have a place but no bytes: lost by the scanner, white as OpenSlide shows them.
        highest_sample: Largest 16-bit sample decoded so far; 0 for 8 bits.

    Raises:
        ValueError: If segments are missing, outside the file or too large, or the pixel format is not supported.
    """

    def __init__(self, file: BinaryIO, page: tifffile.TiffPage) -> None:
        self._file = file
        self._page = page
        self.width, self.height = int(page.imagewidth), int(page.imagelength)
        tiled = page.is_tiled
        self._piece_width = int(page.tilewidth) if tiled else self.width
        self._piece_height = int(page.tilelength) if tiled else min(int(page.rowsperstrip), self.height)
        if page.imagedepth != 1:
            raise ValueError(
                f"it is a volume of {page.imagedepth} planes, and a slide is one; convert that plane to a TIFF"
            )
        if self._piece_width < 1 or self._piece_height < 1:
            raise ValueError("its segments have no size")
        self._columns = math.ceil(self.width / self._piece_width)
        self._rows = math.ceil(self.height / self._piece_height)
        self._planes = int(page.samplesperpixel) if page.planarconfig == 2 else 1
        self._require_known_pixels()
        self._offsets, self._counts = page.dataoffsets, page.databytecounts
        self.num_segments = self._rows * self._columns * self._planes
        self.missing = self._find_missing()
        self.highest_sample = 0

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Return a region inside the level; segments omitted by the writer are white."""
        canvas = np.empty((height, width, 3), np.uint8)
        high, wide = self._piece_height, self._piece_width
        for row in range(y // high, (y + height - 1) // high + 1):
            for column in range(x // wide, (x + width - 1) // wide + 1):
                piece = self._decode(row * self._columns + column)
                left, top = column * wide - x, row * high - y
                target = canvas[max(top, 0) : top + high, max(left, 0) : left + wide]
                part = None if piece is None else piece[max(-top, 0) : height - top, max(-left, 0) : width - left]
                if part is None or part.shape != target.shape:
                    target[...] = WHITE  # all of it only where it stays
                if part is not None:
                    target[: part.shape[0], : part.shape[1]] = part
        return canvas

    def _decode(self, index: int) -> NDArray[np.uint8] | None:
        """Return a segment as RGB, `None` if it was omitted."""
        samples = [self._decode_plane(index + plane * self._rows * self._columns) for plane in range(self._planes)]
        found = [plane for plane in samples if plane is not None]
        if len(found) < len(samples):
            return None
        page = self._page
        return to_rgb(
            found[0] if len(found) == 1 else np.concatenate(found, axis=2),
            alpha=_ALPHA.get(int(page.extrasamples[-1])) if page.extrasamples else None,
            inverted=page.photometric == _WHITE_IS_ZERO,
            palette=page.colormap if page.photometric == _PALETTE else None,
        )

    def _decode_plane(self, index: int) -> NDArray[np.generic] | None:
        """Return the samples of a segment `(height, width, samples)`, `None` if it was omitted."""
        offset, count = self._offsets[index], self._counts[index]
        if not count:
            return None
        self._file.seek(offset)
        data = self._file.read(count)
        page = self._page
        words = {}
        self._require_size(data)
        if page.compression in _JPEG:
            words = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        samples = page.decode(data, index, **words)[0]
        if samples is None:
            raise ValueError(f"its segment {index} is empty")
        if samples.dtype == np.uint16:
            self.highest_sample = max(self.highest_sample, int(samples.max(initial=0)))
        return np.asarray(samples[0])

    def _require_size(self, data: bytes) -> None:
        """Refuse an image that states more pixels than its segment has: its memory would be unbounded."""
        page = self._page
        if page.compression == _JPEG_XR:
            samples = int(page.samplesperpixel) // self._planes
            require_jpeg_xr_header(
                data, (self._piece_height, self._piece_width, samples), np.dtype(page.dtype).itemsize
            )
        if page.compression not in _IMAGES:
            return
        name, size_of = _IMAGES[page.compression]
        size = size_of(data)
        if size is None:
            raise ValueError(f"one of its segments is not a {name} stream")
        if size[0] > self._piece_width or size[1] > self._piece_height:
            raise ValueError(
                f"a segment of {self._piece_width} x {self._piece_height} px contains a {name} of {size[0]} x {size[1]} px"
            )

    def _require_known_pixels(self) -> None:
        page = self._page
        if page.compression not in (*_BOUNDED, *_IMAGES, _JPEG_XR):
            raise ValueError(
                f"its compression {getattr(page.compression, 'name', page.compression)} is not read; convert it "
                "(vips tiffsave --tile --pyramid --compression jpeg)"
            )
        kinds = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE)
        if page.photometric not in kinds and not (page.photometric == _YCBCR and page.compression in _JPEG):
            raise ValueError(f"its colours are {page.photometric!r}; convert it to RGB")
        if page.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"its pixels are {page.dtype}; expected unsigned 8 or 16 bits")
        if page.photometric in (_RGB, _YCBCR) and page.samplesperpixel < 3:
            raise ValueError(f"it has {page.samplesperpixel} samples per pixel, too few for RGB")
        self._require_one_picture()
        samples = page.samplesperpixel // self._planes
        if self._piece_width * self._piece_height * samples * page.dtype.itemsize > _MAX_PIECE_BYTES:
            raise ValueError(
                f"it is stored in segments of {self._piece_width} x {self._piece_height} px, too large to read one by one; "
                "convert it to a tiled TIFF (vips tiffsave --tile --pyramid)"
            )

    def _require_one_picture(self) -> None:
        """Refuse grey samples that are neither one channel, nor grey and alpha, nor red, green and blue."""
        page = self._page
        extra = int(page.samplesperpixel) - 1
        alpha = bool(page.extrasamples) and int(page.extrasamples[-1]) in _ALPHA
        grey = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
        # White is 0 only in grey; a page of three samples that are not called RGB is taken for RGB.
        colour = page.photometric == _BLACK_IS_ZERO and (extra == 2 or (alpha and extra == 3))
        if grey and not (extra == 0 or (alpha and extra == 1) or colour):
            raise ValueError(
                f"it has {page.samplesperpixel} channels per pixel instead of grey or RGB; write those to use as RGB"
            )

    def _find_missing(self) -> NDArray[np.int64]:
        """Return the segments without bytes; refuse a file whose segments are outside of it, as in a truncated one."""
        expected = self.num_segments
        if len(self._offsets) != expected or len(self._counts) != expected:
            raise ValueError(f"it lists {len(self._offsets)} segments instead of {expected}")
        size = os.fstat(self._file.fileno()).st_size
        offsets, counts = np.asarray(self._offsets, np.uint64), np.asarray(self._counts, np.uint64)
        if ((offsets == 0) & (counts != 0)).any():
            raise ValueError("it lists segments without a place")
        outside = (offsets > size) | (counts > size) | (offsets + counts > size)
        if outside.any():
            raise ValueError(
                f"it is truncated: {outside.sum()} of {expected} segments are beyond the end of its {size:,} bytes; "
                "copy or download it again"
            )
        missing = np.flatnonzero((counts == 0) & (offsets != 0))
        if 2 * len(missing) > expected:
            raise ValueError(f"{len(missing)} of its {expected} segments have no data; copy or download it again")
        return missing
