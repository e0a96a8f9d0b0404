"""A zip of PNG tiles, read in memory: names are never used as paths, sizes are never believed."""

import re
import zipfile
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milpath.sagemaker.endpoint.bad_request import BadRequestError
from milpath.sagemaker.endpoint.request_limits import Limits
from milpath.sagemaker.endpoint.tile_bag import TileBag
from milpath.sagemaker.endpoint.uploaded_picture import TILE_FORMATS, read_picture
from milpath.slides.tile_names import natural_key, require_tiles_of_one_slide

_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    LookupError,
)
MAX_TILE_PIXELS = 4096 * 4096
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


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
        with zipfile.ZipFile(BytesIO(data)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check_names(members, limits)
            members.sort(key=lambda member: natural_key(member.filename))
            tiles: list[NDArray[Any]] = []
            total = 0
            for member in members:
                data = _read(archive, member, limits)
                tile = read_picture(
                    _read(archive, member, limits),
                    f"tile {member.filename!r}",
                    TILE_FORMATS,
                    limits.max_pixels,
                    channels,
                )
                total += tile.nbytes + len(data)
                if total > limits.max_decoded_bytes:
                    raise BadRequestError(f"the tiles hold more than {limits.max_decoded_bytes} bytes; send fewer", 413)
                if tiles and tile.shape != tiles[0].shape:
                    raise BadRequestError(
                        f"tile {member.filename!r} is {tile.shape[1]} x {tile.shape[0]} px, "
                        f"the first is {tiles[0].shape[1]} x {tiles[0].shape[0]} px; send tiles of one size"
                    )
                tiles.append(tile)
    except BadRequestError:
        raise
    except _ZIP_ERRORS:
        raise BadRequestError("the body is no whole zip; write it with zipfile, tiles stored or deflated") from None
    return TileBag(np.stack(tiles), tuple(member.filename for member in members))


def _check_names(members: list[zipfile.ZipInfo], limits: Limits) -> None:
    """Refuse what cannot be a bag before anything is unpacked."""
    if not members:
        raise BadRequestError("the zip is empty; send at least one PNG tile")
    if len(members) > limits.max_tiles:
        raise BadRequestError(f"the zip has {len(members)} tiles; at most {limits.max_tiles} are read", 413)
    for member in members:
        name = member.filename
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or ":" in name or "\0" in name:
            raise BadRequestError(f"the zip names {name[:80]!r}, a path out of the archive; name tiles as slide_0.png")
        if not name.lower().endswith(".png"):
            raise BadRequestError(f"the zip holds {name[:80]!r}; send PNG tiles alone")
        if member.compress_type not in _METHODS or member.flag_bits & 1:
            raise BadRequestError(f"tile {name[:80]!r} is encrypted or packed in an unusual way; store or deflate it")
    try:
        require_tiles_of_one_slide([member.filename for member in members], "the zip")
    except ValueError as error:
        raise BadRequestError(str(error)[:400]) from None


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limits: Limits) -> bytes:
    """Return a file of the archive, at most as much as is allowed whatever its header says."""
    with archive.open(member) as file:
        data = file.read(limits.max_body_bytes + 1)
    if len(data) > limits.max_body_bytes:
        raise BadRequestError(f"tile {member.filename[:80]!r} unpacks to more than {limits.max_body_bytes} bytes", 413)
    return data
