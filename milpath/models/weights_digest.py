"""Digests of a checkpoint's weights, card and other parts, stored in the card.

A zip archive has a checksum for each member, which `torch.load` does not verify. The digests also detect an edit by a
program that writes new checksums.
"""

import errno
import hashlib
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CARD = "milpath"
DIGESTS = "digests"
_BLOCK = 4 << 20
_MAX_VALUES = 5_000_000
# What zipfile raises for damaged archives; a name that is no text is a ValueError.
_BROKEN = (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, OSError)
_AGAIN = "get another copy of the file, or train again"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checkpoint with a digest of every part in its card.

    Args:
        content: A checkpoint: `milpath` (the card as a mapping), `state_dict` and any other parts.

    Returns:
        The same parts; the card has an additional entry `digests`, which maps the name of each part to its SHA-256.

    Example:
        >>> content = sealed({"milpath": {"threshold": 0.5}, "state_dict": {"bias": torch.ones(2)}})
        >>> require_sealed(content, "best.ckpt")
        >>> content["milpath"]["threshold"] = 0.4
        >>> require_sealed(content, "best.ckpt")
        Traceback (most recent call last):
        ...
        ValueError: best.ckpt: its card was changed after it was written; get another copy of the file, or train again
    """
    digests = {str(name): digest_of(_without_digests(name, value)) for name, value in content.items()}
    return dict(content) | {CARD: dict(content[CARD]) | {DIGESTS: digests}}


def require_sealed(content: Mapping[str, Any], path: str | Path, parts: Iterable[str] | None = None) -> None:
    """Refuse a checkpoint if a part was changed after it was written.

    Checkpoints of milpath 0.1.0 have no digests and pass.

    Args:
        content: A checkpoint that was read.
        path: Its file, for the message.
        parts: Which parts to compare; `None` for all, of which none may be missing or added.

    Raises:
        ValueError: With the name of the part.
    """
    card = content[CARD]
    digests = card.get(DIGESTS) if isinstance(card, Mapping) else None
    if digests is None:
        return
    if not isinstance(digests, Mapping):
        raise ValueError(f"{path}: the digests in its card were changed after it was written; {_AGAIN}")
    if parts is None and (different := sorted({str(name) for name in content} ^ {str(name) for name in digests})):
        raise ValueError(f"{path}: its part {different[0]!r} was added or removed after it was written; {_AGAIN}")
    for name in digests if parts is None else [name for name in parts if name in digests and name in content]:
        try:
            found = digest_of(_without_digests(name, content[name]))
        except (RecursionError, ValueError):
            found = ""
        if found != digests[name]:
            what = {CARD: "card", "state_dict": "weights"}.get(str(name), f"part {name!r}")
            verb = "were" if name == "state_dict" else "was"
            raise ValueError(f"{path}: its {what} {verb} changed after it was written; {_AGAIN}")


def digest_of(value: Any) -> str:
    """Return the SHA-256 of arbitrarily nested tensors and plain values; the order of keys does not matter.

    A tensor counts with its dtype, shape and bytes, regardless of its device and memory layout.

    Raises:
        ValueError: If there are more than five million values: a list that contains itself many times over has no end.
    """
    digest = hashlib.sha256()
    _feed(digest, value, iter(range(_MAX_VALUES)))
    return digest.hexdigest()


def require_whole_archive(path: str | Path) -> None:
    """Verify the checksum of every member of a `torch.save` file.

    Raises:
        ValueError: If it is not a zip archive, two members have the same name, or a member is damaged.
        OSError: If the system does not let it be read, which says nothing of the file.
    """
    name = ""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            for member in members:
                name = member.filename
                if member.compress_type != zipfile.ZIP_STORED:  # torch never does, and it unpacks to any size
                    raise zipfile.BadZipFile(f"{name} is compressed")
                with archive.open(member) as file:
                    while file.read(_BLOCK):
                        pass
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a place before the beginning of the file
            raise OSError(error.errno, error.strerror, str(path)) from None
        if isinstance(error, zipfile.BadZipFile) and "CRC" in str(error):
            raise ValueError(
                f"{path} was changed after it was written: the checksum of its member {name!r} does not match; {_AGAIN}"
            ) from None
        raise ValueError(f"{path} cannot be read: it is not a milpath checkpoint, or it is truncated") from None
    if len({member.filename for member in members}) < len(members):
        raise ValueError(f"{path} has two members of the same name; it is not a milpath checkpoint")


def _without_digests(name: str, value: Any) -> Any:
    """Return a part without the digests, which cannot contain themselves."""
    return {key: item for key, item in value.items() if key != DIGESTS} if name == CARD else value


def _feed(digest: Any, value: Any, budget: Iterator[int]) -> None:
    """Add a value with its type, so that different values never give the same bytes."""
    if next(budget, None) is None:
        raise ValueError(f"a checkpoint has more than {_MAX_VALUES:,} values")
    if isinstance(value, Tensor):
        _feed_tensor(digest, value)
    elif isinstance(value, Mapping):
        digest.update(b"mapping %d;" % len(value))
        for key in sorted(value, key=lambda key: (type(key).__name__, str(key))):
            _feed(digest, key, budget)
            _feed(digest, value[key], budget)
    elif isinstance(value, list | tuple):
        digest.update(b"list %d;" % len(value))
        for item in value:
            _feed(digest, item, budget)
    elif isinstance(value, float):
        digest.update(b"float;" + struct.pack("<d", value))
    elif isinstance(value, bytes | bytearray):
        digest.update(b"bytes %d;" % len(value) + value)
    elif value is None or isinstance(value, bool | int | str):
        text = f"{type(value).__name__}:{value}".encode(errors="surrogatepass")
        digest.update(b"text %d;" % len(text) + text)
    else:
        # weights_only=True reads nothing else but torch types whose content does not matter here.
        digest.update(f"{type(value).__name__};".encode())


def _feed_tensor(digest: Any, value: Tensor) -> None:
    """Add the dtype, shape and bytes of a tensor."""
    value = value.detach().resolve_conj().resolve_neg()
    digest.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
    if value.layout != torch.strided or value.is_quantized:
        value = value.to_dense() if value.layout != torch.strided else value.int_repr()
    storage = value.untyped_storage()
    if value.nbytes > storage.nbytes():
        # An expanded view: the stored bytes and the strides define it, whatever size it claims to have.
        digest.update(f"repeats {value.stride()} {value.storage_offset()};".encode())
        value = torch.empty(0, dtype=torch.uint8, device=value.device).set_(storage)
    flat = value.cpu().contiguous().reshape(-1).view(torch.uint8)
    digest.update(flat.numpy().data if len(flat) else b"")
