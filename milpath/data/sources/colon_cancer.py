"""The colon cancer images of Ilse et al. 2018: one bag per image, one patch per nucleus."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from milpath.data.sources.image_tiles import read_image
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.records.digests import sha256_of_file, sha256_of_text
from milpath.records.label_table import labelled_bags, quote_first, read_table

_WHITE = 255
_EPITHELIAL = "epithelial"


class ColonCancer:
    """Colon images with marked nuclei (Sirinukunwattana et al. 2016); bags with epithelial nuclei are positive.

    Attributes:
        hashes_images: Whether `describe` reads every image; labels are checked before it is called.

    Args:
        path: Folder with `images/{image_id}.jpg` (or `.png`, `.bmp`), `nuclei.csv` (image_id, type, x, y: centre of each
            nucleus in pixels) and `labels.csv` (image_id, label).
        patch_size: Width and height in pixels of the patch around a nucleus; pixels beyond the border are white.

    References:
        Ilse, Tomczak, Welling. Attention-based deep multiple instance learning. ICML 2018, section 4.3.
    """

    hashes_images = True

    def __init__(self, path: str | Path, patch_size: int = 27) -> None:
        if patch_size < 1:
            raise ValueError(f"data.patch_size is {patch_size}; it must be 1 or more")
        self.path = Path(path)
        self.patch_size = patch_size

    def describe(self) -> dict[str, Any]:
        """Return hashes of images and nuclei.

        Raises:
            FileNotFoundError: If one of them does not exist.
        """
        table, _ = self._tables()
        files = [self._image_path(name) for name in sorted(table["bag_id"])] + [self.path / "nuclei.csv"]
        hashes = [(path.name, sha256_of_file(path)) for path in files]
        return {"images_and_nuclei": sha256_of_text(repr(hashes)), "patch_size": self.patch_size}

    def describe_labels(self) -> dict[str, Any]:
        """Return a hash of the label table."""
        return {"labels": sha256_of_file(self.path / "labels.csv")}

    def bag_names(self) -> set[str]:
        """Return the names of the images."""
        return set(self._tables()[0]["bag_id"])

    def label_table(self, left_out: Collection[str] = ()) -> pd.DataFrame:
        """Return the rows of the images."""
        table, _ = self._tables()
        return table[~table["bag_id"].isin(set(left_out))].sort_values("bag_id", kind="stable")

    def write(self, writer: BagStoreWriter) -> None:
        """Cut the patches of every image into a store."""
        self.write_bags(writer, self.label_table())

    def write_bags(self, writer: BagStoreWriter, table: pd.DataFrame) -> None:
        """Cut the patches of some images into a store.

        Raises:
            ValueError: If an image has no nucleus, or a nucleus is outside of its image.
        """
        _, nuclei = self._tables()
        by_image = dict(tuple(nuclei.groupby("bag_id", sort=False)))
        writer.expected_bags = len(table)
        writer.extra["tiling"] = {"rule": "nuclei", "tile_size": self.patch_size}
        for image_id, labels in labelled_bags(table):
            own = by_image[image_id]
            tiles, left, top = self._cut(image_id, own[["x", "y"]].to_numpy(dtype=np.float64))
            rows = {
                "x": left,
                "y": top,
                "level": np.zeros(len(own), np.int64),
                "tile_label": (own["type"].str.lower() == _EPITHELIAL).to_numpy(dtype=np.int64),
                "type": own["type"].to_numpy(),
            }
            writer.add(image_id, tiles, labels, rows)

    def _cut(self, image_id: str, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the patches around some points and their left and top edges."""
        image = read_image(self._image_path(image_id))
        height, width = image.shape[:2]
        outside = ~((centres >= 0) & (centres <= [width, height])).all(1)
        if outside.any():
            x, y = centres[outside][0]
            raise ValueError(
                f"nucleus at x={x:g}, y={y:g} is outside of image {image_id!r} ({width} x {height}); check nuclei.csv"
            )
        half = self.patch_size // 2
        left, top = (np.floor(centres).astype(np.int64) - half).T
        margin = self.patch_size
        padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), constant_values=_WHITE)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (self.patch_size, self.patch_size), axis=(0, 1))
        patches = windows[top + margin, left + margin]
        return np.ascontiguousarray(np.moveaxis(patches, 1, -1)), left, top

    def _tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the tables of labels and nuclei."""
        if not self.path.is_dir():
            raise FileNotFoundError(
                f"no colon images at {self.path}; set data.path=FOLDER with images/, nuclei.csv (image_id,type,x,y) "
                "and labels.csv (image_id,label)"
            )
        table = read_table(self.path / "labels.csv", ("label",), what="label table")
        nuclei = read_table(self.path / "nuclei.csv", ("type", "x", "y"), unique=False, what="table of nuclei")
        empty = sorted(set(table["bag_id"]) - set(nuclei["bag_id"]))
        if empty:
            raise ValueError(
                f"{len(empty)} of {len(table)} images in {self.path / 'labels.csv'} have no nucleus in nuclei.csv "
                f"(first: {quote_first(empty, 1)}); a bag needs at least one instance"
            )
        strangers = sorted(set(nuclei["bag_id"]) - set(table["bag_id"]))
        if strangers:
            raise ValueError(
                f"{len(strangers)} images in {self.path / 'nuclei.csv'} have no row in labels.csv "
                f"(first: {quote_first(strangers, 1)})"
            )
        return table, nuclei

    def _image_path(self, image_id: str) -> Path:
        """Return the file of an image."""
        for suffix in (".jpg", ".jpeg", ".png", ".bmp"):
            path = self.path / "images" / f"{image_id}{suffix}"
            if path.is_file():
                return path
        raise FileNotFoundError(f"image {image_id!r} of labels.csv is not in {self.path / 'images'}")
