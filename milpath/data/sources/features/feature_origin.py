"""Where features come from, as far as their file says: encoder, tile size and resolution; one origin per data set."""

import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import h5py
import numpy as np

from milpath.data.sources.features.encoder_in_file import ATTRIBUTE, read_encoder
from milpath.models.encoders.encoder_card import EncoderCard
from milpath.models.encoders.trained_encoder import encoder_facts
from milpath.records.data_warning import MAX_LENGTH, WARNING_KEY, joined, require_warning
from milpath.records.error_text import visible

_LONGEST_NAME = 200
# Attribute of a file whose tiles are not those of tissue.
# Pixels at 10x are nominally 1 micron wide.
_MICRONS_AT_1X = 10.0


class FeatureOrigin(NamedTuple):
    """What a feature file says about its features; `None` for what it does not say.

    Attributes:
        embedding_dim: Columns of the features.
        encoder: Name of the encoder.
        tile_size: Side of a tile in pixels, as the encoder saw it.
        microns_per_pixel: Resolution of these pixels; nominal if only the magnification is known.
        magnification: The nominal magnification, if the resolution is derived from it.
        tile_size_level0: Side of a tile in pixels of level 0.
        overlap: Overlap of neighbouring tiles in pixels, as the encoder saw them.
        card: The card of the encoder as JSON, in files of milpath.
        tiling: How slides were cut, as JSON, in files of milpath.
        warning: What the tiles say against themselves; files may differ in it.
    """

    embedding_dim: int | None = None
    encoder: str | None = None
    tile_size: int | None = None
    microns_per_pixel: float | None = None
    magnification: float | None = None
    tile_size_level0: int | None = None
    overlap: int | None = None
    card: str | None = None
    tiling: str | None = None
    warning: str = ""

    def as_card(self) -> dict[str, Any]:
        """Return what is known about the encoder and its tiles, as the entry `encoder` of `store.json`."""
        if self.card is not None:
            return dict(json.loads(self.card))
        named = {
            "name": self.encoder, "embedding_dim": self.embedding_dim, "tile_size": self.tile_size,
            "microns_per_pixel": self.microns_per_pixel, "magnification": self.magnification,
        }  # fmt: skip
        return {name: value for name, value in named.items() if value is not None}


_WORDS = {
    "embedding_dim": "{} columns", "encoder": "encoder {}", "tile_size": "tiles of {} px",
    "microns_per_pixel": "{:g} microns per pixel", "magnification": "a magnification of {:g}",
    "tile_size_level0": "tiles of {} px at level 0", "overlap": "tiles that overlap by {} px",
}  # fmt: skip
# How slides were cut may differ in what does not change a feature, such as the number of tiles.
_MAY_DIFFER = ("overlap", "tiling")


def require_one_origin(origins: Iterable[tuple[str, FeatureOrigin]], where: str) -> FeatureOrigin:
    """Return the common origin of all slides; a warning of some is one of all.

    Tiles may have different sizes at level 0 if their files say the size and the resolution at which the encoder saw them:
    slides are scanned at different magnifications.

    Args:
        origins: Slide and origin.
        where: The data, for the message.

    Raises:
        ValueError: With a slide of each kind if they differ.
    """
    seen: dict[str, dict[Any, list[str]]] = {name: {} for name in FeatureOrigin._fields if name != "warning"}
    warnings = []
    for bag_id, origin in origins:
        warnings.append(origin.warning)
        for name in seen:
            if (value := getattr(origin, name)) is not None:
                known = next((key for key in seen[name] if _agree(key, value)), value)
                seen[name].setdefault(known, []).append(bag_id)
    scanned_differently = len(seen["tile_size"]) == len(seen["microns_per_pixel"]) == 1
    for name, kinds in seen.items():
        if len(kinds) < 2 or name in _MAY_DIFFER or (name == "tile_size_level0" and scanned_differently):
            continue
        said = sorted(((_in_words(name, value), bags) for value, bags in kinds.items()), key=lambda kind: len(kind[1]))
        words = ", ".join(f"{bags[0]!r} has {word} ({_slides(bags)})" for word, bags in reversed(said))
        raise ValueError(
            f"features in {where} come from more than one extraction: {words}; all slides must come from one encoder, on "
            "tiles of one size and resolution: give only the files of one"
        )
    common = {name: next(iter(kinds)) if len(kinds) == 1 else None for name, kinds in seen.items()}
    return FeatureOrigin(**common, warning=joined(warnings))


def _agree(one: Any, other: Any) -> bool:
    """Return whether two values are the same; scanners of one magnification differ in their resolution."""
    return math.isclose(one, other, rel_tol=0.2) if isinstance(one, float) else bool(one == other)


def _in_words(name: str, value: Any) -> str:
    """Return what a file says in a few words."""
    if name != "card":
        return _WORDS[name].format(value)
    card = json.loads(value)
    return f"{EncoderCard.from_dict(encoder_facts(card)).describe()}, {card['precision']}, {card['dtype']}"


def _slides(bags: list[str]) -> str:
    return f"{len(bags):,} slide{'s' * (len(bags) > 1)}"


def origin_of(file: h5py.File, features: h5py.Dataset, coords: h5py.Dataset | None) -> FeatureOrigin:
    """Return what an HDF5 file of TRIDENT, CLAM or STAMP says about its features.

    TRIDENT names the encoder on the features and writes `patch_size`, `patch_size_level0` and `target_magnification` on
    the coordinates, milpath also `microns_per_pixel`; STAMP writes `extractor`, `tile_size_um` and `tile_size_px` on the
    file. Files of milpath have the card of the encoder besides.

    Raises:
        ValueError: If a size is not a positive number of pixels, or the card is not sound or that of other features.
    """
    attributes = {} if coords is None else coords.attrs
    where = f"of coords in {file.filename}"
    tile_size = _pixels(attributes, "patch_size", where)
    microns, magnification = _positive(attributes, "microns_per_pixel"), None
    if microns is None and (magnification := _positive(attributes, "target_magnification")) is not None:
        microns = _MICRONS_AT_1X / magnification
    width, tile_microns = _pixels(file.attrs, "tile_size_px", f"of {file.filename}"), tile_size_in_microns(file)
    if width and tile_microns:
        tile_size, microns, magnification = width, tile_microns / width, None
    name = _text(features.attrs, "encoder") or _text(file.attrs, "extractor")
    columns = features.shape[-1] if features.ndim else None
    recorded = read_encoder(file)
    if recorded is not None:
        card = json.loads(recorded.encoder)
        if (name, columns) != (card["name"], card["embedding_dim"]):
            raise ValueError(
                f"{file.filename} has {columns} features of {name}, but the card in its attribute {ATTRIBUTE} is that of "
                f"{card['name']} with {card['embedding_dim']}; remove it, or extract again"
            )
    overlap = _positive(attributes, "overlap")
    return FeatureOrigin(
        columns,
        name,
        tile_size,
        microns,
        magnification,
        _pixels(attributes, "patch_size_level0", where),
        None if overlap is None else int(overlap),
        None if recorded is None else recorded.encoder,
        None if recorded is None else recorded.tiling,
        _warning(file),
    )


def tile_size_in_microns(file: h5py.File) -> float | None:
    """Return the side of a tile in an HDF5 file of STAMP, whose coordinates are in microns; `None` for other files.

    Raises:
        ValueError: If it is there but not a positive number: without it the coordinates say nothing.
    """
    name = "tile_size_um"
    if name not in file.attrs:
        if _text(file.attrs, "unit") != "um" or "tile_size" not in file.attrs:
            return None
        name = "tile_size"
    found = np.asarray(file.attrs[name]).ravel().tolist()
    size = _positive(file.attrs, name)
    if size is None or len(found) != 1:
        raise ValueError(
            f"{name} of {file.filename} is {visible(str(found))}, expected the side of a tile in microns as one number; "
            "write it again, or delete the attribute to leave out the positions"
        )
    return size


def kind_of_features(file: h5py.File) -> str | None:
    """Return what each row of an HDF5 file of STAMP stands for: "tile", "slide" or "patient"; `None` for other files."""
    return _text(file.attrs, "feat_type")


def _pixels(attributes: Any, name: str, where: str) -> int | None:
    """Return a size in pixels; `None` if there is none."""
    if name not in attributes:
        return None
    value = np.asarray(attributes[name]).ravel()
    if value.dtype.kind not in "fiu" or len(value) == 0 or not 0 < value[0] < 2**31:
        unit = "pixels of level 0" if name.endswith("level0") else "pixels"
        raise ValueError(f"{name} {where} is {value.tolist()}, expected {unit}")
    return int(value[0])


def _positive(attributes: Any, name: str) -> float | None:
    """Return a positive number; `None` if there is none (TRIDENT writes the text None for what it does not know)."""
    if name not in attributes:
        return None
    value = np.asarray(attributes[name]).ravel()
    if value.dtype.kind not in "fiu" or len(value) == 0 or not 0 < value[0] < 1e6:
        return None
    return float(value[0])


def _warning(file: h5py.File) -> str:
    """Return what milpath wrote about the tiles of a file; empty if nothing."""
    return require_warning(_text(file.attrs, WARNING_KEY, MAX_LENGTH) or "", f"{WARNING_KEY} of {file.filename}")


def _text(attributes: Any, name: str, longest: int = _LONGEST_NAME) -> str | None:
    """Return a short text; `None` if there is none."""
    value = attributes.get(name)
    value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if not isinstance(value, str) or not value or value == "None":
        return None
    return value[:longest]
