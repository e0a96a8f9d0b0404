"""Tables that milpath wrote itself, read back exactly."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from milpath.records.label_table import ID_COLUMNS


def read_written_table(path: str | Path, required: Sequence[str] = (), *, unique: bool = True) -> pd.DataFrame:
    """Read a CSV that milpath wrote: UTF-8, commas, of any size, with every blank of a name.

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
