"""Plain images (PNG, JPEG, TIFF) cut into tiles, one bag per image."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from milpath.data.loading.threads import map_in_threads
from milpath.data.splits.label_matching import check_on_mismatch, match_bags
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.records.digests import sha256_of_file, sha256_of_text
from milpath.records.label_table import labelled_bags, read_table
from milpath.slides.tile_names import folded, require_no_twins
from milpath.slides.tile_selection import Tiles, cut_darkest, cut_grid

RULES = ("darkest", "grid")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


class ImageTiles:
    """Images of a folder, cut into tiles.

    Attributes:
        hashes_images: Whether `describe` reads every image; labels are checked before it is called.

    Args:
        path: Folder with the label table and the images.
        images: Subfolder of `path` with the images: `{image_id}.png`, `.jpg`, `.jpeg`, `.tif` or `.tiff`.
        labels: Label table (CSV, `.xlsx` or `.parquet`) in `path`, or its absolute path, with `image_id` and the columns
            of the target.
        rule: "darkest" keeps the `num_tiles` tiles with the lowest pixel sum, as PANDA's tile set does, and fills up
            with white; "grid" keeps every tile, row by row.
        num_tiles: Tiles per bag for "darkest".
        tile_size: Width and height of a tile in pixels. Images are padded with white to a multiple of it.
        on_mismatch: What to do about labels without an image and images without a label: "error" or "skip".
        id_column: Column of the table that names the images; `None` takes `image_id` or one of its other names.
    """

    hashes_images = True

    def __init__(
        self,
        path: str | Path,
        images: str = "images",
        labels: str = "labels.csv",
        rule: str = "darkest",
        num_tiles: int = 16,
        tile_size: int = 128,
        on_mismatch: str = "error",
        id_column: str | None = None,
    ) -> None:
        if rule not in RULES:
            raise ValueError(f"data.rule is {rule!r}; it must be one of {', '.join(RULES)}")
        self.path = Path(path)
        self.images = images
        self.labels = labels
        self.rule = rule
        self.num_tiles = num_tiles
        self.tile_size = tile_size
        self.on_mismatch = check_on_mismatch(on_mismatch)
        self.id_column = id_column

    def describe(self) -> dict[str, Any]:
        """Return the parameters and hashes of images and labels.

        Raises:
            FileNotFoundError: If the folder or an image does not exist.
        """
        _, paths = self._match()
        content = {name: sha256_of_file(path) for name, path in paths.items()}
        return {
            "images": sha256_of_text(repr(sorted(content.items()))),
            "labels": sha256_of_file(self.path / self.labels),
            "rule": self.rule,
            "num_tiles": self.num_tiles if self.rule == "darkest" else None,
            "tile_size": self.tile_size,
            **({"id_column": self.id_column} if self.id_column else {}),
        }

    def label_table(self) -> pd.DataFrame:
        """Return the rows of the images that exist; no image is opened."""
        return self._match()[0]

    def write(self, writer: BagStoreWriter) -> None:
        """Cut every image into a store.

        Raises:
            ValueError: If a file is not an image.
        """
        table, paths = self._match()
        writer.expected_bags = len(table)
        writer.extra["tiling"] = {"rule": self.rule, "tile_size": self.tile_size} | (
            {"num_tiles": self.num_tiles} if self.rule == "darkest" else {}
        )
        bags = map_in_threads(self._cut, [paths[bag_id] for bag_id in table["bag_id"]])
        for (bag_id, labels), tiles in zip(labelled_bags(table), bags, strict=True):
            rows = {"x": tiles.x, "y": tiles.y, "level": np.zeros(len(tiles.x), np.int64)}
            writer.add(bag_id, tiles.pixels, labels, rows)

    def _cut(self, path: Path) -> Tiles:
        """Return the tiles of an image."""
        image = read_image(path)
        if self.rule == "grid":
            return cut_grid(image, self.tile_size)
        return cut_darkest(image, self.tile_size, self.num_tiles)

    def _match(self) -> tuple[pd.DataFrame, dict[str, Path]]:
        """Return the rows of the images that exist, sorted by name, and the file of each."""
        folder = self.path / self.images
        if not folder.is_dir():
            raise FileNotFoundError(
                f"no images at {folder}; data.path={self.path} must hold {self.images}/ and {self.labels} with the "
                "columns image_id and label"
            )
        table = read_table(
            self.path / self.labels, what="label table", id_column=self.id_column, id_option="data.id_column"
        )
        paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES]
        require_no_twins([path.name for path in paths], [folded(path.stem) for path in paths], str(folder))
        found = {path.stem: path for path in paths}
        table = match_bags(
            table, found, labels=self.path / self.labels, data=folder, what="image", on_mismatch=self.on_mismatch
        )
        return table, {name: found[name] for name in table["bag_id"]}


def read_image(path: Path) -> np.ndarray:
    """Return an image as uint8 RGB.

    Raises:
        ValueError: If it is not an image, is damaged, or is so large that Pillow refuses it.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is a damaged image ({error})") from None
