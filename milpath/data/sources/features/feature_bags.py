"""Bags of precomputed features, one file per slide."""

import json
from collections.abc import Collection, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from milpath.data.loading.threads import map_in_threads
from milpath.data.sources.features.feature_check import require_finite
from milpath.data.sources.features.feature_files import SlideFeatures, read_features, read_origin
from milpath.data.sources.features.feature_folder import find_feature_files
from milpath.data.sources.features.feature_origin import FeatureOrigin, require_one_origin
from milpath.data.sources.features.stated_encoder import require_width, stated_origin
from milpath.data.splits.label_matching import check_on_mismatch, match_bags, named_like_data
from milpath.data.store.bag_store import BagStore
from milpath.data.store.bag_store_writer import BagStoreWriter
from milpath.data.store.level0_positions import SLIDE_FACTS
from milpath.data.store.readable_bags import check_on_error, readable_bags
from milpath.models.encoders.encoder_files import encoder_card
from milpath.records.digests import sampled_sha256_of_file, sha256_of_file, sha256_of_text
from milpath.records.label_table import OWN_PREFIX, read_table

_DTYPES = ("float16", "float32")
# Slides of which the values of an old store are compared.
_NUM_SAMPLED = 8


class FeatureBags:
    """Features of slides in the formats of TRIDENT, CLAM and STAMP.

    Args:
        path: Folder with `{slide_id}.h5` or `{slide_id}.pt`, also in subfolders; `.h5` is preferred. Features of several
            encoders are in several folders: give one of them.
        labels: Table (CSV, `.xlsx` or `.parquet`) with `slide_id` (or `image_id`, `bag_id`) and the columns of the target.
            It is read at each start: a corrected label does not copy the features again.
        dtype: "float32" or "float16" (half the disk) in the bag store.
        on_mismatch: What to do about rows without a file and files without a row: "error" or "skip". The files of skipped
            slides are not opened.
        on_error: What to do about files that cannot be read: "fail", which lists them all, or "skip".
        id_column: Column of the table that names the slides; `None` takes `slide_id` or one of its other names.
        encoder: Name of the encoder that made the features, for files that do not hold its card (those of milpath do): a
            network trained on them can then encode slides. `None` takes what the files say.
    """

    gives = "features"

    def __init__(
        self,
        path: str | Path,
        labels: str | Path,
        dtype: str = "float32",
        on_mismatch: str = "error",
        on_error: str = "fail",
        id_column: str | None = None,
        encoder: str | None = None,
    ) -> None:
        if dtype not in _DTYPES:
            raise ValueError(f"data.dtype is {dtype!r}; it must be one of {', '.join(_DTYPES)}")
        self.path = Path(path)
        self.labels = Path(labels)
        self.dtype = dtype
        self.on_mismatch = check_on_mismatch(on_mismatch)
        self.on_error = check_on_error(on_error)
        self.id_column = id_column
        self.encoder = encoder
        if encoder is not None:
            encoder_card(encoder)  # a name that is unknown is refused here

    def describe(self) -> dict[str, Any]:
        """Return a hash of the names, sizes, modification times and samples of the files.

        Raises:
            FileNotFoundError: If there are no features or no labels.
            ValueError: If a slide has features in several folders.
        """
        files, samples = fingerprint_of(self._files), samples_of(self._files)
        if not self.labels.is_file():
            raise FileNotFoundError(f"no label table at {self.labels}; set data.labels=CSV with slide_id and label")
        stated = {} if self.encoder is None else {"encoder": self.encoder}
        return {"files": files, "samples": samples, "dtype": self.dtype, **stated}

    def is_in_store(self, path: Path) -> bool:
        """Return whether a store that was made without samples has the values of the files, as far as a few slides tell."""
        store = BagStore.open(path, verify=False)
        names = store.bags["bag_id"].tolist()
        for index in sorted({(len(names) - 1) * number // (_NUM_SAMPLED - 1) for number in range(_NUM_SAMPLED)}):
            slide = read_features(self._files[names[index]]) if names[index] in self._files else None
            if slide is None or not np.array_equal(slide.features.astype(self.dtype), store.read(index)):
                return False
        return True

    def describe_labels(self) -> dict[str, Any]:
        """Return a hash of the label table and how it is matched."""
        named = {"id_column": self.id_column} if self.id_column else {}
        return {"labels": sha256_of_file(self.labels), "on_mismatch": self.on_mismatch, **named}

    def bag_names(self) -> set[str]:
        """Return the slides that have a file or a row."""
        return {*self._files, *self._table()["bag_id"]}

    def label_table(self, left_out: Collection[str] = ()) -> pd.DataFrame:
        """Return the rows of the slides that have a file; no file is opened."""
        return match_bags(
            self._table(say=True), self._files, labels=self.labels, data=self.path, what="features",
            on_mismatch=self.on_mismatch, left_out=left_out,
        )  # fmt: skip

    def write(self, writer: BagStoreWriter) -> None:
        """Write the features of every labelled slide into a store."""
        self.write_bags(writer, self.label_table())

    def write_bags(self, writer: BagStoreWriter, table: pd.DataFrame) -> None:
        """Write the features of some slides into a store, with the memory of a few slides.

        Raises:
            ValueError: With every file that is invalid or has a value that is not finite, or if the slides do not come from
                one encoder.
        """
        write_features(writer, self._files, table, self.path, self.dtype, self.on_error, self.encoder)

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The file of each slide."""
        return find_feature_files(self.path)

    def _table(self, say: bool = False) -> pd.DataFrame:
        """Return the label table, its slides named like their files."""
        table = read_table(self.labels, what="label table", id_column=self.id_column, id_option="data.id_column")
        return named_like_data(table, self._files, self.labels, say=say)


def fingerprint_of(files: Mapping[str, Path]) -> str:
    """Return a hash of names, sizes and modification times of feature files."""
    status = {name: path.stat() for name, path in sorted(files.items())}
    return sha256_of_text(repr([(name, found.st_size, found.st_mtime_ns) for name, found in status.items()]))


def samples_of(files: Mapping[str, Path]) -> str:
    """Return a hash of samples of feature files: two encoders often give equal sizes, and archives equal times."""
    paths = [path for _, path in sorted(files.items())]
    return sha256_of_text("\n".join(map_in_threads(_sample, paths)))


def _sample(path: Path) -> str:
    """Return a hash of the two ends and the middle of a file; a file that cannot be read is named when it is used."""
    try:
        found = path.stat()
        return _sample_as_of(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns) if path.is_file() else ""
    except OSError:
        return ""


@lru_cache(1 << 16)  # a table opens its data once for each training
def _sample_as_of(path: Path, size: int, modified: int, changed: int) -> str:
    return sampled_sha256_of_file(path, whole_bytes=4096, block_bytes=4096, num_blocks=3)


def write_features(
    writer: BagStoreWriter,
    files: Mapping[str, Path],
    table: pd.DataFrame,
    where: Path,
    dtype: str,
    on_error: str,
    encoder: str | None = None,
) -> None:
    """Write the features of slides into a store, with the memory of a few slides.

    Args:
        writer: The store; it gets the entries `encoder` and `tiling` as far as the files describe them.
        files: Slide to file.
        table: One row per slide, with its labels.
        where: Folder of the files, for messages.
        dtype: "float32" or "float16".
        on_error: "fail" or "skip" (see `readable_bags`).
        encoder: Name of the encoder that the user states; `None` takes what the files say.

    Raises:
        ValueError: With every file that cannot be read, or if the slides do not come from one encoder, or not from the one
            that is stated.
    """
    bag_ids = table["bag_id"].tolist()
    # Headers only: a mixture of encoders is found before gigabytes are copied.
    said = zip(bag_ids, map_in_threads(read_origin, [files[bag_id] for bag_id in bag_ids]), strict=True)
    origins = {bag_id: found for bag_id, found in said if found is not None}
    origin = require_one_origin(origins.items(), str(where))
    if encoder is not None:
        origin = stated_origin(origin, encoder, str(where))
    table = _with_resolutions(table, origins)
    if of_slides := [name for name in SLIDE_FACTS if name in table]:
        writer.extra["slide_columns"] = of_slides
    sized = all(bag_id in origins and origins[bag_id].tile_size_level0 is not None for bag_id in bag_ids)

    def read(bag_id: str) -> SlideFeatures:
        slide = read_features(files[bag_id])
        with np.errstate(over="ignore"):  # values beyond the dtype are reported below
            features = slide.features.astype(dtype)
        require_finite(features, bag_id, files[bag_id])
        return slide._replace(features=features)

    # Slides of an earlier process are not read again, but the others have to be like them.
    known = next(iter(writer.finished), None)
    first = None if known is None else (known, read(known))
    for bag_id, labels, slide in readable_bags(read, table, writer, where, on_error):
        first = first or (bag_id, slide)
        _require_like_first(bag_id, slide, *first, files)
        writer.add(bag_id, slide.features, labels, _tile_rows(slide, sized))
    if first is not None:
        if encoder is not None:
            require_width(first[1].features.shape[1], encoder, str(where))  # files of tensors do not say it before
        _describe(writer, origin._replace(embedding_dim=first[1].features.shape[1]), first[1])


def _with_resolutions(table: pd.DataFrame, origins: Mapping[str, FeatureOrigin]) -> pd.DataFrame:
    """Return a label table with what the files say of the resolution of their tiles, where it is not that of all."""
    table = table.rename(columns={name: OWN_PREFIX + name for name in SLIDE_FACTS})
    microns = [origins[bag_id].microns_per_pixel if bag_id in origins else None for bag_id in table["bag_id"]]
    return table.assign(microns_per_pixel=np.array(microns, np.float64)) if len({*microns} - {None}) > 1 else table


def _require_like_first(
    bag_id: str, slide: SlideFeatures, first_id: str, first: SlideFeatures, files: Mapping[str, Path]
) -> None:
    """Refuse a slide of another width than the first, or only one of both with coordinates."""
    if slide.features.shape[1] != first.features.shape[1]:
        raise ValueError(
            f"features of {bag_id!r} have {slide.features.shape[1]} columns, those of {first_id!r} "
            f"{first.features.shape[1]}; all slides must come from one encoder"
        )
    # A table of tiles has coordinates for all slides or for none.
    if (slide.coords is None) != (first.coords is None) or slide.at_level0 != first.at_level0:
        lacking, other = (bag_id, first_id) if slide.coords is None else (first_id, bag_id)
        raise ValueError(
            f"{files[lacking]} has no dataset 'coords' in the unit of {files[other]}; write coordinates in one unit for "
            "all slides or for none"
        )


def _tile_rows(slide: SlideFeatures, sized: bool) -> dict[str, np.ndarray] | None:
    """Return the columns of `tiles.csv`; with the places in pixels of level 0 if all slides say the size of their tiles."""
    if slide.coords is None:
        return None
    rows = {"x": slide.coords[:, 0], "y": slide.coords[:, 1]}
    if slide.at_level0:
        rows["level"] = np.zeros(len(slide.coords), np.int64)
        if sized:
            rows |= {"x0": rows["x"], "y0": rows["y"], "size0": np.full(len(rows["x"]), slide.origin.tile_size_level0)}
    return rows


def _describe(writer: BagStoreWriter, origin: FeatureOrigin, slide: SlideFeatures) -> None:
    """Write what is known about encoder and tiles into the description of the store."""
    writer.extra["encoder"] = origin.as_card()
    if origin.warning:
        writer.extra["warning"] = origin.warning
    if origin.tiling is not None:
        writer.extra["tiling"] = json.loads(origin.tiling)
    elif origin.tile_size_level0 is not None:
        writer.extra["tiling"] = {"rule": "features", "tile_size_level0": origin.tile_size_level0}
    if origin.microns_per_pixel is not None:
        writer.extra["microns_per_pixel"] = origin.microns_per_pixel
    if not slide.at_level0 and slide.coords is not None and origin.tiling is None:
        # Positions are pixels of this resolution.
        writer.extra["tiling"] = {"rule": "features", "tile_size": origin.tile_size}
