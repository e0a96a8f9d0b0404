"""Readers of feature files, one per slide, as written by TRIDENT and CLAM."""

import pickle
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch

from milpath.records.error_text import reason_of
from milpath.records.label_table import quote_first

SUFFIXES = (".h5", ".hdf5", ".pt")


class SlideFeatures(NamedTuple):
    """Features of one slide.

    Attributes:
        features: `(tiles, features)` in the dtype of the file.
        coords: `(tiles, 2)` int64, left and top edge of each tile in pixels of level 0; `None` if unknown.
        tile_size: Side of a tile in pixels of level 0; `None` if unknown.
    """

    features: np.ndarray
    coords: np.ndarray | None
    tile_size: int | None


def read_features(path: Path) -> SlideFeatures:
    """Read the features of a slide.

    `.h5` files contain the datasets `features` `(tiles, features)`, optionally with a leading axis of 1, and `coords`
    `(tiles, 2)`; `.pt` files contain the features as a tensor, or a dictionary of both.

    Raises:
        ValueError: If the file is damaged, has no features, or features and coordinates do not match.
    """
    features, coords, tile_size = _read_pt(path) if path.suffix == ".pt" else _read_h5(path)
    if features.ndim == 3 and features.shape[0] == 1:
        features = features[0]
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
        coords = _whole_coords(coords, path)
    return SlideFeatures(features, coords, tile_size)


def _whole_coords(coords: np.ndarray, path: Path) -> np.ndarray:
    """Return coordinates as int64; refuse values that are not pixel positions."""
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
    return coords.astype(np.int64)


def _read_h5(path: Path) -> tuple[np.ndarray, np.ndarray | None, int | None]:
    """Read both datasets of an HDF5 file."""
    try:
        with h5py.File(path, "r") as file:
            features, coords = _dataset(file, "features", path), _dataset(file, "coords", path)
            if features is None:
                raise ValueError(f"{path} has no dataset 'features'; it has {quote_first(sorted(file)) or 'none'}")
            values = np.asarray(features[()]), None if coords is None else np.asarray(coords[()])
            size = None if coords is None else _tile_size(coords, path)
    except (OSError, RuntimeError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not an HDF5 file, or is damaged ({reason_of(error)})") from None
    return *values, size


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


def _tile_size(coords: h5py.Dataset, path: Path) -> int | None:
    """Return the side of a tile stored with the coordinates, `None` if it is not."""
    if "patch_size_level0" not in coords.attrs:
        return None
    value = np.asarray(coords.attrs["patch_size_level0"]).ravel()
    if value.dtype.kind not in "fiu" or len(value) == 0 or not 0 < value[0] < 2**31:
        raise ValueError(f"patch_size_level0 of coords in {path} is {value.tolist()}, expected pixels of level 0")
    return int(value[0])


def _read_pt(path: Path) -> tuple[np.ndarray, np.ndarray | None, int | None]:
    """Read a tensor or a dictionary of tensors, never code."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} contains no tensor, contains code, or is damaged ({reason_of(error)})") from None
    coords = content.get("coords") if isinstance(content, dict) else None
    features = content.get("features") if isinstance(content, dict) else content
    if not isinstance(features, torch.Tensor):
        raise ValueError(
            f"{path} contains a {type(content).__name__} without 'features', expected a tensor (tiles, features)"
        )
    if features.dtype == torch.bfloat16:  # numpy has no bfloat16
        features = features.float()
    if not isinstance(coords, torch.Tensor):
        return features.numpy(), None, None
    return features.numpy(), (coords.double() if coords.is_floating_point() else coords).numpy(), None
