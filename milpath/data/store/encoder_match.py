"""Whether the features of a store are those that a network was trained on: same encoder, tile size and resolution."""

import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.nn import Module

from milpath.data.store.bag_store import BagStore
from milpath.models.card import Card
from milpath.models.encoders.trained_encoder import describes_encoder
from milpath.records.error_text import one_line_of
from milpath.records.plain_values import brief

_log = logging.getLogger(__name__)
# What makes features comparable, in the order of a message.
_COMPARED = (
    "name", "weights_sha256", "embedding_dim", "output", "tile_size", "microns_per_pixel", "stain_normalisation",
    "stain_target",
)  # fmt: skip
# Relative differences between two resolutions that count as equal.
_MEASURED, _NOMINAL = 0.02, 0.2
# Names that TRIDENT and STAMP give to an encoder, without separators, to the name used here.
_OTHER_NAMES = {
    "univ1": "uni", "univ2": "uni2h", "uni2": "uni2h", "conchv1": "conch", "conch15": "conchv15", "gigapath": "provgigapath",
    "virchowfull": "virchow", "midnight12k": "midnight",
}  # fmt: skip


def encoder_of(store: BagStore) -> dict[str, Any]:
    """Return what a store says about the encoder of its features; empty for tiles, or if nothing is known.

    A card with which the encoder can be opened also gets the type of the features, `dtype`: slides are encoded into it.
    """
    content = store.description.get("encoder")
    if not isinstance(content, Mapping) or len(store.tile_shape) != 1:
        return {}
    if not describes_encoder(content):
        return dict(content)
    # Files of float16 may have been copied into a store of float32, which holds the same numbers.
    rounded = "float16" in (content.get("dtype"), store.tiles.dtype.name)
    return dict(content) | {"dtype": "float16" if rounded else store.tiles.dtype.name}


def require_same_encoder(card: Card, network: Module, store: BagStore, where: str | Path, checkpoint: str) -> None:
    """Refuse features of another encoder, width, tile size or resolution than a network was trained on.

    What one of both does not say is not compared, and said in a log line.

    Args:
        card: The card of the network.
        network: The network, which knows the width of its features.
        store: A store; one of tiles is not compared.
        where: The features, for the message.
        checkpoint: The checkpoint, for the message.

    Raises:
        ValueError: With both descriptions.
    """
    encoder = getattr(getattr(network, "tile_encoder", network), "network", network)
    width = getattr(encoder, "num_features", None)
    if len(store.tile_shape) != 1 or (width is None and not card.encoder):
        return
    tiling = store.description.get("tiling")
    wanted = _facts({"embedding_dim": width} | dict(card.encoder), card.tiling)
    found = _facts(
        encoder_of(store) | {"embedding_dim": store.tile_shape[0]}, tiling if isinstance(tiling, Mapping) else {}
    )
    # A magnification of 20 stands for 0.44 to 0.52 microns per pixel, as scanners differ.
    nominal = any("magnification" in encoder_card for encoder_card in (card.encoder, encoder_of(store)))
    rounded = _NOMINAL if nominal else _MEASURED
    both = [key for key in _COMPARED if key in wanted and key in found]
    differing = [key for key in both if not _same(key, wanted[key], found[key], rounded)]
    if differing:
        raise ValueError(
            one_line_of(
                f"{where} has features of {_describe(found)}, but {checkpoint} was trained on features of "
                f"{_describe(wanted)}; they differ in {', '.join(differing)}: give features of the same encoder, tile size "
                "and resolution"
            )
        )
    if unknown := [key for key in ("name", "tile_size", "microns_per_pixel") if key not in wanted or key not in found]:
        _log.info(
            "%s: %s of the features cannot be compared with those that %s was trained on, one of both does not say it",
            where, ", ".join(unknown), checkpoint,
        )  # fmt: skip


def require_same_tile_size(card: Card, store: BagStore, where: str | Path) -> None:
    """Refuse tiles of a size other than the network was trained on; features have no size to compare.

    Raises:
        ValueError: With both sizes.
    """
    wanted, found = card.tiling.get("tile_size"), store.tile_shape[0]
    if wanted is not None and len(store.tile_shape) == 3 and found != wanted:
        raise ValueError(
            f"the checkpoint was trained on tiles of {wanted} px, but {where} holds tiles of {found} px; "
            f"cut the slides with tile_size={wanted}"
        )


def require_encodable(card: Card, store: BagStore, where: str | Path, checkpoint: str) -> None:
    """Refuse tiles for a network of features whose card does not say which encoder made them.

    Raises:
        ValueError: With the command that encodes them.
    """
    if not describes_encoder(card.encoder):
        raise ValueError(
            f"{checkpoint} takes features of {card.encoder.get('name', 'an encoder that its card does not name')}, but "
            f"{where} holds tiles; encode them with python -m milpath.extract slides={where} output=DIR encoder=NAME, then "
            "give data.path=DIR"
        )
    require_same_tile_size(card, store, where)


def _facts(encoder: Mapping[str, Any], tiling: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known; the tiles as they were cut rather than as the authors of the encoder advise."""
    known = {key: encoder.get(key) for key in _COMPARED}
    if describes_encoder(encoder) and known["stain_normalisation"] is None:
        known["stain_normalisation"] = "none"
    known |= {key: tiling[key] for key in ("tile_size", "microns_per_pixel") if key in tiling}
    return {key: value for key, value in known.items() if value is not None}


def _same(key: str, one: Any, other: Any, rounded: float) -> bool:
    """Return whether two values mean the same; resolutions may differ by a small factor."""
    if key == "name":
        return same_name(one, other)
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return math.isclose(one, other, rel_tol=rounded) if numbers and key == "microns_per_pixel" else bool(one == other)


def same_name(one: Any, other: Any) -> bool:
    """Return whether two names mean one encoder, as milpath, TRIDENT, CLAM and STAMP write it.

    Example:
        >>> same_name("uni2_h", "uni_v2"), same_name("uni2_h", "uni_v1")
        (True, False)
    """
    return _folded(one) == _folded(other)


def _folded(name: Any) -> str:
    """Return the name of an encoder as everybody writes it."""
    plain = re.sub(r"[^a-z0-9]", "", str(name).lower())
    return _OTHER_NAMES.get(plain, plain)


def _describe(facts: Mapping[str, Any]) -> str:
    """Return an encoder and its tiles in a few words."""
    words = [f"{facts['embedding_dim']} values"] if "embedding_dim" in facts else []
    words += [f"tiles of {facts['tile_size']} px"] if "tile_size" in facts else []
    words += [f"{facts['microns_per_pixel']:g} microns per pixel"] if "microns_per_pixel" in facts else []
    words += [f"weights {str(facts['weights_sha256'])[:12]}"] if "weights_sha256" in facts else []
    words += [f"output {brief(facts['output'])}"] if "output" in facts else []
    if (method := facts.get("stain_normalisation", "none")) != "none":
        words += [f"stains normalised by {brief(method)} to {brief(facts.get('stain_target'))}"]
    name = brief(facts["name"])[1:-1] if "name" in facts else "an encoder without a name"
    return f"{name} ({', '.join(words)})" if words else name
