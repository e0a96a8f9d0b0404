"""Plan of a tiling run: slide files matched with label rows and masks before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from milpath.data.loading.threads import map_in_threads
from milpath.records.digests import sampled_sha256_of_file
from milpath.records.error_text import counted
from milpath.records.id_matching import match_ids, why_unlike
from milpath.records.label_table import (
    find_column,
    labelled_bags,
    own_columns,
    quote_first,
    read_table,
    require_column,
    rows_of,
)  # fmt: skip
from milpath.slides.mask import MASK_LABELS
from milpath.slides.slide_files import find_masks, find_slides
from milpath.slides.tile_positions import BOUNDS_COLUMNS
from milpath.slides.tiling_options import TileOptions
from milpath.tiling.slide_job import SlideRecord
from milpath.tiling.slide_merge import StorePlan
from milpath.tiling.slide_resolutions import stated_resolutions

# Columns that the store writes itself.
SLIDE_COLUMNS = ("slide_file", "level", "downsample", "microns_per_pixel", *BOUNDS_COLUMNS)
# What cannot be cut is listed in a line.
_MOST_NAMES = 20
_RESERVED = ("bag_id", "start", "num_tiles", "slide_fingerprint", *SLIDE_COLUMNS)


@dataclass(frozen=True)
class SlidePlan:
    """The slides of a store.

    Attributes:
        root: Folder of the slides.
        files: Name to file, sorted by name.
        labels: Name to the cells of its row, as in the table; empty without a table.
        masks: Name to mask, for slides that have one; `None` if masks are not used.
        refused: Name of each slide that cannot be cut to the reason, known before any work.
        notes: Warnings for the user, one line each.
        resolutions: Name to the microns per pixel of level 0, for slides of which the user states it.
    """

    root: Path
    files: dict[str, Path]
    labels: dict[str, dict[str, str]]
    masks: dict[str, Path] | None
    refused: dict[str, str]
    notes: tuple[str, ...]
    resolutions: dict[str, float] = field(default_factory=dict)

    def options_of(self, name: str, options: TileOptions) -> TileOptions:
        """Return how a slide is cut: at the resolution that the user states for it, if any."""
        stated = self.resolutions.get(name)
        return options if stated is None else replace(options, slide_microns_per_pixel=stated)

    def bags(self, records: Sequence[SlideRecord]) -> pd.DataFrame:
        """Return the columns of `bags.csv` that say what the slides are: their labels and files."""
        root = self.root if self.root.is_dir() else self.root.parent
        columns: dict[str, list[object]] = {
            "slide_file": [str(self.files[record.bag_id].relative_to(root)) for record in records],
            "slide_fingerprint": [record.fingerprint for record in records],
            **{
                name: [getattr(record, name) for record in records]
                for name in ("level", "downsample", "microns_per_pixel")
            },
        }
        bags = pd.DataFrame(columns)
        for name in BOUNDS_COLUMNS:
            bags[name] = pd.array([getattr(record, name) for record in records], "Int64")
        if not self.labels:
            return bags
        labels = pd.DataFrame([own_columns(self.labels[record.bag_id], _RESERVED) for record in records])
        return pd.concat([labels, bags], axis=1)

    def changed(self, bags: pd.DataFrame) -> list[str]:
        """Return the slides of a store whose files were replaced since; milpath 0.1.0 does not record them.

        Args:
            bags: The table of the bags of the store.
        """
        if "slide_fingerprint" not in bags:
            return []
        known = bags[bags["slide_fingerprint"].notna()]
        cut_from = dict(zip(known["bag_id"], known["slide_fingerprint"].astype(str), strict=True))
        found = map_in_threads(lambda name: sampled_sha256_of_file(self.files[name]), list(cut_from))
        return [name for name, digest in zip(cut_from, found, strict=True) if digest != cut_from[name]]

    def provider(self, name: str) -> str | None:
        """Return the provider of the mask of a slide; `None` if masks are not used."""
        return None if self.masks is None else self.labels[name]["data_provider"].strip().lower()


def plan_slides(
    slides: Path,
    labels: Path | None,
    masks: Path | None,
    output: Path,
    *,
    id_column: str | None = None,
    label_column: str | None = None,
    resolutions: Path | None = None,
) -> SlidePlan:
    """Match slide files with label rows and masks.

    Args:
        slides: Folder of the slides, or one slide.
        labels: Table with one row per slide: CSV, `.xlsx` or `.parquet`.
        masks: Folder of the masks.
        output: Output folder; not searched for slides.
        id_column: Column of the table that names the slides; `None` takes `slide_id` or one of its other names.
        label_column: Column of the table in which every slide must have a cell; `None` checks none.
        resolutions: Table of the slides with the column `microns_per_pixel`, of level 0.

    Raises:
        FileNotFoundError: If one of them does not exist, or there is no slide.
        ValueError: If the table or the masks cannot be used.
    """
    require_tables(labels, resolutions, id_column, label_column)
    found = find_slides(slides, output)
    notes, refused, files = [*found.notes], dict(found.broken), found.found
    if found.ignored:
        names = quote_first([path.name for path in found.ignored])
        verb = "does" if len(found.ignored) == 1 else "do"
        notes.append(
            f"{counted(len(found.ignored), 'file')} in {slides} {verb} not have the suffix of a slide: {names}"
        )
    rows: dict[str, dict[str, str]] = {}
    if labels is not None:
        rows = _read_labels(labels, [*files, *found.broken], id_column, label_column)
        lacking = [name for name in files if name not in rows]
        strangers = [name for name in rows if name not in files | found.broken]
        hint = why_unlike(strangers, lacking) if lacking and strangers else ""
        also = f" ({hint})" if hint else ""
        refused |= dict.fromkeys(lacking, f"no row in {labels}{also}")
        refused |= dict.fromkeys(strangers, f"in {labels}, but no slide in {slides}")
    files = {name: path for name, path in files.items() if name not in refused}
    if not files:
        way_out = f" ({len(refused):,} refused: {_named(refused)})" if refused else "; give the folder of the slides"
        raise FileNotFoundError(f"no slide to cut in {slides}{way_out}")
    found_masks = None
    if masks is not None:
        found_masks = _match_masks(masks, labels, files, rows)
        if lacking := [name for name in files if name not in found_masks]:
            notes.append(f"{len(lacking):,} of {len(files):,} slides have no mask: {quote_first(lacking)}")
    stated = stated_resolutions(list(files), labels, rows, resolutions, id_column)
    return SlidePlan(slides, files, rows, found_masks, dict(sorted(refused.items())), tuple(notes), stated)


def require_complete(plan: StorePlan) -> None:
    """Refuse to start if some slides cannot be cut.

    Raises:
        ValueError: If there are any; the message names them with the reasons and says how to skip them.
    """
    if plan.refused:
        many = ", and to list them all in failures.csv" if len(plan.refused) > _MOST_NAMES else ""
        raise ValueError(
            f"{counted(len(plan.refused), 'slide')} cannot be cut: {_named(plan.refused)}; fix this, or add on_error=skip "
            f"to leave them out{many}"
        )


def _named(refused: Mapping[str, str]) -> str:
    """Return the names of slides that cannot be cut, by reason; a bounded number of them."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in list(refused.items())[:_MOST_NAMES]:
        by_reason.setdefault(reason, []).append(name)
    said = "; ".join(f"{', '.join(map(repr, names))}: {reason}" for reason, names in by_reason.items())
    left = len(refused) - _MOST_NAMES
    return said if left <= 0 else f"{said}; and {left:,} more"


def _read_labels(
    path: Path, names: Sequence[str], id_column: str | None, label_column: str | None
) -> dict[str, dict[str, str]]:
    """Return the rows of the table with the text of each cell; a row is named like its slide.

    Args:
        path: The table.
        names: Names of the slides.
        id_column: As in `plan_slides`.
        label_column: As in `plan_slides`.
    """
    table = read_table(path, what="label table", id_column=id_column, id_option="id_column", as_text=True)
    if table.empty:
        raise ValueError(f"{path} has a header but no rows; give a table with one row per slide")
    if label_column is not None:
        try:
            column = require_column(table.columns, label_column, f"label_column={label_column}")
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if (missing := (table[column] == "").to_numpy()).any():
            raise ValueError(
                f"{path} has no {column!r} for {int(missing.sum()):,} of {len(table):,} slides ({rows_of(table, missing)}); "
                "fill the cells in, or delete these rows"
            )
    try:
        matched = match_ids(table["bag_id"].tolist(), names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return {matched.get(name, name): row for name, row in labelled_bags(table)}


def require_tables(
    labels: Path | None, resolutions: Path | None, id_column: str | None, label_column: str | None
) -> None:
    """Refuse columns of a table that is not given.

    Args:
        labels: As in `plan_slides`.
        resolutions: As in `plan_slides`.
        id_column: As in `plan_slides`.
        label_column: As in `plan_slides`.

    Raises:
        ValueError: With the option, and the one that is missing.
    """
    if label_column is not None and labels is None:
        raise ValueError(f"label_column={label_column} is a column of labels; give labels=CSV, or leave it out")
    if id_column is not None and labels is None and resolutions is None:
        raise ValueError(
            f"id_column={id_column} is a column of labels or resolutions; give one of them, or leave id_column out"
        )


def require_masks(masks: Path) -> dict[str, Path]:
    """Return the masks of a folder by slide (see `find_masks`); the error names the option."""
    if not masks.exists():
        raise FileNotFoundError(f"masks={masks} does not exist; give the folder of the masks")
    return find_masks(masks)


def _match_masks(
    masks: Path, labels: Path | None, files: dict[str, Path], rows: dict[str, dict[str, str]]
) -> dict[str, Path]:
    """Return the masks of the slides."""
    if labels is not None:
        for name in files:  # the column in other capitals
            column = find_column(list(rows[name]), "data_provider")
            rows[name] |= {"data_provider": rows[name].pop(column)} if column else {}
    if labels is None or any("data_provider" not in rows[name] for name in files):
        raise ValueError(
            f"masks need labels=CSV with the column data_provider ({' or '.join(MASK_LABELS)}), which defines the values"
        )
    found = require_masks(masks)
    matched = {name: found[name] for name in files if name in found}
    if not matched:
        raise ValueError(
            f"no mask in {masks} belongs to a slide (a mask: {quote_first(list(found), 1) or 'none'}, "
            f"a slide: {quote_first(list(files), 1)}); name a mask like its slide, with or without the ending _mask"
        )
    return matched
