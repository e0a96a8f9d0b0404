"""Feature files in the layouts of TRIDENT, STAMP and CLAM, as these programs write them."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np


def write_trident(path: Path, features: np.ndarray, coords: np.ndarray, **changes: Any) -> None:
    """Write one slide as TRIDENT does: `features` with the encoder's name, `coords` in pixels of level 0.

    Args:
        path: The file.
        features: `(tiles, features)`.
        coords: `(tiles, 2)`.
        **changes: `encoder` or attributes of the coordinates to change; `None` leaves one out.
    """
    said: dict[str, Any] = {
        "patch_size": 256, "level0_magnification": 40, "target_magnification": 20, "overlap": 0, "name": path.stem,
        "savetodir": "out", "level0_width": 90_000, "level0_height": 80_000, "encoder": "uni_v2",
    }  # fmt: skip
    said |= changes
    if None not in (said["level0_magnification"], said["target_magnification"], said["patch_size"]):
        size = said["patch_size"] * said["level0_magnification"] // said["target_magnification"]
        said.setdefault("patch_size_level0", size)
    encoder = said.pop("encoder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = features, coords.astype(np.int64)
        file["features"].attrs["encoder"] = "None" if encoder is None else encoder
        file["features"].attrs["name"] = path.stem
        for name, value in said.items():
            if value is not None:
                file["coords"].attrs[name] = value


def write_stamp(path: Path, features: np.ndarray, coords: np.ndarray, **changes: Any) -> None:
    """Write one slide as STAMP 2.5 does: `feats` in half precision, `coords` in microns, attributes on the file."""
    said: dict[str, Any] = {
        "stamp_version": "2.5.0", "extractor": "uni2", "unit": "um", "tile_size_um": 256.0, "tile_size_px": 224,
        "code_hash": "0a1b2c3d", "feat_type": "tile",
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["coords"], file["feats"] = coords.astype(np.float32), features.astype(np.float16)
        for name, value in (said | changes).items():
            if value is not None:
                file.attrs[name] = value


def write_clam(folder: Path, name: str, features: np.ndarray, coords: np.ndarray, downsample: float = 2.0) -> None:
    """Write one slide as CLAM does: features and positions in one folder, how the tiles were cut in another.

    Args:
        folder: It gets `FEATURES/h5_files` and `RESULTS/patches`.
        name: The slide.
        features: `(tiles, features)`.
        coords: `(tiles, 2)` pixels of level 0.
        downsample: Of the level that was cut into tiles of 256 px.
    """
    for part in ("FEATURES/h5_files", "RESULTS/patches"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / f"FEATURES/h5_files/{name}.h5", "w") as file:
        file["features"], file["coords"] = features.astype(np.float32), coords.astype(np.int32)
    with h5py.File(folder / f"RESULTS/patches/{name}.h5", "w") as file:
        file["coords"] = coords.astype(np.int64)
        said = {"patch_size": 256, "patch_level": 1, "downsample": (downsample, downsample), "name": name}
        for key, value in said.items():
            file["coords"].attrs[key] = value
