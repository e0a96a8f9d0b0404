"""Reading of `torch.save` files of somebody else: tensors and plain values, no more bytes than the file has."""

import mmap
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# How torch tells an archive from the format before it.
_ARCHIVE = b"PK\3\4"
# The only one of the names that `weights_only=True` allows which makes as many bytes as a number says.
_ALLOCATES = b"\nbytearray\n"


def load_plain(path: str | Path, *, mapped: bool = False) -> Any:
    """Read a `torch.save` file with `weights_only=True`, on the CPU.

    Args:
        path: The file.
        mapped: Map tensors into memory instead of reading them.

    Raises:
        ValueError: If it is a damaged archive, is compressed, which torch never does and which unpacks to any size, or
            states an array of bytes.
        Exception: Whatever torch raises for a damaged file or one with code.
    """
    _require_stored_values(path)
    with warnings.catch_warnings():
        # What is unusual in a file is refused in one line.
        warnings.simplefilter("ignore", UserWarning)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def is_plain_tensor(value: Any) -> bool:
    """Return whether a value is a dense tensor of real numbers: not sparse, nested, complex, without values or of 8 bits."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not (value.is_nested or value.is_quantized or value.is_complex())
        and not (value.dtype.is_floating_point and value.dtype.itemsize < 2)
    )


def require_plain_tensors(content: Any) -> None:
    """Refuse content in which a tensor is not plain, however deep.

    Raises:
        ValueError: If one is not.
    """
    # A small file can hold lists that contain each other, or themselves: each is looked into once.
    rest, seen = [content], set()
    while rest:
        value = rest.pop()
        if isinstance(value, Mapping | list | tuple | set):
            if id(value) in seen:
                continue
            seen.add(id(value))
        if isinstance(value, Tensor) and not is_plain_tensor(value):
            raise ValueError("it has a sparse, nested, quantized or complex tensor, or one without values")
        if isinstance(value, Mapping):
            rest.extend(value.values())
        elif isinstance(value, list | tuple | set):
            rest.extend(value)


def _require_stored_values(path: str | Path) -> None:
    """Refuse an archive with compressed members, and a pickle, within an archive or not, that makes bytes of a number."""
    with Path(path).open("rb") as file:
        start = file.read(len(_ARCHIVE))
        if not start:
            return
        if start == _ARCHIVE and not _is_stored(path):
            raise ValueError("it is compressed, which torch.save never does; save it again")
        # Of stored members each byte is in the file as it is: no checksum, which torch does not compare, need be right.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(_ALLOCATES) >= 0:
                raise ValueError("it states an array of bytes; save tensors only")


def _is_stored(path: str | Path) -> bool:
    """Return whether no member of an archive is compressed, by the list that torch reads as well."""
    try:
        with zipfile.ZipFile(path) as archive:
            return all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
    except (zipfile.BadZipFile, RuntimeError, ValueError) as error:
        raise ValueError(f"it is a damaged archive ({error}); get another copy of it") from None
