"""Readers of feature files, one per slide, as written by TRIDENT, CLAM and STAMP."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch

from milpath.data.sources.features.feature_origin import (
    FeatureOrigin,
    kind_of_features,
    origin_of,
    tile_size_in_microns,
)
from milpath.models.torch_file import load_plain
from milpath.records.error_text import reason_of
from milpath.records.label_table import quote_first

# TRIDENT and CLAM, then STAMP.
_FEATURES = ("features", "feats")
# Far more than a slide has (100,000 tiles of 2,560 features are 256 million); a damaged file may claim any number.
_MOST_VALUES = 2**31
_FEW_VALUES = 2**24
_MOST_TIMES = 200
_NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)


class SlideFeatures(NamedTuple):
    """Features of one slide.

    Attributes:
        features: `(tiles, features)` in the dtype of the file.
        coords: `(tiles, 2)`, left and top edge of each tile: int64 pixels of level 0, or float64 pixels of the tile for
            the files of STAMP, which do not know level 0; `None` if unknown.
        origin: What the file says about encoder and tiles.
        at_level0: Whether the coordinates are pixels of level 0.
    """

    features: np.ndarray
    coords: np.ndarray | None
    origin: FeatureOrigin
    at_level0: bool = True


def read_features(path: Path) -> SlideFeatures:
    """Read the features of a slide.

    `.h5` files contain the datasets `features` (or `feats`) `(tiles, features)`, optionally with a leading axis of 1, and
    `coords` `(tiles, 2)`; `.pt` files contain the features as a tensor, or a dictionary of both.

    Raises:
        ValueError: If the file is damaged, has no features of tiles, or features and coordinates do not match.
    """
    slide = _read_pt(path) if path.suffix == ".pt" else _read_h5(path)
    features, coords = slide.features, slide.coords
    if features.ndim == 3 and features.shape[0] == 1:
        features = features[0]
    if features.ndim == 1 and len(features) and coords is not None:
        raise ValueError(
            f"features in {path} are one row of {len(features)} for the whole slide; give those of its tiles"
        )
    if features.ndim != 2 or 0 in features.shape or features.dtype.kind not in "fiu":
        raise ValueError(
            f"features in {path} are {features.dtype} {features.shape}, expected numbers (tiles, features)"
        )
    if coords is not None:
        coords = coords[0] if coords.ndim == 3 and coords.shape[0] == 1 else coords
        if coords.shape != (len(features), 2):
            raise ValueError(
                f"coords in {path} are {coords.shape}, expected ({len(features)}, 2) to match the features"
            )
        coords = _sound_coords(coords, path)
        coords = coords.astype(np.int64) if slide.at_level0 else coords
    origin = slide.origin._replace(embedding_dim=features.shape[1])
    return slide._replace(features=features, coords=coords, origin=origin)


def read_origin(path: Path) -> FeatureOrigin | None:
    """Return what an HDF5 file says about its features without reading them.

    `None` for `.pt`, and for a file that cannot be read or has no table of features, such as that of a slide without tissue.
    """
    if path.suffix == ".pt":
        return None
    try:
        with _open_h5(path) as (file, features, coords):
            shape = features.shape or ()
            return origin_of(file, features, coords) if len(shape) > 1 and 0 not in shape else None
    except ValueError:
        return None  # reported by `read_features`, together with all others


def _sound_coords(coords: np.ndarray, path: Path) -> np.ndarray:
    """Return coordinates; refuse values that are not positions."""
    if coords.dtype.kind not in "fiu":
        raise ValueError(f"coords in {path} are {coords.dtype}, expected numbers (tiles, 2)")
    # NaN compares False with everything; float64 represents all pixel positions of a slide exactly.
    sound = np.abs(coords.astype(np.float64)) < 2**53
    if not sound.all():
        row, column = np.argwhere(~sound)[0]
        raise ValueError(
            f"coords in {path} have {coords[row, column]} as {'xy'[column]} of tile {row}; coordinates must be finite "
            "pixels of level 0: write them again"
        )
    return coords


@contextmanager
def _open_h5(path: Path) -> Iterator[tuple[h5py.File, h5py.Dataset, h5py.Dataset | None]]:
    """Open an HDF5 file of features, and find its datasets."""
    try:
        with h5py.File(path, "r") as file:
            found = [dataset for name in _FEATURES if (dataset := _dataset(file, name, path)) is not None]
            if not found:
                raise ValueError(f"{path} has no dataset 'features'; it has {quote_first(sorted(file), 12) or 'none'}")
            if (kind := kind_of_features(file)) not in (None, "tile"):
                raise ValueError(f"{path} has features of a whole {kind}, expected one row per tile (feat_type=tile)")
            if found[0].size is None or found[0].size > _MOST_VALUES:
                raise ValueError(f"features in {path} are {found[0].shape}, more than a slide can have")
            coords = _dataset(file, "coords", path)
            for name, part in (("features", found[0]), ("coords", coords)):
                if part is not None:
                    _require_values(part, name, found[0].size, path)
            yield file, found[0], coords
    except (OSError, RuntimeError, TypeError, UnicodeDecodeError, MemoryError) as error:
        raise ValueError(f"{path} is not an HDF5 file, or is damaged ({reason_of(error)})") from None


def _require_values(part: h5py.Dataset, name: str, most: int, path: Path) -> None:
    """Refuse a dataset that states more values than it holds, before memory is taken for them."""
    if part.dtype.kind not in "fiu":
        raise ValueError(f"{name} in {path} are {part.dtype} {part.shape}, expected numbers")
    size, stored = part.size or 0, part.id.get_storage_size()
    if size > max(most, _FEW_VALUES):
        raise ValueError(f"{name} in {path} are {part.shape}, more than the features")
    # HDF5 reads what is not stored as zeros, of any size that the file claims; features never compress so well. It takes
    # the memory of a whole chunk.
    chunk = math.prod(part.chunks or ())
    hollow = max(part.nbytes, chunk * part.dtype.itemsize) > _MOST_TIMES * stored
    if (size and not stored) or (max(size, chunk) > _FEW_VALUES and hollow):
        raise ValueError(f"{path} states the sizes of its datasets but holds no values; extract it again")


def _read_h5(path: Path) -> SlideFeatures:
    """Read both datasets of an HDF5 file; the coordinates of STAMP, in microns, become pixels of the tile."""
    with _open_h5(path) as (file, features, coords):
        origin = origin_of(file, features, coords)
        places = None if coords is None else np.asarray(coords[()])
        at_level0 = tile_size_in_microns(file) is None and not features.name.endswith("feats")
        if places is not None and not at_level0:
            # Early versions of STAMP do not say the unit: these positions are unknown.
            places = places / origin.microns_per_pixel if origin.microns_per_pixel else None
        return SlideFeatures(np.asarray(features[()]), places, origin, at_level0)


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset | None:
    """Return a dataset stored in the file itself, `None` if it does not exist: HDF5 can link to other files.

    The kind of link is checked before it is followed: following it opens the other file.
    """
    link = file.get(name, getlink=True)
    if link is None:
        return None
    dataset = file[name] if isinstance(link, h5py.HardLink) else None
    if isinstance(dataset, h5py.Group):
        raise ValueError(f"{path} has a group {name!r}, expected a dataset")
    if dataset is None or dataset.is_virtual or dataset.external:
        raise ValueError(f"{path} links to data outside of the file, which is refused")
    return dataset


def _read_pt(path: Path) -> SlideFeatures:
    """Read a tensor or a dictionary of tensors, never code."""
    try:
        content = load_plain(path)
    except Exception as error:  # other bytes can raise anything
        reason = reason_of(error)
        if re.search(r"numpy\S*multiarray\._reconstruct", reason):
            raise ValueError(
                f"{path} holds a numpy array, which only code can read, and code is never run; write .h5 (saveas='h5' of "
                "TRIDENT), or a tensor: torch.save(torch.from_numpy(features), path)"
            ) from None
        raise ValueError(f"{path} contains no tensor, contains code, or is damaged ({reason})") from None
    coords = content.get("coords") if isinstance(content, dict) else None
    features = content.get("features", content.get("feats")) if isinstance(content, dict) else content
    if not isinstance(features, torch.Tensor):
        raise ValueError(
            f"{path} contains a {type(content).__name__} without 'features', expected a tensor (tiles, features)"
        )
    places = _array(coords, "coords", path) if isinstance(coords, torch.Tensor) else None
    return SlideFeatures(_array(features, "features", path), places, FeatureOrigin())


def _array(tensor: torch.Tensor, name: str, path: Path) -> np.ndarray:
    """Return a tensor as an array; features may have been saved with their gradient, or in types that numpy lacks."""
    # Sparse, nested and quantized tensors, and those without values.
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized or tensor.device.type != "cpu":
        raise ValueError(
            f"{name} in {path} are a sparse, nested or quantized tensor, or one without values; save a dense tensor"
        )
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        raise ValueError(
            f"{name} in {path} are {tuple(tensor.shape)}, but repeat fewer values than that; save a dense tensor"
        )
    tensor = tensor.detach().resolve_conj().resolve_neg()
    # numpy has no bfloat16, nor floats of 8 bits.
    return (tensor.float() if tensor.is_floating_point() and tensor.dtype not in _NUMPY_FLOATS else tensor).numpy()
