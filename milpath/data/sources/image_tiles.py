"""Plain images (PNG, JPEG, TIFF) cut into tiles, one bag per image."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from milpath.data.splits.label_matching import check_on_mismatch, match_bags, named_like_data
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.readable_bags import check_on_error, readable_bags
from milpath.records.digests import sha256_of_file, sha256_of_text
from milpath.records.label_table import read_table
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
        on_error: What to do about images that cannot be read: "fail", which names them all, or "skip".
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
        on_error: str = "fail",
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
        self.on_error = check_on_error(on_error)
        self.id_column = id_column

    def describe(self) -> dict[str, Any]:
        """Return the parameters and hashes of the images.

        Raises:
            FileNotFoundError: If the folder does not exist.
        """
        found = self._images()
        content = {name: sha256_of_file(found[name]) for name in self._table()["bag_id"] if name in found}
        return {
            "images": sha256_of_text(repr(sorted(content.items()))),
            "rule": self.rule,
            "num_tiles": self.num_tiles if self.rule == "darkest" else None,
            "tile_size": self.tile_size,
        }

    def describe_labels(self) -> dict[str, Any]:
        """Return a hash of the label table."""
        named = {"id_column": self.id_column} if self.id_column else {}
        return {"labels": sha256_of_file(self.path / self.labels), **named}

    def bag_names(self) -> set[str]:
        """Return the images that have a file or a row."""
        return {*self._images(), *self._table()["bag_id"]}

    def label_table(self, left_out: Collection[str] = ()) -> pd.DataFrame:
        """Return the rows of the images that have a file; no image is decoded.

        Raises:
            FileNotFoundError: If an image does not exist.
        """
        return match_bags(
            self._table(say=True), self._images(), labels=self.path / self.labels, data=self.path / self.images,
            what="image", on_mismatch=self.on_mismatch, left_out=left_out,
        )  # fmt: skip

    def write(self, writer: BagStoreWriter) -> None:
        """Cut every image of the table into a store."""
        self.write_bags(writer, self.label_table())

    def write_bags(self, writer: BagStoreWriter, table: pd.DataFrame) -> None:
        """Cut some images into a store.

        Raises:
            ValueError: With every file that is not an image.
        """
        writer.extra["tiling"] = {"rule": self.rule, "tile_size": self.tile_size} | (
            {"num_tiles": self.num_tiles} if self.rule == "darkest" else {}
        )
        paths = self._images()

        def read(bag_id: str) -> Tiles:
            return self._cut(paths[bag_id])

        for bag_id, labels, tiles in readable_bags(read, table, writer, self.path / self.images, self.on_error):
            rows = {"x": tiles.x, "y": tiles.y, "level": np.zeros(len(tiles.x), np.int64)}
            writer.add(bag_id, tiles.pixels, labels, rows)

    def _cut(self, path: Path) -> Tiles:
        """Return the tiles of an image."""
        image = read_image(path)
        if self.rule == "grid":
            return cut_grid(image, self.tile_size)
        return cut_darkest(image, self.tile_size, self.num_tiles)

    def _table(self, say: bool = False) -> pd.DataFrame:
        """Return the label table, its images named like their files."""
        path, images = self.path / self.labels, self._images()
        table = read_table(path, what="label table", id_column=self.id_column, id_option="data.id_column")
        return named_like_data(table, images, path, say=say)

    def _images(self) -> dict[str, Path]:
        """Return the file of each image."""
        folder = self.path / self.images
        if not folder.is_dir():
            raise FileNotFoundError(
                f"no images at {folder}; data.path={self.path} must hold {self.images}/ and {self.labels} with the "
                "columns image_id and label"
            )
        visible = (path for path in folder.iterdir() if not path.name.startswith("."))
        paths = [path for path in sorted(visible) if path.suffix.lower() in _SUFFIXES]
        require_no_twins([path.name for path in paths], [folded(path.stem) for path in paths], str(folder))
        return {path.stem: path for path in paths}


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
