"""A zip of PNG tiles, read in memory."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milpath.sagemaker.endpoint.input_spec import TileBag
from milpath.sagemaker.endpoint.picture_body import read_tile
from milpath.sagemaker.endpoint.request_limits import BadRequestError, Limits
from milpath.slides.tile_files import TooLargeError, ZipFiles
from milpath.slides.uploaded_tiles import read_tiles, require_plain, upload_names

_SOURCE = "the zip"


def read_zip(data: bytes, limits: Limits, channels: int = 3) -> TileBag:
    """Return the tiles of a zip in the order of their names, numbers as numbers: `a_2.png` before `a_10.png`.

    Args:
        data: The whole archive.
        limits: Bounds on the number of tiles and on what they hold.
        channels: 3 for RGB tiles, 1 for grey ones.

    Raises:
        BadRequestError: If it is no zip of PNG tiles of one size, or holds more than it may.
    """
    try:
        return _read_zip(ZipFiles(BytesIO(data), _SOURCE), limits, channels)
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
