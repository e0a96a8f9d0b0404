"""Lists that people keep beside a data set: bags to leave out, and bags that belong together."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from milpath.records.label_table import quote_first, read_table

_log = logging.getLogger(__name__)
_GROUP_COLUMNS = ("group", "group_id")


def listed(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return names as a tuple; one name alone, as people type it, is a list of one and not of its letters.

    Example:
        >>> listed("suspicious.csv"), listed(["a.csv", "b.csv"])
        (('suspicious.csv',), ('a.csv', 'b.csv'))
    """
    return (names,) if isinstance(names, str) else tuple(names)


def excluded_bags(paths: Sequence[str | Path], bag_ids: Sequence[str]) -> set[str]:
    """Return the bags that exclusion lists name, and say how many they are.

    Args:
        paths: CSV files that name bags (`image_id` or `bag_id`); other columns do not matter.
        bag_ids: Names of the bags of the data.

    Raises:
        FileNotFoundError: If a list does not exist.
        ValueError: If a list does not name bags, or all bags are excluded.
    """
    known = set(bag_ids)
    excluded: set[str] = set()
    for path in paths:
        names = read_table(path, unique=False, what="exclusion list")["bag_id"].drop_duplicates().tolist()
        unknown = [name for name in names if name not in known]
        excluded.update(known & set(names))
        _log.info("%s excludes %s bags", path, f"{len(names) - len(unknown):,}")
        if unknown:
            _log.warning(
                "%s names %s bags that the data do not have (first: %s)",
                path,
                f"{len(unknown):,}",
                quote_first(unknown, 1),
            )
    if known and excluded == known:
        raise ValueError(f"data.exclude leaves none of {len(known):,} bags; check {', '.join(map(str, paths))}")
    return excluded


def bag_groups(bags: pd.DataFrame, group_column: str | None, groups_path: str | Path | None) -> np.ndarray | None:
    """Return the group of each bag, or None if every bag is its own.

    Args:
        bags: One row a bag.
        group_column: Column of `bags` that names the group, such as the patient; an empty cell is a group of its own.
        groups_path: CSV with the bag and its `group` or `group_id`; a bag that is not in it is a group of its own.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If both are given, or the column is missing.
    """
    if group_column and groups_path:
        raise ValueError("data.group_column and data.groups exclude each other; give one of them")
    if not group_column and not groups_path:
        return None
    if group_column:
        if group_column not in bags.columns:
            raise ValueError(
                f"data.group_column={group_column} is not in the data; they have {', '.join(bags.columns)}"
            )
        names = bags[group_column]
    else:
        path = Path(str(groups_path))
        table = read_table(path, what="group file")
        column = next((name for name in _GROUP_COLUMNS if name in table.columns), None)
        if column is None:
            raise ValueError(f"{path} has no column 'group'; it has {', '.join(table.columns)}")
        if table.empty:
            raise ValueError(f"{path} has a header and no row; give bags and their groups, or set data.groups=null")
        known = table["bag_id"].isin(bags["bag_id"])
        if not known.any():
            raise ValueError(f"{path} names no bag of the data (first: {table['bag_id'].iloc[0]!r})")
        names = bags["bag_id"].map(table.set_index("bag_id")[column])
    own = "bag " + bags["bag_id"].astype(str)
    return ("group " + names.astype(str)).where(names.notna(), own).to_numpy(dtype=object)


def group_of_each_bag(
    bags: pd.DataFrame, group_column: str | None, groups_path: str | Path | None
) -> dict[str, str] | None:
    """Return bag to group, as `bag_groups` has it."""
    groups = bag_groups(bags, group_column, groups_path)
    return None if groups is None else dict(zip(bags["bag_id"], groups, strict=True))
