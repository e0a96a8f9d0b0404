"""The slides to check: those of a data module, with its split, or of a table alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.checks.findings import CheckedSlides
from milpath.checks.patient_names import patient_column, patients_of_names
from milpath.data.splits.bag_lists import read_split
from milpath.metrics.subgroups import MAX_VALUES
from milpath.records.label_table import find_column, read_table, require_column

if TYPE_CHECKING:
    from milpath.data.datamodule import BagDataModule

# Names of the column of the label, if none is given.
_LABELS = ("label", "isup_grade")


def slides_of_data(datamodule: "BagDataModule") -> tuple[CheckedSlides, NDArray[np.int64]]:
    """Return the bags of a data module with their labels, split and patients, and their positions in its store.

    Args:
        datamodule: The data, after `setup`. If it does not keep groups in one split, the patients are those of a column
            with a usual name, or of TCGA's names of slides.
    """
    frame = datamodule.label_frame
    rows = frame["index"].to_numpy(dtype=np.int64)
    table = datamodule.tile_store.bags.iloc[rows].reset_index(drop=True)
    names = table["bag_id"].astype(str).tolist()
    known = datamodule.split_groups
    column = datamodule.group_column or ("the groups of data.groups" if known else "")
    groups = None if known is None else np.array([str(known[name]) for name in names], dtype=str)
    if groups is None:
        groups, column = _patients(table, names)
    target = datamodule.fitted_target
    labels: NDArray[np.generic] | None = None
    if target.has_classes and pd.api.types.is_integer_dtype(frame["label"]):
        labels = frame["label"].to_numpy(dtype=np.int64)
    elif len(datamodule.class_names) == 1:
        labels = np.array([float(np.ravel(value)[0]) for value in frame["label"]])
    slides = CheckedSlides(
        table.drop(columns=[name for name in ("start",) if name in table]), labels,
        datamodule.class_names if target.has_classes else (), frame["split"].to_numpy(dtype=str), groups, column,
        datamodule.columns_read, datamodule.split_column or "",
        "bag",
    )  # fmt: skip
    return slides, rows


def slides_of_table(
    path: str | Path,
    *,
    id_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    split_column: str | None = None,
    splits_path: str | Path | None = None,
) -> CheckedSlides:
    """Return the slides of a table.

    Args:
        path: Table with one row per slide (CSV, `.xlsx` or `.parquet`).
        id_column: Column that names the slides; `None` takes `slide_id` or one of its other names.
        label_column: Column of the label; `None` takes `label` or `isup_grade` if the table has it.
        group_column: Column of the patient; `None` takes one with a usual name, such as `patient_id`.
        split_column: Column of the split, whose values may have any name; `None` for none.
        splits_path: CSV `id,split` with the split; `None` for none.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a table, has no such column, or no rows.
    """
    table = read_table(path, id_column=id_column, id_option="id_column").reset_index(drop=True)
    if table.empty:  # every check would find nothing and be "ok"
        raise ValueError(f"{path} has a header but no rows; give a table with one row per slide")
    names = table["bag_id"].astype(str).tolist()

    def column(name: str, option: str) -> str:
        return require_column(table.columns, name, f"{option}={name}", option)

    found = column(label_column, "label_column") if label_column else _first(table, _LABELS)
    labels, class_names = (None, ()) if found is None else _labels(table[found], found)
    if group_column:
        named = column(group_column, "group_column")
        empty = table[named].isna().to_numpy()
        values, group_name = np.array(_texts(table[named]), dtype=str), named
        groups: NDArray[Any] | None = np.where(empty, np.char.add("alone: ", np.array(names, dtype=str)), values)
    else:
        groups, group_name = _patients(table, names)
    split = np.full(len(table), "", dtype=object)
    own = ""
    if splits_path is not None:
        split = read_split(splits_path, table["bag_id"].to_numpy())
    elif split_column:
        own = column(split_column, "split_column")
        split = np.array(_texts(table[own]), dtype=object)
    return CheckedSlides(
        table, labels, class_names, split.astype(str), groups, group_name, () if found is None else (found,), own
    )


def slides_of_files(names: Sequence[str]) -> CheckedSlides:
    """Return slides of which nothing but the names is known."""
    table = pd.DataFrame({"bag_id": list(names)})
    groups, column = _patients(table, list(names))
    return CheckedSlides(table, None, (), np.full(len(names), "", dtype=str), groups, column)


def _patients(table: pd.DataFrame, names: list[str]) -> tuple[NDArray[np.str_] | None, str]:
    """Return the patients of a column with a usual name, or of TCGA's names of slides, and where they come from."""
    column = patient_column(table)
    if column is not None:
        cells = _texts(table[column])
        return np.array([cell or f"alone: {name}" for cell, name in zip(cells, names, strict=True)], dtype=str), column
    tcga = patients_of_names(names)
    return (None, "") if tcga is None else (np.array(tcga, dtype=str), "the patients in the names of TCGA")


def _first(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    """Return the first of some columns that a table has."""
    return next((found for name in names if (found := find_column(table.columns, name)) is not None), None)


def _texts(cells: pd.Series) -> list[str]:
    """Return cells as texts, "" if empty; a whole number has no decimals."""
    return ["" if pd.isna(cell) else f"{cell:.0f}" if _is_whole(cell) else str(cell) for cell in cells]


def _is_whole(cell: Any) -> bool:
    return isinstance(cell, float | np.floating) and float(cell).is_integer()


def _labels(cells: pd.Series, column: str) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Return labels as classes, or as numbers if there are too many different ones.

    Raises:
        ValueError: If a cell is empty, or there are too many different texts.
    """
    if empty := int(cells.isna().sum()):
        raise ValueError(
            f"{empty:,} of {len(cells):,} slides have an empty cell in column {column!r}; label or remove them"
        )
    names, codes = np.unique(np.array(_texts(cells), dtype=str), return_inverse=True)
    if len(names) <= MAX_VALUES:
        return codes.reshape(-1).astype(np.int64), tuple(map(str, names))
    if pd.api.types.is_numeric_dtype(cells):
        return cells.to_numpy(dtype=np.float64), ()
    raise ValueError(
        f"column {column!r} has {len(names):,} different texts, so it is not a label; give label_column=NAME"
    )
