"""What a person points at, as a bag store: a store, tiles, or slides."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from milpath.data.bag_store import BagStore
from milpath.data.slide_bags import build_slide_store
from milpath.slides.options import TileOptions


def open_input(path: Path, tiling: Mapping[str, Any], output: Path, num_workers: int | None) -> tuple[BagStore, int]:
    """Return the bags at a path and how many slides could not be read.

    Args:
        path: A bag store; a folder or zip of tiles `{slide}_{i}.png`; a slide or a folder of slides.
        tiling: How the network's training slides became tiles; slides are cut alike.
        output: Where a store is built if one is needed, as `output/bags`.
        num_workers: Processes that cut slides; None for all cores.

    Raises:
        FileNotFoundError: If there is nothing at the path.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"slides={path} does not exist; give a slide, a folder of slides or tiles, or a bag store"
        )
    if (path / "store.json").is_file():
        return BagStore.open(path), 0
    bags = output / "bags"
    options = TileOptions.from_tiling(tiling)
    summary = build_slide_store(path, bags, options, num_workers=num_workers, on_error="skip")
    if not summary.has_store:
        slide, reason = next(iter(summary.failures.items()))
        raise ValueError(
            f"none of the {summary.num_slides} slides at {path} could be read (first: {slide!r}: {reason})"
        )
    return BagStore.open(bags), len(summary.failures)
