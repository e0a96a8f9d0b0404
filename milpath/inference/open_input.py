"""What a person points at, as a bag store: a store, tiles, or slides."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milpath.data.sources.loose_tiles import build_tile_store, holds_tiles, require_same_tiles
from milpath.data.store.bag_store import BagStore
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_bags import build_slide_store
from milpath.tiling.slide_output import read_failures, write_failures


def open_input(
    path: Path,
    tiling: Mapping[str, Any],
    output: Path,
    num_workers: int | None = None,
    *,
    overwrite: bool = False,
    labels: str | None = None,
    masks: str | None = None,
    verify: bool = True,
) -> tuple[BagStore, dict[str, str]]:
    """Return the bags at a path, and the slides that could not be read with the reason.

    Args:
        path: A bag store; a folder or zip of tiles `{slide}_{i}.png`; a slide or a folder of slides.
        tiling: How the network's training slides became tiles; slides are cut alike.
        output: Where a store is built if one is needed, as `output/bags`; failures go into `output/failures.csv`.
        num_workers: Processes that cut slides; None for all cores.
        overwrite: Build the store anew.
        labels: CSV with a row a slide, for whole slides alone; its columns go into the store.
        masks: Folder of the masks of whole slides: what they say of each tile goes into the store.
        verify: False leaves out the hash of a store's array (see `BagStore.open`).

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ValueError: If no slide can be read, or tiles are of another size than the network's.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"slides={path} does not exist; give a slide, a folder of slides or tiles, or a bag store"
        )
    if (path / "store.json").is_file():
        return BagStore.open(path, verify=verify), {}
    bags, failed = output / "bags", output / "failures.csv"
    if holds_tiles(path, tiling.get("tile_size")):
        if overwrite:
            shutil.rmtree(bags, ignore_errors=True)
        if bags.exists():
            require_same_tiles(path, BagStore.open(bags, verify=False))
        else:
            failures = build_tile_store(path, bags, _tile_size(tiling, path))
            write_failures(failures, failed)
    else:
        _cut(path, tiling, bags, failed, num_workers, overwrite, labels, masks)
    return BagStore.open(bags, verify=verify), read_failures(failed)


def _tile_size(tiling: Mapping[str, Any], path: Path) -> int:
    if (size := tiling.get("tile_size")) is None:
        raise ValueError(
            f"the checkpoint was not trained on tiles of images, which {path} holds; give a bag store of features"
        )
    return int(size)


def _cut(
    path: Path,
    tiling: Mapping[str, Any],
    bags: Path,
    failed: Path,
    num_workers: int | None,
    overwrite: bool,
    labels: str | None,
    masks: str | None,
) -> None:
    """Cut slides as the training slides were."""
    options = TileOptions.from_tiling(tiling)
    summary = build_slide_store(
        path, bags, options, labels=labels, masks=masks, num_workers=num_workers, on_error="skip", overwrite=overwrite
    )
    write_failures(dict(summary.failures), failed)
    if not summary.has_store:
        slide, reason = next(iter(summary.failures.items()))
        raise ValueError(
            f"none of the {summary.num_slides} slides at {path} could be read, see {failed} (first: {slide!r}: {reason})"
        )
