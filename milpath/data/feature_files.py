"""One file of features a slide, as TRIDENT and CLAM write them."""

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch

from milpath.data.label_table import quote_first
from milpath.records.error_text import reason_of

SUFFIXES = (".h5", ".hdf5", ".pt")


class SlideFeatures(NamedTuple):
    """Features of one slide.

    Attributes:
        features: `(tiles, features)` in the type of the file.
        coords: `(tiles, 2)` int64, left and top of each tile in pixels of level 0; None if unknown.
        tile_size: Side of a tile in pixels of level 0; None if unknown.
    """

    features: np.ndarray
    coords: np.ndarray | None
    tile_size: int | None


def read_features(path: Path) -> SlideFeatures:
    """Read the features of a slide.

    `.h5` files hold the datasets `features` `(tiles, features)`, or with a leading axis of 1, and `coords` `(tiles, 2)`;
    `.pt` files hold the features as a tensor, or a dictionary of both.

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
                f"coords in {path} are {coords.shape}, expected ({len(features)}, 2) as there are features"
            )
        if not (finite := np.isfinite(coords).all(axis=1)).all():
            tile = int(finite.argmin())
            raise ValueError(f"coords in {path} are {coords[tile].tolist()} for tile {tile}, expected whole pixels")
        coords = coords.astype(np.int64)
    return SlideFeatures(features, coords, tile_size)


def _read_h5(path: Path) -> tuple[np.ndarray, np.ndarray | None, int | None]:
    """Read both datasets of an HDF5 file."""
    try:
        with h5py.File(path, "r") as file:
            if "features" not in file:
                raise ValueError(f"{path} has no dataset 'features'; it has {quote_first(sorted(file)) or 'none'}")
            features = _read_dataset(file["features"], path)
            coords = _read_dataset(file["coords"], path) if "coords" in file else None
            size = file["coords"].attrs.get("patch_size_level0") if "coords" in file else None
    except OSError as error:
        raise ValueError(f"{path} is not an HDF5 file, or a damaged one ({reason_of(error)})") from None
    return features, coords, None if size is None else int(np.asarray(size).ravel()[0])


def _read_dataset(dataset: Any, path: Path) -> np.ndarray:
    """Read a dataset that lies in the file itself; HDF5 can point to any other file of the machine."""
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise ValueError(f"{path} refers to data outside of it; it is refused")
    return np.asarray(dataset[()])


def _read_pt(path: Path) -> tuple[np.ndarray, np.ndarray | None, int | None]:
    """Read a tensor or a dictionary of tensors, never code."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} holds no tensor, or code, or is damaged ({reason_of(error)})") from None
    coords = content.get("coords") if isinstance(content, dict) else None
    features = content.get("features") if isinstance(content, dict) else content
    if not isinstance(features, torch.Tensor):
        raise ValueError(
            f"{path} holds {type(content).__name__} without 'features', expected a tensor (tiles, features)"
        )
    if features.dtype == torch.bfloat16:  # numpy has no such type
        features = features.float()
    return features.numpy(), coords.numpy() if isinstance(coords, torch.Tensor) else None, None
