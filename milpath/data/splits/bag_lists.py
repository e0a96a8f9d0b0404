"""Tables from users: lists of bags to exclude, groups of bags, and existing splits."""

import bisect
import logging
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from milpath.data.splits.assign_splits import SPLITS
from milpath.data.splits.label_matching import named_like_data
from milpath.data.splits.split_files import read_split_file
from milpath.records.id_matching import stem_of, why_unlike
from milpath.records.label_table import find_column, quote_first, read_table, rows_of

_log = logging.getLogger(__name__)
_GROUP_COLUMNS = ("group", "group_id")


def listed(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return names as a tuple; a single string is one name, not a sequence of characters.

    Example:
        >>> listed("suspicious.csv"), listed(["a.csv", "b.csv"])
        (('suspicious.csv',), ('a.csv', 'b.csv'))
    """
    return (names,) if isinstance(names, str) else tuple(names)


def excluded_bags(paths: Sequence[str | Path], bag_ids: Sequence[str]) -> set[str]:
    """Return the bags in exclusion lists, and log their number.

    Args:
        paths: CSV files with a column of bags (`image_id` or `bag_id`); other columns are ignored.
        bag_ids: Names of the bags of the data.

    Raises:
        FileNotFoundError: If a list does not exist.
        ValueError: If a list has no column of bags, or all bags are excluded.
    """
    known = set(bag_ids)
    excluded: set[str] = set()
    for path in paths:
        listed_bags = read_table(path, unique=False, what="exclusion list").drop_duplicates("bag_id")
        names = named_like_data(listed_bags, known, Path(path))["bag_id"].tolist()
        unknown = [name for name in names if name not in known]
        excluded.update(known & set(names))
        _log.info("%s excludes %s bags", path, f"{len(names) - len(unknown):,}")
        if unknown:
            _log.warning(
                "%s names %s bags that are not in the data (first: %s)",
                path,
                f"{len(unknown):,}",
                quote_first(unknown, 1),
            )
    if known and excluded == known:
        raise ValueError(f"data.exclude excludes all {len(known):,} bags; check {', '.join(map(str, paths))}")
    return excluded


def bag_groups(
    bags: pd.DataFrame,
    group_column: str | None,
    groups_path: str | Path | None,
    known: Collection[str] | None = None,
) -> np.ndarray | None:
    """Return the group of each bag, or `None` if there are no groups.

    Args:
        bags: One row per bag.
        group_column: Column of `bags` with the group, such as the patient; a bag with an empty cell is its own group.
        groups_path: CSV with the bag and its `group` or `group_id`; a bag that is not in it is its own group.
        known: Names that may be in the file although they are not in `bags`, such as excluded bags; bags without a group are
            said, and rows that seem to mean them under another name are refused. `None` checks nothing.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If both are given, the column is missing, or bags may lack the rows of other names.
    """
    if group_column and groups_path:
        raise ValueError("data.group_column and data.groups are mutually exclusive; set only one of them")
    if not group_column and not groups_path:
        return None
    if group_column:
        if (column := find_column(bags.columns, group_column)) is None:
            raise ValueError(
                f"data.group_column={group_column} is not in the data; they have {', '.join(bags.columns)} (with "
                "data.aggregate it is data.patient_column unless given)"
            )
        names = bags[column]
        if known is not None and (missing := names.isna().to_numpy()).any():
            _log.warning(
                "column %r is empty for %s of %s bags (%s): each counts as a patient of its own; fill the cells in",
                column, f"{int(missing.sum()):,}", f"{len(bags):,}", rows_of(bags, missing),
            )  # fmt: skip
    else:
        path = Path(str(groups_path))
        table = read_table(path, what="group file")
        columns = (find_column(table.columns, name) for name in _GROUP_COLUMNS)
        column = next((name for name in columns if name is not None), None)
        if column is None:
            raise ValueError(f"{path} has no column 'group'; it has {', '.join(table.columns)}")
        if table.empty:
            raise ValueError(f"{path} has a header but no rows; give bags and their groups, or set data.groups=null")
        table = named_like_data(table, bags["bag_id"].tolist(), path)
        if not table["bag_id"].isin(bags["bag_id"]).any():
            raise ValueError(f"{path} names no bag of the data (first: {table['bag_id'].iloc[0]!r})")
        names = bags["bag_id"].map(table.set_index("bag_id")[column])
        strangers = table.loc[~table["bag_id"].isin([*bags["bag_id"], *(known or ())]), "bag_id"].tolist()
        without = bags.loc[names.isna(), "bag_id"].tolist()
        if known is not None and strangers and without:
            said = (
                f"{path} has no group for {len(without):,} of {len(bags):,} bags (first: {without[0]!r}), but names "
                f"{len(strangers):,} that are not in the data (first: {strangers[0]!r})"
            )
            if pair := _longer_name(strangers, without):
                raise ValueError(f"{said}, such as {pair[0]!r} for {pair[1]!r}; name bags as the data do")
            _log.warning("%s: each bag without a row counts as a group of its own", said)
    names = names.map(lambda name: unicodedata.normalize("NFC", name) if isinstance(name, str) else name)
    # An empty cell makes 7 of the others 7.0, which is no name of patient 7 elsewhere.
    if pd.api.types.is_float_dtype(names) and (names.dropna() % 1 == 0).all():
        names = names.astype("Int64")
    own = "bag " + bags["bag_id"].astype(str)
    return ("group " + names.astype(str)).where(names.notna(), own).to_numpy(dtype=object)


def _longer_name(strangers: Sequence[str], missing: Sequence[str]) -> tuple[str, str] | None:
    """Return a name and the bag that it seems to mean: one of both is the other with something behind it."""
    ordered = sorted(missing)
    for name in strangers:
        place = bisect.bisect_left(ordered, name)
        for other in ordered[max(place - 1, 0) : place + 1]:
            short, long = sorted((name, other), key=len)
            rest = long.removeprefix(short)
            # S1 is not S10.
            if rest != long and not (short[-1].isdigit() and rest[0].isdigit()):
                return name, other
    return None


def group_of_each_bag(
    bags: pd.DataFrame, group_column: str | None, groups_path: str | Path | None
) -> dict[str, str] | None:
    """Return a mapping from bag to group, from the result of `bag_groups`."""
    groups = bag_groups(bags, group_column, groups_path)
    return None if groups is None else dict(zip(bags["bag_id"], groups, strict=True))


def read_split(path: str | Path, bag_ids: np.ndarray, *, fold: int = 0, known: Collection[str] = ()) -> np.ndarray:
    """Return the split of each bag from a file.

    Args:
        path: The file (see `read_split_file`), such as the `splits.csv` of a run. Of several folds, one is used. If it names
            slides and has a column of the bags, such as patients, that column is used.
        bag_ids: `(bags,)` names of the bags of the data.
        fold: Which fold, if the file has several.
        known: Names that may be in the file although they are not in the data, such as excluded bags.

    Returns:
        `(bags,)` of "train", "val", "test", or "" for a bag that is not in the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a table, or belongs to other data.
    """
    table = _naming_bags(read_split_file(Path(path)), bag_ids, Path(path))
    if (column := find_column(table.columns, "fold")) is not None:
        folds = sorted(table[column].unique())
        table = table[table[column] == fold]
        if table.empty:
            raise ValueError(f"{path} has no rows of fold {fold}; it has the folds {', '.join(map(str, folds))}")
    elif fold:
        _log.warning("data.fold=%s changes nothing: %s has one split, without a column 'fold'", fold, path)
    if table["bag_id"].duplicated().any():
        twice = table.loc[table["bag_id"].duplicated(), "bag_id"].iloc[0]
        raise ValueError(f"{path} names {twice!r} more than once; a file with several folds needs the column 'fold'")
    table = named_like_data(table, [*bag_ids, *known], Path(path))
    wrong = table.loc[~table["split"].isin(SPLITS), "split"]
    if len(wrong):
        raise ValueError(f"{path} has the split {wrong.iloc[0]!r}; it must be one of {', '.join(SPLITS)}")
    strangers = table.loc[~table["bag_id"].isin([*bag_ids, *known]), "bag_id"].tolist()
    if strangers:
        hint = why_unlike(strangers, map(str, bag_ids)) or "the file belongs to another data set"
        raise ValueError(
            f"{len(strangers)} of {len(table):,} bags in {path} are not in the data (first: {quote_first(strangers, 1)}), "
            f"whose bags are {quote_first([str(name) for name in bag_ids[:2]], 1)}; {hint}"
        )
    split = pd.Series(bag_ids).map(table.set_index("bag_id")["split"]).fillna("").to_numpy(dtype=object)
    if unused := int((split == "").sum()):
        _log.warning("%s does not name %s of %s bags: they are not used", path, f"{unused:,}", f"{len(split):,}")
    return split


def _naming_bags(table: pd.DataFrame, bag_ids: np.ndarray, path: Path) -> pd.DataFrame:
    """Return the rows of a split by another column if that names the bags and the first one does not.

    Raises:
        ValueError: If a bag, such as a patient, has slides in two splits.
    """
    bags = set(bag_ids)
    if not bags.isdisjoint(table["bag_id"]) or not bags.isdisjoint(map(stem_of, table["bag_id"])):
        return table
    for name in table.columns.drop(["bag_id", "split"]):
        cells = table[name].astype(str)
        if bags <= set(cells):
            fold = [column] if (column := find_column(table.columns, "fold")) is not None else []
            named = table.assign(bag_id=cells)[["bag_id", "split", *fold]].drop_duplicates(ignore_index=True)
            if (torn := named.duplicated(["bag_id", *fold])).any():
                raise ValueError(
                    f"{path} puts slides of {named['bag_id'][torn].iloc[0]!r} (column {name!r}) in more than one split; put "
                    "all slides of a bag in one"
                )
            return named
    return table
