"""Tables from users, one row per bag, validated when they are read."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from milpath.records.table_cells import TableCells, may_be_thousands, plain_decimals, plain_name, read_cells

ID_COLUMNS = ("bag_id", "image_id", "slide_id", "id")
# Name of the index of a table that was read from a file: the row in which a spreadsheet program shows it.
ROW = "row"
# Prefix of the columns of a user whose names a bag store needs itself.
OWN_PREFIX = "labels:"
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DIGITS = re.compile(r"[0-9]+")
_MOST_DIGITS = 18  # of an int64
_CODE_IN_FILE = re.compile(rb'(?:^|[,\n])"?(?:0[0-9]|[0-9]{19})')
_ROUNDED = re.compile(r"\d([.,]\d+)?[eE]\+\d+")


def read_table(
    path: str | Path,
    required: Sequence[str] = (),
    *,
    unique: bool = True,
    what: str = "table",
    id_column: str | None = None,
    id_option: str = "",
    as_text: bool = False,
) -> pd.DataFrame:
    """Read a table with one row per bag: CSV of any usual separator and encoding, `.xlsx` or `.parquet`.

    Identifiers stay text (`007` is not 7), those of patients in another column too (see `is_code`), and only an empty cell
    is a missing value (a class may be called NA). Blanks around names and cells are removed.

    Args:
        path: A table with a header (see `milpath.records.table_cells.read_cells`).
        required: Columns that must exist, found as by `find_column` and returned under this name.
        unique: Refuse a bag that occurs twice.
        what: Name of the table in error messages.
        id_column: Column that identifies the bags; `None` takes the first of `bag_id`, `image_id`, `slide_id`, `id`,
            in any capitals.
        id_option: Name of the option that gives `id_column`, for error messages; "" if there is none.
        as_text: Keep the text of every cell, "" if it is empty; otherwise a column of numbers becomes numbers and an empty
            cell NaN.

    Returns:
        The table, with the identifying column renamed to `bag_id`; its index is the row in the file, from 2.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a table, a column is missing, or a bag has no name or two rows.
        ModuleNotFoundError: If it needs the extra `tables`, which is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}; give the path of a CSV file")
    cells = read_cells(path, [plain_name(name) for name in ((id_column,) if id_column else ID_COLUMNS)])
    named = _id_column(path, cells, id_column, id_option)
    table = pd.DataFrame(
        {
            # A column of another purpose must not be taken for the names of the bags.
            OWN_PREFIX + name if name == "bag_id" != named else name: values
            if name == named
            else plain_decimals(values, cells.separator)
            if as_text
            else _typed(plain_decimals(values, cells.separator), may_be_thousands(values, cells.separator))
            for name, values in zip(cells.header, _columns(cells), strict=True)
        },
        index=pd.Index(cells.numbers, name=ROW, dtype=np.int64),
    ).rename(columns={named: "bag_id"})
    for name in required:
        found = find_column(table.columns, name)
        if found is None:
            raise ValueError(f"{path} has no column {name!r}; it has {', '.join(cells.header)}")
        table = table.rename(columns={found: name})
    _require_names(path, table["bag_id"], named, unique=unique)
    return table


def read_written_table(path: str | Path, required: Sequence[str] = (), *, unique: bool = True) -> pd.DataFrame:
    """Read a CSV that milpath wrote: UTF-8, commas, of any size, with every blank of a name; codes of bags stay text.

    Args:
        path: A CSV with a header; the first of `bag_id`, `image_id`, `slide_id`, `id` that it has identifies the bags.
        required: Columns that must exist.
        unique: Refuse a bag that occurs twice.

    Returns:
        The table, with the identifying column renamed to `bag_id`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not such a table, a column is missing, or a bag has no name or two rows.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}; give the path of a CSV file")
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
    if unique:  # a row per bag; tables of tiles are large and have no such columns
        table = _with_codes(path, table)
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


def read_written_blocks(path: str | Path, num_rows: int) -> Iterator[pd.DataFrame]:
    """Yield a CSV that milpath wrote, with a column `bag_id`, some rows at a time, typed as in each block.

    Raises:
        ValueError: If it is not such a table.
    """
    path = Path(path)
    try:
        with pd.read_csv(
            path, dtype={"bag_id": str}, keep_default_na=False, na_values=[""], chunksize=num_rows, low_memory=False
        ) as blocks:
            for table in blocks:
                if "bag_id" not in table:
                    raise ValueError(f"{path} has no column 'bag_id'; it has {', '.join(map(str, table.columns))}")
                yield table
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV table ({str(error).strip()})") from None


def is_code(values: Iterable[str]) -> bool:
    """Return whether a column of digits names something, such as patients, so that its cells are not numbers.

    A number is not written with a zero in front, nor with more digits than it can hold exactly; a code is.

    Example:
        >>> is_code(["007", "012"]), is_code(["7", "12", ""]), is_code(["0", "0.5"])
        (True, False, False)
    """
    known = [value for value in values if value]
    unusual = (value[0] == "0" < value[1:] or len(value) > _MOST_DIGITS for value in known)
    return all(map(_DIGITS.fullmatch, known)) and any(unusual)


def find_column(columns: Sequence[str] | pd.Index, name: str) -> str | None:
    """Return the column that a user calls by a name, in other capitals or with blanks if need be; `None` without one.

    Example:
        >>> find_column(["bag_id", "MSI Status"], "msi_status")
        'MSI Status'
    """
    names, name = [str(column) for column in columns], str(name)
    for exact in (OWN_PREFIX + name, name):
        if exact in names:
            return exact
    similar = [column for column in names if plain_name(column) == plain_name(name)]
    return similar[0] if len(similar) == 1 else None


def require_column(columns: Sequence[str] | pd.Index, name: str, needed_by: str, option: str = "") -> str:
    """Return the column that a user calls by a name.

    Raises:
        ValueError: If there is none; the message begins with `needed_by` and names the most similar column or
            the option to type.
    """
    if (found := find_column(columns, name)) is not None:
        return found
    stored = [str(column) for column in columns][1:3] == [
        "start",
        "num_tiles",
    ]  # columns of a bag store, not of the user
    names = [str(column).removeprefix(OWN_PREFIX) for column in [*columns[:1], *columns[3 if stored else 1 :]]]
    close = difflib.get_close_matches(plain_name(name), {plain_name(column): column for column in names}, n=1)
    hint = "".join(f"; did you mean {column!r}?" for column in names if plain_name(column) in close)
    hint = hint or (f"; choose one with {option}{'' if '=' in option else '=NAME'}" if option else "")
    raise ValueError(f"{needed_by} needs the column {name!r}; the data have {', '.join(names)}{hint}")


def own_columns(row: Mapping[str, Any], taken: Collection[str]) -> dict[str, Any]:
    """Return the cells of a row with other names for the columns whose names are taken; `find_column` finds both.

    Example:
        >>> own_columns({"start": 2020, "label": 1}, ["start"])
        {'labels:start': 2020, 'label': 1}
    """
    return {OWN_PREFIX + name if name in taken else name: value for name, value in row.items()}


def rows_of(table: pd.DataFrame, chosen: np.ndarray, limit: int = 3) -> str:
    """Return the bags of some rows, for an error message; with their rows if the table was read from a file.

    Example:
        >>> table = pd.DataFrame({"bag_id": ["a", "b"]}, index=pd.Index([2, 3], name=ROW))
        >>> rows_of(table, np.array([False, True]))
        "'b' in row 3"
    """
    found = table[chosen].iloc[:limit]
    known = table.index.name == ROW
    names = [
        f"{name!r} in row {row}" if known else repr(name)
        for row, name in zip(found.index, found["bag_id"], strict=True)
    ]
    return ", ".join(names) + (", ..." if int(chosen.sum()) > limit else "")


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


def _with_codes(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the text of its columns of codes, which pandas has read as numbers."""
    numbers = [str(name) for name in table.columns if pd.api.types.is_numeric_dtype(table[name])]
    if not numbers or not _CODE_IN_FILE.search(path.read_bytes()):
        return table
    texts = pd.read_csv(path, usecols=numbers, dtype=str, keep_default_na=False, na_values=[""])
    return table.assign(**{name: texts[name] for name in numbers if is_code(texts[name].dropna())})


def _columns(cells: TableCells) -> list[list[str]]:
    """Return the cells of each column."""
    return [list(column) for column in zip(*cells.rows, strict=True)] if cells.rows else [[] for _ in cells.header]


def _typed(values: list[str], as_text: bool) -> np.ndarray | list[object]:
    """Return numbers if every cell of a column is one, text otherwise and for codes; NaN for an empty cell."""
    given = [value for value in values if value]
    if given and all(map(_NUMBER.fullmatch, given)) and not is_code(given) and not as_text:
        return np.asarray(pd.to_numeric(pd.Series([value or None for value in values])))
    return [value or np.nan for value in values]


def _id_column(path: Path, cells: TableCells, id_column: str | None, option: str) -> str:
    """Return the column that identifies the bags."""
    has = ", ".join(cells.header)
    if id_column:
        if (found := find_column(cells.header, id_column)) is None:
            raise ValueError(f"{path} has no column {id_column!r} ({option or 'id_column'}); it has {has}")
        return found
    for name in ID_COLUMNS:
        if (found := find_column(cells.header, name)) is not None:
            return found
    unlike = [
        name
        for name, values in zip(cells.header, _columns(cells), strict=True)
        if values and all(values) and len(set(values)) == len(values)
    ]
    hint = f"; say which column it is with {option}={(unlike or cells.header)[0]}" if option else ""
    raise ValueError(
        f"{path} has no column that identifies the bags; expected one of {', '.join(ID_COLUMNS)}, it has {has}{hint}"
    )


def _require_names(path: Path, names: pd.Series, named: str, *, unique: bool) -> None:
    """Refuse rows without a name, with a name that Excel has rounded, or with the name of another row."""
    if (empty := (names == "").to_numpy()).any():
        raise ValueError(f"{path} has no {named} in row {names.index[int(empty.argmax())]}")
    if (rounded := names.map(lambda name: bool(_ROUNDED.fullmatch(name))).to_numpy(dtype=bool)).any():
        row = int(rounded.argmax())
        raise ValueError(
            f"{path} has the {named} {names.iloc[row]!r} in row {names.index[row]}: a spreadsheet program has rounded it; "
            "format the column as text and enter the names again"
        )
    if unique and names.duplicated().any():
        first = names[names.duplicated()].iloc[0]
        rows = [str(row) for row in names.index[names == first]]
        raise ValueError(
            f"{path} has {names[names.duplicated()].nunique()} bag(s) in more than one row (first: {first!r}), "
            f"in rows {', '.join(rows[:-1])} and {rows[-1]}; keep one row per bag"
        )
