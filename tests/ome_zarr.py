"""OME-Zarr images for tests, written with the zarr package."""

from pathlib import Path

import numpy as np
import pytest


def write_ome_zarr(
    path: Path, picture: np.ndarray, factors=(4, 2, 1), version="0.4", axes="tczyx", shards=False, omero=None, **words
) -> Path:
    """Write a picture `(height, width, 3)` as the last level of a pyramid whose other levels are the picture enlarged.

    Args:
        path: The folder.
        picture: The last level; the first has 0.5 microns per pixel.
        factors: Size of each level in sizes of the picture, the largest first.
        version: Of OME-Zarr: 0.4 (Zarr 2) or 0.5 (Zarr 3).
        axes: Their order.
        shards: Put four chunks into a file.
        omero: What the file says of its channels.
        words: Further words for `zarr.create_array`, such as `compressors`.
    """
    zarr = pytest.importorskip("zarr", minversion="3")
    group = zarr.create_group(path, zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for level, factor in enumerate(factors):
        pixels = picture.repeat(factor, 0).repeat(factor, 1)
        pixels = np.moveaxis(pixels, 2, 0) if "c" in axes else pixels[:, :, 0]
        order = [axis for axis in "cyx" if axis in axes]
        pixels = pixels.transpose([order.index(axis) for axis in axes if axis in order])
        shape = [1 if axis in "tz" else pixels.shape[[a for a in axes if a in order].index(axis)] for axis in axes]
        chunks = [{"y": 48, "x": 64}.get(axis, 1) for axis in axes]
        if shards:
            words["shards"] = [2 * size if axis in "yx" else size for axis, size in zip(axes, chunks, strict=True)]
        array = group.create_array(str(level), shape=shape, chunks=chunks, dtype=pixels.dtype, **words)
        array[:] = pixels.reshape(shape)
        microns = 0.5 * factors[0] / factor
        scale = [microns if axis in "yx" else 1.0 for axis in axes]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    kinds = {"t": "time", "c": "channel"}
    named = [
        {"name": axis, "type": kinds.get(axis, "space")} | ({"unit": "micrometer"} if axis in "zyx" else {})
        for axis in axes
    ]
    image = {"multiscales": [{"version": version, "axes": named, "datasets": datasets}]}
    image |= {} if omero is None else {"omero": omero}
    group.attrs.update(image if version == "0.4" else {"ome": image | {"version": version}})
    return path
