"""Decoding of uploaded images: one PNG tile, a zip of them, or a slide image tiled as in training."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milpath.models.checkpoint import Card
from milpath.sagemaker.endpoint.input_spec import TileBag
from milpath.sagemaker.endpoint.request_limits import BadRequestError, Limits
from milpath.slides.tile_files import TooLargeError, ZipFiles
from milpath.slides.tile_selection import BLANK_RANGE, cut_darkest
from milpath.slides.uploaded_tiles import read_tiles, require_plain, upload_names

MAX_TILE_PIXELS = 4096 * 4096
TILE_FORMATS = ("PNG",)
SLIDE_FORMATS = ("PNG", "JPEG", "TIFF")
# Exceptions that Pillow's decoders raise for broken files.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    Warning,
)
# Pillow has its own limit, checked while it reads the header.
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_SOURCE = "the zip"


def read_picture(data: bytes, name: str, formats: tuple[str, ...], max_pixels: int, channels: int = 3) -> NDArray[Any]:
    """Return a picture as an array.

    Args:
        data: The whole file.
        name: Name of the picture, for error messages.
        formats: Pillow formats to accept; no other decoder is used.
        max_pixels: Limit on width times height, as given in the header of the file.
        channels: 3 for RGB, 1 for grey.

    Returns:
        uint8 `(height, width, channels)`; an alpha channel is composited on white, like the background of a slide.

    Raises:
        BadRequestError: If it is in none of the formats, damaged, or larger than allowed.
    """
    if not data:
        raise BadRequestError(f"{name} is empty")
    try:
        with Image.open(BytesIO(data), formats=formats) as picture:
            if picture.width * picture.height > max_pixels:
                raise BadRequestError(
                    f"{name} has {picture.width} x {picture.height} px; at most {max_pixels} px are allowed", 413
                )
            # A pyramid, focal planes or frames: the first need not be the slide.
            num_frames = int(getattr(picture, "n_frames", 1))
            if num_frames > 1 and picture.format != "MPO":
                raise BadRequestError(f"{name} holds {num_frames} images; send one picture, or its tiles", 415)
            return _as_array(picture, channels)
    except BadRequestError:
        raise
    except _BOMBS:
        raise BadRequestError(f"{name} has more than {max_pixels} px", 413) from None
    except _DECODER_ERRORS:
        raise BadRequestError(f"{name} is not a valid {' or '.join(formats)} picture") from None


def read_tile(data: bytes, name: str, limits: Limits, channels: int = 3) -> NDArray[Any]:
    """Return a PNG tile as an array; see `read_picture`."""
    return read_picture(data, name, TILE_FORMATS, min(limits.max_pixels, MAX_TILE_PIXELS), channels)


def _as_array(picture: Image.Image, channels: int) -> NDArray[Any]:
    """Return the pixels with 8 bits per channel."""
    if picture.mode in ("I", "F", "I;16", "I;16B", "I;16L"):
        raise BadRequestError(f"a picture has the mode {picture.mode}; send 8 bits per channel")
    if "A" in picture.getbands() or "transparency" in picture.info:
        ground = Image.new("RGBA", picture.size, "white")
        ground.alpha_composite(picture.convert("RGBA"))
        picture = ground
    pixels = np.asarray(picture.convert("RGB" if channels == 3 else "L"))
    return pixels.reshape(*pixels.shape[:2], channels)


def read_slide(data: bytes, card: Card, limits: Limits) -> TileBag:
    """Return the tiles of a slide image at the training resolution of the network.

    Args:
        data: A PNG, JPEG or TIFF picture.
        card: The card, with the tiling options.
        limits: Limits of the picture.

    Raises:
        BadRequestError: If it is not such a picture, or the tiling rule needs more than a picture.
    """
    # Data sets of ready-made tiles name it `rule`.
    method = card.tiling.get("method", card.tiling.get("rule"))
    others = any(card.tiling.get(name) for name in ("overlap", "min_inside")) or card.tiling.get("background") == "mask"
    if method != "darkest" or others or not card.tiling.get("num_tiles"):
        rule = f"the rule {method!r} {dict(card.tiling)}" if method else "no tiling rule"
        raise BadRequestError(f"this network was trained with {rule}, which an endpoint cannot repeat; send tiles", 415)
    image = read_picture(data, "the slide", SLIDE_FORMATS, limits.max_pixels)
    tiles = cut_darkest(image, int(card.tiling["tile_size"]), int(card.tiling["num_tiles"]))
    places = zip(tiles.x.tolist(), tiles.y.tolist(), tiles.number.tolist(), strict=True)
    corners = tuple(None if number < 0 else (x, y) for x, y, number in places)
    shown = zip(tiles.pixels, corners, strict=True)
    values = [_inside(tile, corner, image) for tile, corner in shown if corner is not None]
    low, high = min(int(part.min()) for part in values), max(int(part.max()) for part in values)
    if high - low <= BLANK_RANGE:
        raise BadRequestError(f"the slide is blank: all its tiles have one colour (values from {low} to {high})")
    return TileBag(tiles.pixels, corners=corners)


def _inside(tile: NDArray[Any], corner: tuple[int, int], image: NDArray[Any]) -> NDArray[Any]:
    """Return the part of a tile that lies on the slide, without the white around it."""
    x, y = corner
    return tile[max(-y, 0) : image.shape[0] - y, max(-x, 0) : image.shape[1] - x]


def read_zip(data: bytes, limits: Limits, channels: int = 3) -> TileBag:
    """Return the tiles of a zip in natural order of their names: `a_2.png` before `a_10.png`.

    Args:
        data: The whole archive.
        limits: Limits on the number and size of tiles.
        channels: 3 for RGB tiles, 1 for grey ones.

    Raises:
        BadRequestError: If it is not a zip of PNG tiles of one size, or exceeds a limit.
    """
    try:
        return _read_zip(ZipFiles(BytesIO(data), _SOURCE, uploaded=True), limits, channels)
    except BadRequestError:
        raise
    except TooLargeError as error:
        raise BadRequestError(str(error), 413) from None
    except ValueError as error:
        raise BadRequestError(str(error)) from None


def _read_zip(archive: ZipFiles, limits: Limits, channels: int) -> TileBag:
    """Return the tiles of an open archive."""
    names = upload_names(archive.names(), _SOURCE, limits.max_tiles)
    require_plain(archive, names)
    tiles: list[NDArray[Any]] = []
    size = 0
    for file in read_tiles(
        names, archive.read, max_file_bytes=limits.max_body_bytes, max_bytes=limits.max_decoded_bytes
    ):
        tile = read_tile(file.data, f"tile {file.name!r}", limits, channels)
        size += tile.nbytes + len(file.data)
        if size > limits.max_decoded_bytes:
            raise BadRequestError(f"the tiles hold more than {limits.max_decoded_bytes} bytes; send fewer", 413)
        if tiles and tile.shape != tiles[0].shape:
            raise BadRequestError(
                f"tile {file.name!r} is {tile.shape[1]} x {tile.shape[0]} px, "
                f"the first is {tiles[0].shape[1]} x {tiles[0].shape[0]} px; send tiles of one size"
            )
        tiles.append(tile)
    return TileBag(np.stack(tiles), tuple(names))
