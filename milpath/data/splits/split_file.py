"""A split kept as a file: `id,split` with, if it holds several folds, `fold`."""

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from milpath.data.splits.assign_splits import SPLITS
from milpath.records.label_table import quote_first, read_table

_log = logging.getLogger(__name__)


def read_split(path: str | Path, bag_ids: np.ndarray, *, fold: int = 0, known: Collection[str] = ()) -> np.ndarray:
    """Return the split of each bag as a file has it.

    Args:
        path: CSV with the columns `id` (or `bag_id`, `image_id`, `slide_id`) and `split`; the `splits.csv` of a run is one.
            With a column `fold`, the rows of one fold are taken.
        bag_ids: `(bags,)` names of the bags of the data.
        fold: Which fold, where the file has several.
        known: Names that the file may have although they are not in the data, such as excluded bags.

    Returns:
        `(bags,)` of "train", "val", "test", or "" for a bag that the file does not name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a table, or belongs to other data.
    """
    table = read_table(path, required=("split",), unique=False, what="split file")
    if "fold" in table.columns:
        folds = sorted(table["fold"].unique())
        table = table[table["fold"] == fold]
        if table.empty:
            raise ValueError(f"{path} has no rows of fold {fold}; it has the folds {', '.join(map(str, folds))}")
    if table["bag_id"].duplicated().any():
        twice = table.loc[table["bag_id"].duplicated(), "bag_id"].iloc[0]
        raise ValueError(f"{path} names {twice!r} more than once; a file of several folds needs the column 'fold'")
    wrong = table.loc[~table["split"].isin(SPLITS), "split"]
    if len(wrong):
        raise ValueError(f"{path} has the split {wrong.iloc[0]!r}; a split is one of {', '.join(SPLITS)}")
    strangers = table.loc[~table["bag_id"].isin([*bag_ids, *known]), "bag_id"].tolist()
    if strangers:
        raise ValueError(
            f"{len(strangers)} of {len(table):,} bags in {path} are not in the data (first: {quote_first(strangers, 1)}); "
            "the file belongs to another data set"
        )
    split = pd.Series(bag_ids).map(table.set_index("bag_id")["split"]).fillna("").to_numpy(dtype=object)
    if unused := int((split == "").sum()):
        _log.warning("%s does not name %s of %s bags: they are not used", path, f"{unused:,}", f"{len(split):,}")
    return split
