"""A reader of the npy format for untrusted data: no pickle, and sizes in the header are checked."""

import re
import struct
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milpath.sagemaker.endpoint.request_limits import BadRequestError

MAGIC = b"\x93NUMPY"
_MAX_HEADER = 10_000
_DTYPE = re.compile(r"'descr':\s*'([<>|=]?)([uif])([1248])'")
_ORDER = re.compile(r"'fortran_order':\s*(True|False)")
_SHAPE = re.compile(r"'shape':\s*\(([0-9, ]*)\)")
_ALLOWED = ("u1", "f2", "f4", "f8")


def read_npy(data: bytes) -> NDArray[Any]:
    """Return the array of a `.npy` file.

    Args:
        data: The whole file; the header must account for every byte of it.

    Returns:
        An array of uint8, float16, float32 or float64, in the byte order of this machine.

    Raises:
        BadRequestError: If it is not such a file, or its size does not match its header.

    References:
        NumPy Enhancement Proposal 1, "A simple file format for NumPy arrays".
    """
    header, start = _header(data)
    dtype, order, shape = _DTYPE.search(header), _ORDER.search(header), _SHAPE.search(header)
    if shape is None or order is None:
        raise BadRequestError("the npy body has a header without shape and order; write it with numpy.save")
    if dtype is None or dtype[2] + dtype[3] not in _ALLOWED:
        found = re.search(r"'descr':\s*(\S+)", header)
        raise BadRequestError(
            f"the npy body must hold uint8, float16, float32 or float64, not {found[1][:40] if found else 'nothing'}; "
            "convert with array.astype('float32')"
        )
    sizes = tuple(int(word) for word in shape[1].replace(" ", "").split(",") if word)
    if len(shape[1]) > 100 or any(size == 0 for size in sizes):
        raise BadRequestError(f"the npy body has an invalid shape ({shape[1][:100]}); send at least one tile")
    kind = np.dtype(f"{dtype[1]}{dtype[2]}{dtype[3]}")
    expected = prod(sizes) * kind.itemsize
    if expected != len(data) - start:
        raise BadRequestError(
            f"the npy body of shape {sizes} should have {expected} bytes, but has {len(data) - start}"
        )
    flat = np.frombuffer(data, kind, offset=start)
    array = flat.reshape(sizes, order="F" if order[1] == "True" else "C")
    return array.astype(kind.newbyteorder("="), copy=False)


def _header(data: bytes) -> tuple[str, int]:
    """Return the header and the offset of the values."""
    if not data.startswith(MAGIC):
        raise BadRequestError("the body is not an npy file; write it with numpy.save")
    if len(data) < 12:
        raise BadRequestError("the npy body is truncated")
    if data[6] == 1:
        start, (length,) = 10, struct.unpack("<H", data[8:10])
    elif data[6] in (2, 3):
        start, (length,) = 12, struct.unpack("<I", data[8:12])
    else:
        raise BadRequestError(f"the npy body has version {data[6]}; versions 1 to 3 are supported")
    if length > _MAX_HEADER:
        raise BadRequestError(f"the npy body has a header of {length} bytes; at most {_MAX_HEADER} are allowed")
    if start + length > len(data):
        raise BadRequestError("the npy body is truncated")
    return data[start : start + length].decode("latin1").replace('"', "'"), start + length
