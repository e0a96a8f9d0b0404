"""The card of an encoder in an HDF5 file of features: written beside them, and read as untrusted data.

With it, a network that was trained on the files can cut and encode slides as their tiles were. The attribute `milpath` of
the file holds it as JSON; other programs ignore it.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import h5py
import numpy as np

from milpath.models.encoders.encoder_card import EncoderCard
from milpath.models.encoders.trained_encoder import describes_encoder, encoder_facts
from milpath.records.plain_values import brief, require_plain
from milpath.slides.tiling_options import METHODS, TileOptions

ATTRIBUTE = "milpath"
# HDF5 keeps attributes of up to 64 KiB in the header of the file.
_MAX_BYTES = 60_000
_DTYPES = ("float16", "float32")


class RecordedEncoder(NamedTuple):
    """What a file says about how its features were made, as JSON with sorted keys: equal texts mean equal values.

    Attributes:
        encoder: The card of the encoder, with the precision that was used and `dtype`, the type of its features.
        tiling: How slides were cut, `None` if tiles were already cut.
    """

    encoder: str
    tiling: str | None


def write_encoder(file: h5py.File, description: Mapping[str, Any], dtype: str) -> None:
    """Write the card of the encoder of a store's features into a file; a card that cannot open an encoder is left out.

    Args:
        file: The file.
        description: Content of `store.json`.
        dtype: Type of the features, "float16" or "float32".
    """
    card, tiling = description.get("encoder"), description.get("tiling") or {}
    if not isinstance(card, Mapping) or not describes_encoder(card):
        return
    content: dict[str, Any] = {"encoder": dict(card) | {"dtype": dtype}}
    if tiling.get("method") in METHODS:
        content["tiling"] = tiling
    text = _text(content).encode("ascii")
    if len(text) <= _MAX_BYTES:
        file.attrs[ATTRIBUTE] = np.bytes_(text)


def read_encoder(file: h5py.File) -> RecordedEncoder | None:
    """Return what a file says about its encoder; `None` if it says nothing.

    Raises:
        ValueError: If the content is too long, is not JSON, or a value is not sound.
    """
    if ATTRIBUTE not in file.attrs:
        return None
    where = f"the attribute {ATTRIBUTE} of {file.filename}"
    # Not read before its size is known: a text of variable length lies elsewhere in the file.
    found = file.attrs.get_id(ATTRIBUTE)
    if found.shape != () or found.dtype.kind != "S" or not 0 < found.dtype.itemsize <= _MAX_BYTES:
        raise ValueError(f"{where} is not a text of at most {_MAX_BYTES:,} bytes; remove it, or extract again")
    try:
        content = json.loads(bytes(file.attrs[ATTRIBUTE]).decode("ascii"))
    except (ValueError, RecursionError):
        raise ValueError(f"{where} is not JSON; remove it, or extract again") from None
    content = require_plain(content, where)
    if not isinstance(content, dict) or not isinstance(card := content.get("encoder"), dict):
        raise ValueError(f"{where} has no encoder, but {brief(content)}; remove it, or extract again")
    tiling = content.get("tiling")
    try:
        EncoderCard.from_dict(encoder_facts(card))
        if card.get("dtype") not in _DTYPES:
            raise ValueError(f"dtype of the features is {brief(card.get('dtype'))}, not {' or '.join(_DTYPES)}")
        if tiling is not None and "tissue_model_sha256" not in tiling:
            TileOptions.from_tiling(tiling)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: {error}") from None
    return RecordedEncoder(_text(card), None if tiling is None else _text(tiling))


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True)
