"""Matching of labels with files; anything without a counterpart is reported, never dropped silently."""

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from milpath.records.id_matching import match_ids, why_unlike
from milpath.records.label_table import quote_first

_log = logging.getLogger(__name__)
ON_MISMATCH = ("error", "skip")


def check_on_mismatch(on_mismatch: str) -> str:
    """Return the option if it is valid."""
    if on_mismatch not in ON_MISMATCH:
        raise ValueError(f"data.on_mismatch is {on_mismatch!r}; it must be one of {', '.join(ON_MISMATCH)}")
    return on_mismatch


def named_like_data(table: pd.DataFrame, found: Collection[str], labels: Path, *, say: bool = False) -> pd.DataFrame:
    """Return a table whose bags have the names of their data, such as `S1` instead of `S1.svs`.

    Args:
        table: One row per bag.
        found: Bags that have data.
        labels: Path of the table.
        say: Log how many names differed.

    Raises:
        ValueError: If two rows are of one bag.
    """
    try:
        names = match_ids(table["bag_id"].tolist(), found)
    except ValueError as error:
        raise ValueError(f"{labels}: {error}") from None
    if say and (changed := [(before, now) for before, now in names.items() if before != now]):
        _log.info(
            "%s of %s names in %s were matched without folder, suffix or capitals (first: %r is %r)",
            f"{len(changed):,}", f"{len(table):,}", labels, *changed[0],
        )  # fmt: skip
    return table.assign(bag_id=[names.get(name, name) for name in table["bag_id"]])


def match_bags(
    table: pd.DataFrame,
    found: Collection[str],
    *,
    labels: Path,
    data: Path,
    what: str,
    on_mismatch: str,
    partial: Sequence[str] = (),
    partial_reason: str = "",
    left_out: Collection[str] = (),
) -> pd.DataFrame:
    """Return the rows of the bags with complete data, sorted by name.

    Args:
        table: One row per bag.
        found: Bags that have data.
        labels: Path of the table.
        data: Path of the data.
        what: Kind of a bag's data, such as "tiles".
        on_mismatch: "error", or "skip" to omit bags that do not match, with a warning.
        partial: Bags with incomplete data.
        partial_reason: What they lack.
        left_out: Bags that are neither used nor reported, with or without data.

    Raises:
        FileNotFoundError: If data are missing.
        ValueError: If data have no label, the table has no row, or nothing matches at all.
    """
    if table.empty:
        raise ValueError(f"{labels} has a header but no rows; give a table with one row per bag")
    table = named_like_data(table, found, labels, say=True)
    if left_out := set(left_out):
        table = table[~table["bag_id"].isin(left_out)]
        found, partial = set(found) - left_out, [name for name in partial if name not in left_out]
        if table.empty:
            raise ValueError(f"data.exclude excludes all bags in {labels}")
    known = set(table["bag_id"])
    absent = [name for name in table["bag_id"] if name not in found]
    strangers = sorted(set(found) - known)
    hint = _hint(table, absent, strangers) if absent and strangers else ""
    if len(absent) == len(table):
        way_out = hint or "give a table and data that belong together"
        raise ValueError(
            f"none of the {len(table):,} bags in {labels} has {what} in {data}: the table names "
            f"{table['bag_id'].iloc[0]!r}, the data {quote_first(strangers, 1)}; {way_out}"
        )
    problems = []
    if absent:
        problems.append(
            f"{len(absent):,} of {len(table):,} bags in {labels} have no {what} in {data} (first: {absent[0]!r})"
        )
    if partial:
        problems.append(f"{len(partial):,} bags in {data} {partial_reason}")
    if strangers:
        problems.append(f"{len(strangers):,} bags in {data} have no row in {labels} (first: {strangers[0]!r})")
    if problems and on_mismatch == "error":
        problems += [hint] if hint else []
        message = "; ".join(problems) + "; add what is missing, or leave these bags out with data.on_mismatch=skip"
        raise FileNotFoundError(message) if absent or partial else ValueError(message)
    for problem in problems:
        _log.warning("left out: %s", problem)
    kept = table[~table["bag_id"].isin({*absent, *partial})]
    if kept.empty:
        raise ValueError(f"no bag in {data} is complete: {'; '.join(problems)}")
    return kept.sort_values("bag_id", kind="stable")


def _hint(table: pd.DataFrame, absent: Sequence[str], strangers: Sequence[str]) -> str:
    """Return why names do not match: another column has the names of the data, or they are written differently."""
    for column in table.columns.drop("bag_id"):
        cells = table[column].dropna().astype(str).tolist()
        with suppress(ValueError):  # two cells that name one slide: not a column of names
            if len(match_ids(cells, strangers)) == len(cells) > 0:
                return f"the column {column!r} has the names of the data: data.id_column={column}"
    return why_unlike(absent, strangers)
