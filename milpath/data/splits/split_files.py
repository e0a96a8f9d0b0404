"""Files of an existing split, in the layouts of milpath, CLAM, Patho-Bench and STAMP."""

import re
from pathlib import Path

import pandas as pd

from milpath.data.splits.assign_splits import SPLITS
from milpath.records.label_table import ID_COLUMNS, find_column, read_table
from milpath.records.plain_values import read_mapping
from milpath.records.table_cells import TableCells, plain_name, read_cells

_FOLD_COLUMN = re.compile(r"fold_([0-9]{1,9})")
_STAMP = {"train_patients": "train", "test_patients": "test"}


def read_split_file(path: Path) -> pd.DataFrame:
    """Return the split of the bags that a file names.

    Args:
        path: One row per bag with `id` (or `bag_id`, `image_id`, `slide_id`) and `split`, and with several folds `fold`
            (milpath), or a column `fold_0`, `fold_1`, ... for each (Patho-Bench); or the columns `train`, `val` and `test`,
            each a list of bags (`splits_0.csv` of CLAM); or `splits.json` of STAMP, whose bags are patients.

    Returns:
        `bag_id`, `split`, if there are several folds `fold`, and the other columns of a table with a row per bag.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none of these.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no split file at {path}; give the path of a CSV file")
    if path.suffix.lower() == ".json":
        return _of_stamp(path)
    cells = read_cells(path, [plain_name(name) for name in ID_COLUMNS])
    if {"train", "test"} <= set(map(plain_name, cells.header)) <= set(SPLITS):
        return _of_lists(cells)
    if all(find_column(cells.header, name) is None for name in ID_COLUMNS):
        raise ValueError(
            f"{path} has no column that identifies the bags; it has {', '.join(cells.header)}; rename the one that does to "
            "bag_id"
        )
    folds = {name: int(found[1]) for name in cells.header if (found := _FOLD_COLUMN.fullmatch(plain_name(name)))}
    if find_column(cells.header, "split") is not None or not folds:
        return read_table(path, required=("split",), unique=False, what="split file")
    table = read_table(path, unique=False, what="split file")
    others = [name for name in table.columns if name not in folds]
    parts = [
        table[others].assign(split=table[name], fold=number).dropna(subset="split") for name, number in folds.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _of_lists(cells: TableCells) -> pd.DataFrame:
    """Return the rows of a file whose columns are lists of bags."""
    names = [plain_name(name) for name in cells.header]
    rows = [(cell, name) for row in cells.rows for name, cell in zip(names, row, strict=True) if cell]
    return pd.DataFrame(rows, columns=["bag_id", "split"])


def _of_stamp(path: Path) -> pd.DataFrame:
    """Return the rows of `splits.json`: patients for training and for the test, fold by fold."""
    wrong = ValueError(
        f"{path} is not a split of STAMP, which has splits with train_patients and test_patients; give such a file, or a "
        "CSV with id and split"
    )
    folds = read_mapping(path).get("splits")
    if not isinstance(folds, list) or not folds:
        raise wrong
    rows = []
    for number, fold in enumerate(folds):
        for key, split in _STAMP.items():
            names = fold.get(key) if isinstance(fold, dict) else None
            if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
                raise wrong
            rows += [(name, split, number) for name in names]
    return pd.DataFrame(rows, columns=["bag_id", "split", "fold"])
