"""The published tile set of PANDA: `{image_id}_{0..15}.png` in a folder or a zip archive, and `train.csv`."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from milpath.data.sources.tile_decoding import decode_tile, largest_file, warning_of_tile
from milpath.data.splits.label_matching import check_on_mismatch, match_bags, named_like_data
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.readable_bags import check_on_error, readable_bags
from milpath.records.data_warning import joined
from milpath.records.digests import sha256_of_file
from milpath.records.label_table import quote_first, read_table
from milpath.slides.tile_files import TileFiles, open_tile_files
from milpath.slides.tile_names import folded, require_no_twins

_NAME = re.compile(r"(?P<image_id>.+)_(?P<number>\d{1,18})\.png", re.IGNORECASE)
HOW_TO_GET_PANDA = (
    "get train.csv from https://www.kaggle.com/c/prostate-cancer-grade-assessment and the tiles from "
    "https://www.kaggle.com/datasets/iafoss/panda-16x128x128-tiles-data, then set data.tiles=FOLDER_OR_ZIP "
    "data.labels=train.csv; or try data=synthetic, which needs no download"
)


class PandaTiles:
    """Bags of tiles that were already cut, one PNG file per tile.

    Args:
        tiles: Folder or zip archive with `{image_id}_{i}.png`, directly or in its folder `train`. An archive is read in
            place, without unpacking.
        labels: Table (CSV, `.xlsx` or `.parquet`) with `image_id` and the columns of the target, such as Kaggle's
            `train.csv`.
        num_tiles: Tiles per slide, i from 0 to `num_tiles - 1`; tiles with higher numbers are not used.
        tile_size: Width and height of a tile in pixels.
        on_mismatch: What to do about slides without (all) tiles and tiles without a row in the table: "error", or
            "skip", which omits them with a warning. The published tile set lacks 100 of the 10,616 slides.
        on_error: What to do about slides with a damaged tile: "fail", which names them all, or "skip".
        id_column: Column of the table that names the slides; `None` takes `image_id` or one of its other names.
    """

    def __init__(
        self,
        tiles: str | Path,
        labels: str | Path,
        num_tiles: int = 16,
        tile_size: int = 128,
        on_mismatch: str = "error",
        on_error: str = "fail",
        id_column: str | None = None,
    ) -> None:
        if num_tiles < 1:
            raise ValueError(f"data.num_tiles is {num_tiles}; it must be 1 or more")
        self.tiles = Path(tiles)
        self.labels = Path(labels)
        self.num_tiles = num_tiles
        self.tile_size = tile_size
        self.on_mismatch = check_on_mismatch(on_mismatch)
        self.on_error = check_on_error(on_error)
        self.id_column = id_column

    def describe(self) -> dict[str, Any]:
        """Return the parameters and fingerprints of both inputs.

        Raises:
            FileNotFoundError: If one of them does not exist; the message says how to get PANDA.
        """
        for path, what in ((self.tiles, "tiles"), (self.labels, "labels")):
            if not path.exists():
                raise FileNotFoundError(f"no {what} of PANDA at {path}; {HOW_TO_GET_PANDA}")
        if not self.labels.is_file():
            raise FileNotFoundError(
                f"data.labels={self.labels} is a folder; give the CSV file in it, such as train.csv"
            )
        with open_tile_files(self.tiles) as files:
            fingerprint = files.fingerprint()
        return {"tiles": fingerprint, "num_tiles": self.num_tiles, "tile_size": self.tile_size}

    def describe_labels(self) -> dict[str, Any]:
        """Return a hash of the label table and how it is matched."""
        named = {"id_column": self.id_column} if self.id_column else {}
        return {"labels": sha256_of_file(self.labels), "on_mismatch": self.on_mismatch, **named}

    def bag_names(self) -> set[str]:
        """Return the slides that have tiles or a row."""
        with open_tile_files(self.tiles) as files:
            found = tiles_by_slide(files.names(), self.tiles)
        return {*found, *self._table(found)["bag_id"]}

    def label_table(self, left_out: Collection[str] = ()) -> pd.DataFrame:
        """Return the rows of the slides that have all their tiles; no tile is decoded."""
        with open_tile_files(self.tiles) as files:
            return self._match(tiles_by_slide(files.names(), self.tiles), left_out)

    def write(self, writer: BagStoreWriter) -> None:
        """Decode every slide of the table into a store."""
        self.write_bags(writer, self.label_table())

    def write_bags(self, writer: BagStoreWriter, table: pd.DataFrame) -> None:
        """Decode some slides into a store.

        Raises:
            ValueError: With every slide that has a damaged file or one of another size.
        """
        writer.extra["tiling"] = {"rule": "darkest", "tile_size": self.tile_size, "num_tiles": self.num_tiles}
        with open_tile_files(self.tiles) as files:
            found = tiles_by_slide(files.names(), self.tiles)

            said: set[str] = set()

            def read(image_id: str) -> np.ndarray:
                return self._decode(files, found[image_id], said)

            for image_id, labels, tiles in readable_bags(read, table, writer, self.tiles, self.on_error):
                writer.add(image_id, tiles, labels)
            if warning := joined(sorted(said)):
                writer.extra["warning"] = warning

    def _decode(self, files: TileFiles, names: dict[int, str], said: set[str]) -> np.ndarray:
        """Return the tiles of a slide in the order of their numbers; `said` gets what they say against themselves."""
        largest, tiles = largest_file(self.tile_size), []
        for number in range(self.num_tiles):
            data, name = files.read(names[number], largest), f"{self.tiles}/{names[number]}"
            tiles.append(decode_tile(data, self.tile_size, name))
            said.add(warning_of_tile(data, name))
        return np.stack(tiles)

    def _table(self, found: Collection[str], say: bool = False) -> pd.DataFrame:
        """Return the label table, its slides named like their tiles."""
        table = read_table(self.labels, what="label table", id_column=self.id_column, id_option="data.id_column")
        return named_like_data(table, found, self.labels, say=say)

    def _match(self, found: dict[str, dict[int, str]], left_out: Collection[str]) -> pd.DataFrame:
        """Return the rows of the slides that have all their tiles."""
        table = self._table(found, say=True)
        wanted = set(range(self.num_tiles))
        present = [name for name in table["bag_id"] if name in found and name not in left_out]
        partial = [name for name in present if not wanted <= set(found[name])]
        gaps = [f"'{name}_{min(wanted - set(found[name]))}.png'" for name in partial[:1]]
        return match_bags(
            table, found, labels=self.labels, data=self.tiles, what="tiles", on_mismatch=self.on_mismatch,
            partial=partial, partial_reason=f"lack some of their {self.num_tiles} tiles (first: {''.join(gaps)})",
            left_out=left_out,
        )  # fmt: skip


def tiles_by_slide(names: Iterable[str], path: Path) -> dict[str, dict[int, str]]:
    """Return a mapping from slide to tile number to file name.

    Raises:
        FileNotFoundError: If there is no tile.
        ValueError: If tiles are in several folders of which none is called `train`, two tiles have the same number, or
            two slide names differ only in case or Unicode normalisation.
    """
    tiles = numbered_tiles(names, path)
    require_no_twins((name for _, _, name in tiles), ((folded(slide), number) for slide, number, _ in tiles), str(path))
    slides: dict[str, dict[int, str]] = {}
    for slide, number, name in tiles:
        slides.setdefault(slide, {})[number] = name
    require_no_twins(slides, map(folded, slides), str(path))
    return slides


def numbered_tiles(names: Iterable[str], path: Path) -> list[tuple[str, int, str]]:
    """Return slide, number and file name of the tiles of one folder.

    Raises:
        FileNotFoundError: If there is no tile.
        ValueError: If tiles are in several folders of which none is called `train`.
    """
    folders: dict[str, list[tuple[str, int, str]]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        match = _NAME.fullmatch(file)
        if match and not file.startswith("._"):
            folders.setdefault(folder, []).append((match["image_id"], int(match["number"]), name))
    if not folders:
        raise FileNotFoundError(f"no file {{image_id}}_{{i}}.png in {path}; {HOW_TO_GET_PANDA}")
    if len(folders) > 1:
        # The published set has masks with the same names next to the tiles.
        training = [folder for folder in folders if folder.rpartition("/")[2] == "train"]
        if len(training) != 1:
            raise ValueError(
                f"{path} has tiles in {len(folders)} folders ({quote_first(sorted(folders))}); give only one of them"
            )
        return folders[training[0]]
    return next(iter(folders.values()))
