"""Bags of precomputed features, one file per slide."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from milpath.data.loading.threads import map_in_threads
from milpath.data.sources.feature_check import require_finite
from milpath.data.sources.feature_files import SUFFIXES, SlideFeatures, read_features
from milpath.data.splits.label_matching import check_on_mismatch, match_bags
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.records.digests import sha256_of_file, sha256_of_text
from milpath.records.label_table import labelled_bags, read_table

# CLAM writes h5_files (with coordinates) next to pt_files (without).
_FOLDERS = ("", "h5_files", "pt_files")
_DTYPES = ("float16", "float32")


class FeatureBags:
    """Features of slides in the formats of TRIDENT and CLAM.

    Args:
        path: Folder with `{slide_id}.h5` or `{slide_id}.pt`, or a folder with `h5_files` or `pt_files` in it; `.h5` is
            preferred.
        labels: Table (CSV, `.xlsx` or `.parquet`) with `slide_id` (or `image_id`, `bag_id`) and the columns of the target.
        dtype: "float32" or "float16" (half the disk) in the bag store.
        on_mismatch: What to do about rows without a file and files without a row: "error" or "skip".
        id_column: Column of the table that names the slides; `None` takes `slide_id` or one of its other names.
    """

    def __init__(
        self,
        path: str | Path,
        labels: str | Path,
        dtype: str = "float32",
        on_mismatch: str = "error",
        id_column: str | None = None,
    ) -> None:
        if dtype not in _DTYPES:
            raise ValueError(f"data.dtype is {dtype!r}; it must be one of {', '.join(_DTYPES)}")
        self.path = Path(path)
        self.labels = Path(labels)
        self.dtype = dtype
        self.on_mismatch = check_on_mismatch(on_mismatch)
        self.id_column = id_column

    def describe(self) -> dict[str, Any]:
        """Return names, sizes and modification times of the files and a hash of the labels.

        Raises:
            FileNotFoundError: If there are no features or no labels.
        """
        files = self._files()
        if not self.labels.is_file():
            raise FileNotFoundError(f"no label table at {self.labels}; set data.labels=CSV with slide_id and label")
        rows = [(name, path.stat().st_size, path.stat().st_mtime_ns) for name, path in sorted(files.items())]
        return {
            "files": sha256_of_text(repr(rows)),
            "labels": sha256_of_file(self.labels),
            "dtype": self.dtype,
            "on_mismatch": self.on_mismatch,
            **({"id_column": self.id_column} if self.id_column else {}),
        }

    def label_table(self) -> pd.DataFrame:
        """Return the rows of the slides that have features; no file of features is opened."""
        return self._match(self._files())

    def write(self, writer: BagStoreWriter) -> None:
        """Write the features of every slide into a store, with the memory of a few slides.

        Raises:
            ValueError: If a file is invalid, a value is not finite, or the widths of slides differ.
        """
        files = self._files()
        table = self._match(files)
        writer.expected_bags = len(table)
        slides = map_in_threads(read_features, [files[bag_id] for bag_id in table["bag_id"]])
        width = 0
        with_coords = None
        for (bag_id, labels), slide in zip(labelled_bags(table), slides, strict=True):
            width = width or slide.features.shape[1]
            if slide.features.shape[1] != width:
                raise ValueError(
                    f"features of {bag_id!r} have {slide.features.shape[1]} columns, those of the previous slides {width}; "
                    f"all slides in {self.path} must come from one encoder"
                )
            with np.errstate(over="ignore"):  # values beyond the dtype are reported below
                features = slide.features.astype(self.dtype)
            require_finite(features, bag_id, files[bag_id])
            # Coordinates are written only if every slide has them: a table cannot have them for some slides.
            with_coords = slide.coords is not None if with_coords is None else with_coords
            if with_coords and slide.coords is None:
                raise ValueError(
                    f"{files[bag_id]} has no dataset 'coords', but the previous slides have; write it for all slides or none"
                )
            writer.add(bag_id, features, labels, _tile_rows(slide) if with_coords else None)
            if slide.tile_size is not None:
                writer.extra.setdefault("tiling", {"rule": "features", "tile_size_level0": slide.tile_size})

    def _match(self, files: dict[str, Path]) -> pd.DataFrame:
        """Return the rows of the slides that have features."""
        return match_bags(
            read_table(self.labels, what="label table", id_column=self.id_column, id_option="data.id_column"), files,
            labels=self.labels, data=self.path, what="features", on_mismatch=self.on_mismatch,
        )  # fmt: skip

    def _files(self) -> dict[str, Path]:
        """Return the file of each slide."""
        found: dict[str, Path] = {}
        for folder in [self.path / name for name in _FOLDERS]:
            if not folder.is_dir():
                continue
            for suffix in SUFFIXES:
                for path in sorted(folder.glob(f"*{suffix}")):
                    found.setdefault(path.stem, path)
        if not found:
            raise FileNotFoundError(
                f"no .h5 or .pt files at {self.path}; set data.path=FOLDER with one file of features per slide, "
                "as written by TRIDENT or CLAM"
            )
        return found


def _tile_rows(slide: SlideFeatures) -> dict[str, np.ndarray]:
    """Return the columns of `tiles.csv`."""
    assert slide.coords is not None
    return {"x": slide.coords[:, 0], "y": slide.coords[:, 1], "level": np.zeros(len(slide.coords), np.int64)}
