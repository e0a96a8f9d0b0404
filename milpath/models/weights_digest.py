"""Digests of a checkpoint: of its weights, its card and every other part, kept in the card.

A zip archive has a checksum of each member, which `torch.load` does not look at; the digests besides notice an edit by a
program that writes new checksums.
"""

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CARD = "milpath"
DIGESTS = "digests"
_BLOCK = 4 << 20
_AGAIN = "take another copy of the file, or train again"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint whose card holds a digest of every part.

    Args:
        content: A checkpoint: `milpath` (the card as a mapping), `state_dict` and whatever else is written.

    Returns:
        The same parts; the card has one entry more, `digests`: name of a part to SHA-256.

    Example:
        >>> content = sealed({"milpath": {"threshold": 0.5}, "state_dict": {"bias": torch.ones(2)}})
        >>> require_sealed(content, "best.ckpt")
        >>> content["milpath"]["threshold"] = 0.4
        >>> require_sealed(content, "best.ckpt")
        Traceback (most recent call last):
        ...
        ValueError: best.ckpt: its card was changed after it was written; take another copy of the file, or train again
    """
    digests = {str(name): digest_of(_without_digests(name, value)) for name, value in content.items()}
    return dict(content) | {CARD: dict(content[CARD]) | {DIGESTS: digests}}


def require_sealed(content: Mapping[str, Any], path: str | Path, parts: Iterable[str] | None = None) -> None:
    """Refuse a checkpoint of which a part is not what it was when it was written.

    Those of milpath 0.1.0 have no digests and pass.

    Args:
        content: A checkpoint that was read.
        path: Its file, for the message.
        parts: Which parts to compare; None for all, none of which may be missing or additional.

    Raises:
        ValueError: Naming the part.
    """
    card = content[CARD]
    digests = card.get(DIGESTS) if isinstance(card, Mapping) else None
    if digests is None:
        return
    if not isinstance(digests, Mapping):
        raise ValueError(f"{path}: the digests in its card were changed after it was written; {_AGAIN}")
    if parts is None and (different := sorted({str(name) for name in content} ^ {str(name) for name in digests})):
        raise ValueError(f"{path}: its part {different[0]!r} came or went after it was written; {_AGAIN}")
    for name in digests if parts is None else [name for name in parts if name in digests and name in content]:
        try:
            found = digest_of(_without_digests(name, content[name]))
        except RecursionError:
            found = ""
        if found != digests[name]:
            what = {CARD: "card", "state_dict": "weights"}.get(str(name), f"part {name!r}")
            verb = "were" if name == "state_dict" else "was"
            raise ValueError(f"{path}: its {what} {verb} changed after it was written; {_AGAIN}")


def digest_of(value: Any) -> str:
    """Return the SHA-256 of tensors and plain values, nested in any way; the order of keys does not matter.

    A tensor counts with its type, its shape and its bytes, on whatever device and in whatever order of memory it lies.
    """
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def require_whole_archive(path: str | Path) -> None:
    """Compare every member of a file of `torch.save` with its checksum.

    Raises:
        ValueError: If it is not a zip archive, holds two members of one name, or a member is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len({member.filename for member in members}) < len(members):
                raise ValueError(f"{path} holds two members of one name; it is no checkpoint of milpath")
            for member in members:
                name = member.filename
                with archive.open(member) as file:
                    while file.read(_BLOCK):
                        pass
                name = ""
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        if isinstance(error, zipfile.BadZipFile) and "CRC" in str(error):
            raise ValueError(
                f"{path} was changed after it was written: the checksum of its member {name!r} is another one; {_AGAIN}"
            ) from None
        raise ValueError(f"{path} cannot be read: it is no checkpoint of milpath, or it is truncated") from None


def _without_digests(name: str, value: Any) -> Any:
    """Return a part without the digests, which cannot hold their own."""
    return {key: item for key, item in value.items() if key != DIGESTS} if name == CARD else value


def _feed(digest: Any, value: Any) -> None:
    """Add a value with its type, so that no two values are the same bytes."""
    if isinstance(value, Tensor):
        _feed_tensor(digest, value)
    elif isinstance(value, Mapping):
        digest.update(b"mapping %d;" % len(value))
        for key in sorted(value, key=lambda key: (type(key).__name__, str(key))):
            _feed(digest, key)
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(b"list %d;" % len(value))
        for item in value:
            _feed(digest, item)
    elif isinstance(value, float):
        digest.update(b"float;" + struct.pack("<d", value))
    elif isinstance(value, bytes | bytearray):
        digest.update(b"bytes %d;" % len(value) + value)
    elif value is None or isinstance(value, bool | int | str):
        text = f"{type(value).__name__}:{value}".encode(errors="surrogatepass")
        digest.update(b"text %d;" % len(text) + text)
    else:
        # Nothing else is read again with weights_only=True but types of torch without a content that matters here.
        digest.update(f"{type(value).__name__};".encode())


def _feed_tensor(digest: Any, value: Tensor) -> None:
    """Add type, shape and bytes of a tensor."""
    value = value.detach().resolve_conj().resolve_neg()
    digest.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
    if value.layout != torch.strided or value.is_quantized:
        value = value.to_dense() if value.layout != torch.strided else value.int_repr()
    storage = value.untyped_storage()
    if value.nbytes > storage.nbytes():
        # It repeats stored numbers: their bytes and how they repeat say all, whatever size it claims to have.
        digest.update(f"repeats {value.stride()} {value.storage_offset()};".encode())
        value = torch.empty(0, dtype=torch.uint8, device=value.device).set_(storage)
    flat = value.cpu().contiguous().reshape(-1).view(torch.uint8)
    digest.update(flat.numpy().data if len(flat) else b"")
