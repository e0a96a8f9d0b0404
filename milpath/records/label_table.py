"""Tables from users, one row per bag, validated when they are read."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

ID_COLUMNS = ("bag_id", "image_id", "slide_id", "id")


def read_table(
    path: str | Path, required: Sequence[str] = (), *, unique: bool = True, what: str = "table"
) -> pd.DataFrame:
    """Read a CSV with one row per bag.

    Identifiers stay strings (`007` is not 7), and only an empty cell is a missing value (a class may be called NA).

    Args:
        path: A CSV with a header; the first of `bag_id`, `image_id`, `slide_id`, `id` that it has identifies the bags.
        required: Columns that must exist.
        unique: Refuse a bag that occurs twice.
        what: Name of the table in error messages.

    Returns:
        The table, with the identifying column renamed to `bag_id`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a CSV, a column is missing, or a bag has no name or two rows.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}; give the path of a CSV file")
    try:
        header = list(pd.read_csv(path, nrows=0).columns)
        names = [name for name in ID_COLUMNS if name in header]
        if not names:
            raise ValueError(
                f"{path} has no column that identifies the bags; expected one of {', '.join(ID_COLUMNS)}, "
                f"it has {', '.join(map(str, header))}"
            )
        table = pd.read_csv(path, dtype={names[0]: str}, keep_default_na=False, na_values=[""])
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV table ({str(error).strip()})") from None
    table = table.rename(columns={names[0]: "bag_id"})
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}; it has {', '.join(map(str, header))}")
    if table["bag_id"].isna().any():
        raise ValueError(f"{path} has no {names[0]} in row {int(table['bag_id'].isna().to_numpy().argmax()) + 2}")
    if unique and table["bag_id"].duplicated().any():
        twice = table.loc[table["bag_id"].duplicated(), "bag_id"]
        raise ValueError(f"{path} has {twice.nunique()} bag(s) in more than one row (first: {twice.iloc[0]!r})")
    return table


def labelled_bags(table: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each bag and its other columns as plain values, in the order of the table."""
    columns = {str(name): table[name].tolist() for name in table.columns if name != "bag_id"}
    for row, bag_id in enumerate(table["bag_id"].tolist()):
        yield bag_id, {name: values[row] for name, values in columns.items()}


def quote_first(names: Sequence[str], limit: int = 3) -> str:
    """Return the first names of a list, quoted for an error message.

    Example:
        >>> quote_first(["a", "b", "c", "d"])
        "'a', 'b', 'c', ..."
    """
    return ", ".join(map(repr, names[:limit])) + (", ..." if len(names) > limit else "")
