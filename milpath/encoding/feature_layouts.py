"""Features of a store as one HDF5 file per slide, in the layouts that other programs read."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from milpath.data.sources.features.encoder_in_file import write_encoder
from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import Level0Positions, level0_positions, resolution_of
from milpath.records.atomic_files import atomic_path, remove_partial_files
from milpath.records.data_warning import WARNING_KEY

# A 10x objective gives nominally 1 micron per pixel.
_MICRONS_AT_1X = 10.0
_OBJECTIVES = (80, 60, 40, 20, 10, 5, 2.5, 1.25)
_STORE = "milpath_store_sha256"
_ROWS_AT_A_TIME = 4096


def write_layouts(store: BagStore, output: Path, formats: Sequence[str]) -> None:
    """Write one file per slide and format, `output/FORMAT/SLIDE.h5`; those that were written from this store stay.

    Args:
        store: A finished store of features.
        output: The folder.
        formats: "h5" and "stamp"; "store" is ignored.

    Raises:
        ValueError: If the positions of tiles are unknown, or a slide's name is not valid as a file name.
    """
    for name in formats:
        if name not in LAYOUTS:
            continue
        folder = output / name
        folder.mkdir(exist_ok=True)
        remove_partial_files(folder)
        for index, bag_id in enumerate(store.bags["bag_id"]):
            if "/" in bag_id or bag_id.startswith("."):
                raise ValueError(f"slide {bag_id!r} cannot be the name of a file; format={name} needs other names")
            path = folder / f"{bag_id}.h5"
            if _is_of(path, str(store.description["sha256"])):
                continue
            places = level0_positions(store, store.ranges(index)[0])
            if places is None or np.isnan(places.x0).any():
                raise ValueError(
                    f"the positions of tiles of {bag_id!r} are unknown, and format={name} needs them; use format=[store]"
                )
            # Not flushed: a file is written again from the store if it does not exist.
            with atomic_path(path, durable=False) as partial, h5py.File(partial, "w", track_order=False) as file:
                LAYOUTS[name](file, store, index, places)
                write_encoder(file, store.description, store.tiles.dtype.name)
                if store.warning:
                    file.attrs[WARNING_KEY] = store.warning
                file.attrs[_STORE] = str(store.description["sha256"])


def _is_of(path: Path, digest: str) -> bool:
    """Return whether a file was written from the store with a digest: an earlier store may have left files of its name."""
    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get(_STORE) == digest)
    except (OSError, RuntimeError, ValueError):
        return False


def _write_trident(file: h5py.File, store: BagStore, index: int, places: Level0Positions) -> None:
    """Write `features (tiles, features)` and `coords (tiles, 2)` in pixels of level 0, as TRIDENT and CLAM read them."""
    where, bag_id = store.ranges(index)[0], str(store.bags["bag_id"].iloc[index])
    features = _write_features(file, "features", store, where)
    card = store.description.get("encoder") or {}
    features.attrs.update({"name": bag_id, "encoder": str(card.get("name")), "savetodir": "None"})
    coords = file.create_dataset("coords", data=np.stack([places.x0, places.y0], axis=1).astype(np.int64))
    tiling, (microns, downsample) = store.description.get("tiling") or {}, resolution_of(store, where)
    tile_size = int(tiling.get("tile_size", round(places.size0 / downsample)))
    coords.attrs.update(
        {
            "patch_size": tile_size,
            "patch_size_level0": round(places.size0),
            "overlap": int(tiling.get("overlap", 0)),
            "name": bag_id,
            "savetodir": "None",
        }
    )
    if microns is not None:
        # Nominal, from the microns per pixel: not every file states the objective.
        coords.attrs["level0_magnification"] = _magnification(microns / downsample)
        coords.attrs["target_magnification"] = _magnification(microns)
        coords.attrs["microns_per_pixel"] = float(microns)


def _write_stamp(file: h5py.File, store: BagStore, index: int, places: Level0Positions) -> None:
    """Write `feats (tiles, features)` and `coords (tiles, 2)` in microns, as STAMP reads them."""
    where, bag_id = store.ranges(index)[0], str(store.bags["bag_id"].iloc[index])
    microns, downsample = resolution_of(store, where)
    if microns is None:
        raise ValueError(f"the resolution of {bag_id!r} is unknown, and format=stamp has coordinates in microns")
    _write_features(file, "feats", store, where)
    per_pixel = microns / downsample
    file.create_dataset("coords", data=(np.stack([places.x0, places.y0], axis=1) * per_pixel).astype(np.float32))
    tiling, card = store.description.get("tiling") or {}, store.description.get("encoder") or {}
    file.attrs.update(
        {
            "extractor": str(card.get("name")),
            "unit": "um",
            "tile_size_um": float(places.size0 * per_pixel),
            "tile_size_px": int(tiling.get("tile_size", round(places.size0 / downsample))),
            "feat_type": "tile",
        }
    )


def _write_features(file: h5py.File, name: str, store: BagStore, where: slice) -> Any:
    """Write the features of a slide in parts, so that memory does not depend on their number."""
    dataset = file.create_dataset(name, (where.stop - where.start, *store.tile_shape), store.tiles.dtype)
    for start in range(where.start, where.stop, _ROWS_AT_A_TIME):
        stop = min(start + _ROWS_AT_A_TIME, where.stop)
        dataset[start - where.start : stop - where.start] = store.tiles[start:stop]
    return dataset


def _magnification(microns_per_pixel: float) -> float:
    """Return the nominal magnification that is closest to a resolution.

    Example:
        >>> _magnification(0.4990), _magnification(0.2527), _magnification(4.0)
        (20, 40, 2.5)
    """
    return min(_OBJECTIVES, key=lambda objective: abs(math.log(objective * microns_per_pixel / _MICRONS_AT_1X)))


LAYOUTS: dict[str, Callable[[h5py.File, BagStore, int, Level0Positions], None]] = {
    "h5": _write_trident,
    "stamp": _write_stamp,
}


def require_formats(formats: Sequence[str]) -> None:
    """Refuse formats that are unknown, or that lack the store from which the others are written."""
    known = ("store", *LAYOUTS)
    if unknown := [name for name in formats if name not in known]:
        raise ValueError(f"format={unknown[0]} is unknown; it must be some of {', '.join(known)}")
    if "store" not in formats:
        raise ValueError(f"format={','.join(formats)} lacks store, which the other formats are written from; add store")
