"""Opening the input of a prediction, a bag store, tiles or slides, as a bag store."""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from milpath.data.sources.features.feature_folder import holds_features
from milpath.data.sources.features.loose_features import build_feature_store, require_same_features
from milpath.data.sources.loose_tiles import build_tile_store, holds_tiles, require_same_tiles
from milpath.data.store.bag_store import BagStore
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.kept_inputs import require_kept
from milpath.tiling.slide_bags import build_slide_store
from milpath.tiling.slide_output import read_failures, write_failures
from milpath.tiling.slide_resolutions import MixedResolutionError
from milpath.tiling.slide_run import TilingSummary

# What a path holds, for a network.
STORE, FEATURES, TILES, SLIDES = "store", "features", "tiles", "slides"
# For a network of features.
TILES_TO_ENCODE, SLIDES_TO_ENCODE = "tiles to encode", "slides to encode"


def kind_of_input(path: Path, takes: str | None, tile_size: int | None, *, encodes: bool = True) -> str:
    """Return what a path holds: a store that is read as it is, or what a store is made of.

    Args:
        path: The path.
        takes: What the network takes, "tiles" or "features"; `None` if unknown.
        tile_size: Size of the tiles of its training.
        encodes: Whether tiles and slides can be encoded for a network of features.

    Raises:
        FileNotFoundError: If the path does not exist.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"slides={path} does not exist; give a slide, a folder of slides, tiles or features, or a bag store"
        )
    of_features = takes == "features" and encodes
    if (path / "store.json").is_file():
        has_tiles = of_features and len(BagStore.open(path, verify=False).tile_shape) == 3
        return TILES_TO_ENCODE if has_tiles else STORE
    if takes != "tiles" and holds_features(path):
        return FEATURES
    if holds_tiles(path, tile_size):
        return TILES_TO_ENCODE if of_features else TILES
    return SLIDES_TO_ENCODE if of_features else SLIDES


def open_input(
    path: Path,
    tiling: Mapping[str, Any],
    output: Path,
    num_workers: int | None = None,
    *,
    overwrite: bool = False,
    labels: str | None = None,
    masks: str | None = None,
    id_column: str | None = None,
    takes: str | None = None,
    encode: Callable[[Path, Path], TilingSummary] | None = None,
    dtype: str = "float32",
    verify: bool = True,
    resolutions: str | None = None,
    mixed_resolution: str = "error",
) -> tuple[BagStore, dict[str, str]]:
    """Return the bags at a path, and the slides that could not be read with the reasons.

    Args:
        path: A bag store; a folder or zip of tiles `{slide}_{i}.png`; a slide or a folder of slides; for a network of
            features a feature file or a folder of them.
        tiling: How the network's training slides were cut; slides are cut in the same way.
        output: If a store has to be built, it is `output/bags`; failures are written to `output/failures.csv`.
        num_workers: Processes that cut slides; `None` uses all cores.
        overwrite: Build the store again.
        labels: Table with one row per slide, for whole slides and features; its columns are copied into the store.
        masks: Folder of the masks of whole slides, from which the tile labels in the store are computed.
        id_column: Column of the table that names the slides.
        takes: What the network takes, "tiles" or "features"; `None` if unknown.
        encode: Writes the store of the features of slides or tiles (also those of a bag store); needed if the network
            takes features.
        dtype: "float32" or "float16" for the store of features.
        verify: False skips the hash of a store's array (see `BagStore.open`).
        resolutions: Table with the microns per pixel of whole slides, instead of what their files state.
        mixed_resolution: "allow" accepts slides whose tiles differ in resolution.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If no slide can be read, or the size of tiles is not that of the network.
    """
    kind = kind_of_input(path, takes, tiling.get("tile_size"), encodes=encode is not None)
    if kind == STORE:
        return BagStore.open(path, verify=verify), {}
    bags, failed = output / "bags", output / "failures.csv"
    inputs = {"slides": path, "labels": labels, "masks": masks, "resolutions": resolutions}
    require_kept(output, (bags.name, failed.name), inputs)
    if kind == FEATURES:
        if overwrite:
            shutil.rmtree(bags, ignore_errors=True)
        if bags.exists():
            require_same_features(path, BagStore.open(bags, verify=False), labels, id_column)
        else:
            write_failures(build_feature_store(path, bags, labels, dtype, id_column), failed)
    elif encode is not None and kind in (TILES_TO_ENCODE, SLIDES_TO_ENCODE):
        with _explaining_resolutions():
            _write_outcome(encode(path, bags), path, failed)
    elif kind == TILES:
        if overwrite:
            shutil.rmtree(bags, ignore_errors=True)
        if bags.exists():
            require_same_tiles(path, BagStore.open(bags, verify=False))
        else:
            failures = build_tile_store(path, bags, _tile_size(tiling, path))
            write_failures(failures, failed)
    else:
        with explaining_features(path), _explaining_resolutions():
            _cut(
                path, tiling, bags, failed, num_workers, overwrite,
                labels=labels, masks=masks, id_column=id_column, resolutions=resolutions, mixed_resolution=mixed_resolution,
            )  # fmt: skip
    return BagStore.open(bags, verify=verify), read_failures(failed)


@contextmanager
def explaining_features(path: Path) -> Iterator[None]:
    """Say that a folder without slides holds features, for a network of tiles."""
    try:
        yield
    except FileNotFoundError as error:
        if holds_features(path):
            raise ValueError(f"{path} holds features, but the network takes tiles; give slides or tiles") from error
        raise


@contextmanager
def _explaining_resolutions() -> Iterator[None]:
    """Say what to do about slides of several resolutions that are cut as those of a training were."""
    try:
        yield
    except MixedResolutionError as error:
        raise ValueError(
            f"{error.facts}; give slides of one resolution, state one in a table (resolutions=CSV), or set "
            "mixed_resolution=allow"
        ) from None


def _tile_size(tiling: Mapping[str, Any], path: Path) -> int:
    if (size := tiling.get("tile_size")) is None:
        raise ValueError(
            f"the checkpoint was not trained on image tiles, but {path} contains images; give a bag store of features"
        )
    return int(size)


def _cut(
    path: Path,
    tiling: Mapping[str, Any],
    bags: Path,
    failed: Path,
    num_workers: int | None,
    overwrite: bool,
    **words: Any,
) -> None:
    """Cut slides like the training slides."""
    options = TileOptions.from_tiling(tiling)
    summary = build_slide_store(
        path, bags, options, num_workers=num_workers, on_error="skip", overwrite=overwrite, **words
    )
    sys.stderr.write("".join(f"{line}\n" for line in summary.notes))
    _write_outcome(summary, path, failed)


def _write_outcome(summary: TilingSummary, path: Path, failed: Path) -> None:
    """Write the slides that could not be read; refuse a run without any other."""
    write_failures(dict(summary.failures), failed)
    if not summary.has_store:
        slide, reason = next(iter(summary.failures.items()))
        raise ValueError(
            f"none of the {summary.num_slides} slides at {path} could be read, see {failed} (first: {slide!r}: {reason})"
        )
