"""Tiles that were already cut, in a bag store or in image files, as a plan and a stream for an encoder."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from milpath.data.loading.threads import map_in_threads
from milpath.data.sources.panda_tiles import tiles_by_slide
from milpath.data.sources.tile_decoding import decode_tile, largest_file, warning_of_tile
from milpath.data.store.bag_store import BagStore
from milpath.data.store.level0_positions import (
    bounds_offset,
    level0_positions,
    resolution_of,
)
from milpath.encoding.tile_events import BagBegun, BagEnded, BagTiles, TileEvent
from milpath.records.data_warning import joined
from milpath.records.digests import size_and_time
from milpath.records.stain_sample import sampled_lines, sampled_tiles
from milpath.slides.tile_files import TileFiles
from milpath.slides.tile_names import first_number, missing_number
from milpath.slides.tile_positions import LEVEL0_COLUMNS
from milpath.tiling.slide_job import SlideRecord

TILES_AT_A_TIME = 16
_LARGEST_FIRST = 64 << 20


def tiling_of(store: BagStore) -> dict[str, Any]:
    """Return how the tiles of a store were cut, at least their size in pixels."""
    return {"tile_size": store.tile_shape[0]} | (store.description.get("tiling") or {})


class StoredTiles:
    """The tiles of a bag store: names, labels and positions are those of the store.

    Args:
        store: A store of RGB tiles.

    Attributes:
        files: Bag to the file that its tiles are in.
        labels: Empty: they are among the columns of the store.
        refused: Empty.
        notes: Empty.
        columns: Columns of `tiles.csv`, with places on level 0 if the store has positions.
        tile_size: Side of a tile in pixels.
        tiling: How the tiles were cut.
        identity: What identifies the tiles.
        warning: What the tiles say against themselves.

    Raises:
        ValueError: If the store does not hold RGB tiles.
    """

    def __init__(self, store: BagStore) -> None:
        if len(store.tile_shape) != 3 or store.tile_shape[2] != 3 or store.tile_shape[0] != store.tile_shape[1]:
            raise ValueError(
                f"{store.path} holds {' x '.join(map(str, store.tile_shape))} values per tile, not square RGB tiles; "
                "give slides, or a store of tiles"
            )
        self._store = store
        self._index = {name: index for index, name in enumerate(store.bags["bag_id"])}
        # As written, so that the copy has the same text.
        tables = [
            pd.read_csv(store.path / name, dtype=str, keep_default_na=False) for name in ("bags.csv", "tiles.csv")
        ]
        self._bags = tables[0].drop(columns=["bag_id", "start", "num_tiles"])
        self._tiles = tables[1]
        self.columns = tuple(str(name) for name in self._tiles if name != "bag_id")
        placed = level0_positions(store, store.ranges(0)[0]) is not None
        if placed and LEVEL0_COLUMNS[0] not in self._tiles:
            self.columns = (*self.columns, *LEVEL0_COLUMNS)
        self.files = dict.fromkeys(sorted(self._index), store.path / "tiles.npy")
        self.labels: dict[str, dict[str, str]] = {}
        self.refused: dict[str, str] = {}
        self.notes: tuple[str, ...] = ()
        self.tile_size = store.tile_shape[0]
        self.tiling = tiling_of(store)
        self.identity = {"tiles_sha256": store.description["sha256"], "bags_sha256": store.content_digest()}
        self.warning = store.warning

    def bags(self, records: Sequence[SlideRecord]) -> pd.DataFrame:
        """Return the other columns of the bags, as in the store."""
        return self._bags.iloc[[self._index[record.bag_id] for record in records]].reset_index(drop=True)

    def changed(self, bags: pd.DataFrame) -> list[str]:
        """Return nothing: other tiles are another description."""
        return []

    def stream(self, names: Sequence[str], sampled: bool = False) -> Iterator[TileEvent]:
        """Yield the tiles of some bags, with a sample of each if that is asked for."""
        status = (self._store.path / "tiles.npy").stat()
        for name in names:
            where = self._store.ranges(self._index[name])[0]
            microns, downsample = resolution_of(self._store, where)
            left, top = bounds_offset(self._store, where)
            record = SlideRecord(
                name, status.st_size, status.st_mtime_ns, where.stop - where.start, 0, 0, downsample, microns, False, "",
                int(left), int(top),
            )  # fmt: skip
            yield BagBegun(record, self._rows(where), sample=self._sample(where) if sampled else None)
            for start in range(where.start, where.stop, TILES_AT_A_TIME):
                pixels = np.asarray(self._store.tiles[start : min(start + TILES_AT_A_TIME, where.stop)])
                yield BagTiles(name, np.arange(len(pixels)) + start - where.start, pixels)
            yield BagEnded(name)

    def _sample(self, where: slice) -> NDArray[np.uint8]:
        """Return what the stains of a bag are estimated from."""
        lines = sampled_lines(self.tile_size)
        chosen = sampled_tiles(where.stop - where.start)
        return np.stack([self._store.tiles[where.start + index][lines][:, lines] for index in chosen])

    def _rows(self, where: slice) -> str:
        """Return the lines of a bag in `tiles.csv`."""
        rows = self._tiles.iloc[where]
        places = level0_positions(self._store, where) if LEVEL0_COLUMNS[0] not in rows else None
        if places is not None:
            known = ~np.isnan(places.x0)
            values = {"x0": places.x0, "y0": places.y0, "size0": np.full(len(rows), places.size0)}
            rows = rows.assign(**{name: _cells(column, known) for name, column in values.items()})
        rows = rows.reindex(columns=["bag_id", *self.columns], fill_value="")
        return rows.to_csv(index=False, header=False, lineterminator="\n")


def _cells(values: NDArray[np.float64], known: NDArray[np.bool_]) -> list[str]:
    """Return pixels as text, empty if they are unknown."""
    return [str(round(value)) if is_known else "" for value, is_known in zip(values, known, strict=True)]


class TileImages:
    """Tiles in image files `{slide}_{i}.png`, in a folder or a zip archive.

    Args:
        files: The files.
        path: Where they are.

    Attributes:
        files: Slide to the path.
        labels: Empty.
        refused: Slides of which a tile is missing, with the reason.
        notes: Empty.
        columns: Empty: positions are unknown.
        tile_size: Side of the first tile in pixels; all must have it.
        tiling: Only the size of the tiles.
        identity: What identifies the tiles.
        warning: What the first tile of each slide says against itself; empty for tissue.

    Raises:
        ValueError: If the first tile is not a square image.
    """

    def __init__(self, files: TileFiles, path: Path) -> None:
        self._files = files
        self._path = path
        self._names = tiles_by_slide(files.names(), path)
        first = first_number(self._names.values())
        self.refused = {}
        for slide, numbers in sorted(self._names.items()):
            if (missing := missing_number(numbers, first)) is not None:
                reason = f"{path} has {len(numbers):,} tiles of this slide but none with the number {missing}"
                self.refused[slide] = f"{reason}; give all of them"
        self.files = dict.fromkeys(sorted(self._names.keys() - self.refused.keys()), path)
        self.labels: dict[str, dict[str, str]] = {}
        self.notes: tuple[str, ...] = ()
        self.columns: tuple[str, ...] = ()
        self.tile_size = self._size_of_first()
        self.tiling: dict[str, Any] = {"tile_size": self.tile_size}
        self.identity = {"tiles_sha256": files.content_digest()}
        self.warning = joined(map(self._warning_of, self.files))

    def _warning_of(self, slide: str) -> str:
        """Return what the first tile of a slide says against itself; a damaged one fails when the slide is read."""
        name = self._names[slide][min(self._names[slide])]
        try:
            return warning_of_tile(self._files.read(name, largest_file(self.tile_size)), name)
        except (ValueError, OSError):
            return ""

    def bags(self, records: Sequence[SlideRecord]) -> pd.DataFrame:
        """Return no columns: nothing else is known about the slides."""
        return pd.DataFrame(index=range(len(records)))

    def changed(self, bags: pd.DataFrame) -> list[str]:
        """Return nothing: other tiles are another description."""
        return []

    def stream(self, names: Sequence[str], sampled: bool = False) -> Iterator[TileEvent]:
        """Yield the tiles of some slides, decoded in threads ahead of the encoder, with a sample if that is asked for."""
        size = size_and_time(self._path)
        decoded = map_in_threads(self._decode, self._groups(names), num_threads=2)
        failed = ""
        for slide, positions, pixels in decoded:
            numbers = self._names[slide]
            if positions[0] == 0:
                record = SlideRecord(slide, *size, len(numbers), 0, 0, 1.0, None, False, "", 0, 0)
                sample = self._sample(slide) if sampled else None
                if isinstance(sample, str):
                    failed = slide
                    yield BagEnded(slide, sample)
                else:
                    yield BagBegun(record, _rows(slide, numbers), sample=sample)
            if slide != failed:
                if isinstance(pixels, str):
                    failed = slide
                    yield BagEnded(slide, pixels)
                else:
                    yield BagTiles(slide, positions, pixels)
                    if positions[-1] == len(numbers) - 1:
                        yield BagEnded(slide)

    def _sample(self, slide: str) -> NDArray[np.uint8] | str:
        """Return what the stains of a slide are estimated from, or the reason why its tiles cannot be read."""
        files = [file for _, file in sorted(self._names[slide].items())]
        lines, found = sampled_lines(self.tile_size), []
        for index in sampled_tiles(len(files)):
            _, _, pixels = self._decode((slide, np.array([index]), [files[index]]))
            if isinstance(pixels, str):
                return pixels
            found.append(pixels[0][lines][:, lines])
        return np.stack(found)

    def _groups(self, names: Iterable[str]) -> Iterator[tuple[str, NDArray[np.int64], list[str]]]:
        """Yield slide, positions and file names of tiles that are decoded together."""
        for slide in names:
            files = [file for _, file in sorted(self._names[slide].items())]
            for start in range(0, len(files), TILES_AT_A_TIME):
                group = files[start : start + TILES_AT_A_TIME]
                yield slide, np.arange(start, start + len(group)), group

    def _decode(self, group: tuple[str, NDArray[np.int64], list[str]]) -> tuple[str, NDArray[np.int64], Any]:
        """Return slide, positions and pixels, or the reason why they cannot be read instead of pixels."""
        slide, positions, files = group
        largest = largest_file(self.tile_size)
        try:
            return (
                slide,
                positions,
                np.stack(
                    [
                        decode_tile(self._files.read(name, largest), self.tile_size, f"{self._path}/{name}")
                        for name in files
                    ]
                ),
            )
        except (ValueError, OSError) as error:
            return slide, positions, str(error)

    def _size_of_first(self) -> int:
        """Return the side of the first tile."""
        name = next(iter(min(self._names.items())[1].values()))
        with Image.open(io.BytesIO(self._files.read(name, _LARGEST_FIRST))) as image:
            width, height = image.size
        if width != height:
            raise ValueError(f"{self._path}/{name} is {width} x {height} px, expected a square tile")
        return width


def _rows(slide: str, numbers: Mapping[int, str]) -> str:
    """Return the lines of a slide in `tiles.csv`, which say only its name."""
    return pd.DataFrame({"bag_id": [slide] * len(numbers)}).to_csv(index=False, header=False, lineterminator="\n")
