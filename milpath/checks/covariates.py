"""What a label might follow although it is no tissue: parts of names, their order, and technical columns of a table."""

import re
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milpath.metrics.subgroups import MAX_VALUES
from milpath.records.id_matching import stem_of
from milpath.records.label_table import require_column

Values = NDArray[np.generic]
# Words in the names of columns about how, where and when a slide was made.
TECHNICAL = frozenset((
    "provider", "scanner", "site", "center", "centre", "hospital", "institution", "institute", "lab", "laboratory", "batch",
    "plate", "tma", "stainer", "stain", "staining", "date", "year", "month", "width", "height", "size", "mpp", "microns",
    "resolution", "magnification", "objective", "level", "vendor", "source", "cohort", "operator", "block", "section", "pen",
    "marker", "ink", "blur", "tiles", "country", "manufacturer", "model",
))  # fmt: skip
_DATES = frozenset(("date", "day", "time", "scanned", "acquired"))
_PARTS = re.compile(r"[A-Za-z]+|\d+")
# Names have one form if as many of them have the same sequence of words and numbers.
_LEAST_ALIKE = 0.9
_MOST_PARTS = 8
_MOST_DIGITS = 15


def name_covariates(names: Sequence[str]) -> dict[str, Values]:
    """Return the parts of the names of slides, and their order.

    If nearly all names are built alike (`case07_b2`), each word and each number of them is a covariate. Otherwise, as for
    names that are hashes, it is the first letter and the last number. The place in sorted order is one in any case.

    Args:
        names: Names of slides; folders and suffixes do not count.

    Example:
        >>> list(name_covariates(["benign_1", "benign_2", "tumour_7"]))
        ['word 1 of the name', 'number 1 of the name', 'alphabetic order of the names']
    """
    stems = [stem_of(name) for name in names]
    parts = [_PARTS.findall(stem) for stem in stems]
    forms = Counter(tuple(part.isdigit() for part in own) for own in parts)
    form, count = forms.most_common(1)[0] if forms else ((), 0)
    found: dict[str, Values] = {}
    if count >= _LEAST_ALIKE * len(names) and form:
        alike = [own if tuple(part.isdigit() for part in own) == form else [] for own in parts]
        order = {True: 0, False: 0}
        for place, is_number in enumerate(form[:_MOST_PARTS]):
            order[is_number] += 1
            cells = [own[place] if own else "" for own in alike]
            if is_number:
                found[f"number {order[True]} of the name"] = _numbers(cells)
            else:
                found[f"word {order[False]} of the name"] = np.array([cell.casefold() for cell in cells], dtype=str)
    else:
        found["first letter of the name"] = np.array([stem[:1].casefold() for stem in stems], dtype=str)
        found["last number of the name"] = _numbers(
            [next((p for p in reversed(own) if p.isdigit()), "") for own in parts]
        )
    places = np.empty(len(names))
    places[np.argsort(np.array(stems, dtype=str), kind="stable")] = np.arange(len(names))
    found["alphabetic order of the names"] = places
    return {name: values for name, values in found.items() if _is_testable(values)}


def column_covariates(
    table: pd.DataFrame, leave_out: Collection[str], more: Sequence[str] = ()
) -> tuple[dict[str, Values], list[str]]:
    """Return the technical columns of a table, and the names of the columns that were not taken.

    Args:
        table: One row per slide.
        leave_out: Columns of the name, label, split and patient.
        more: Columns to take whatever their name.

    Raises:
        ValueError: If the table has no such column.
    """
    chosen = [require_column(table.columns, name, f"columns=[{','.join(more)}]", "columns") for name in more]
    found: dict[str, Values] = {}
    others: list[str] = []
    for column in map(str, table.columns):
        if column in leave_out:
            continue
        words = set(re.findall(r"[a-z]+", column.casefold()))
        if column not in chosen and not words & TECHNICAL and not words & _DATES:
            others.append(column)
            continue
        values = values_of(table[column], is_date=bool(words & _DATES))
        if _is_testable(values):
            found[column] = values
        elif column in chosen and len(np.unique(values.astype(str))) > MAX_VALUES:
            raise ValueError(
                f"column {column!r} has {len(set(values.astype(str))):,} different texts, which tell nothing; give a "
                f"column of numbers, or of at most {MAX_VALUES} texts"
            )
    return found, others


def values_of(cells: pd.Series, *, is_date: bool = False) -> Values:
    """Return the cells of a column as numbers (NaN if empty) or texts; dates as days.

    Args:
        cells: The column.
        is_date: Whether its name says that it holds dates.
    """
    if pd.api.types.is_bool_dtype(cells):
        return cells.astype(str).to_numpy(dtype=str)
    if pd.api.types.is_numeric_dtype(cells):
        return cells.to_numpy(dtype=np.float64, na_value=np.nan)
    texts = cells.fillna("").astype(str).str.strip()
    if is_date:
        days = pd.to_datetime(texts.where(texts != ""), errors="coerce", format="mixed")
        if days.notna().sum() >= _LEAST_ALIKE * (texts != "").sum():
            return ((days - pd.Timestamp(0)) / pd.Timedelta(days=1)).to_numpy(dtype=np.float64, na_value=np.nan)
    return texts.to_numpy(dtype=str)


def _is_testable(values: Values) -> bool:
    """Return whether a covariate varies, and, if it is of texts, has few enough of them."""
    if np.issubdtype(values.dtype, np.number):
        known = values[np.isfinite(values)]
        return len(np.unique(known)) > 1 or 0 < len(known) < len(values)
    return 1 < len(np.unique(values)) <= MAX_VALUES


def _numbers(cells: Sequence[str]) -> NDArray[np.float64]:
    """Return whole numbers; NaN for an empty text, and for more digits than a number keeps."""
    return np.array([float(cell) if cell and len(cell) <= _MOST_DIGITS else np.nan for cell in cells])
