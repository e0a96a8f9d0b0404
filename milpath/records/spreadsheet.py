"""Excel workbooks and Parquet files as rows of text, with bounded sizes."""

import datetime
import io
import logging
import warnings
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

from milpath.records.error_text import reason_of

_log = logging.getLogger(__name__)

# Unpacked: a workbook is a zip archive, which can be a thousand times larger than its file.
MAX_UNPACKED = 512 * 2**20
MAX_CELLS = 20_000_000
_MAX_COLUMNS = 16_384
_INSTALL = "install it with pip install 'milpath[tables]', or save the table as CSV UTF-8"


def read_workbook(path: Path, content: bytes) -> list[list[str]]:
    """Return the rows of the first visible sheet of an `.xlsx` workbook, with the values that Excel computed last.

    Raises:
        ModuleNotFoundError: If openpyxl is not installed.
        ValueError: If it is not a workbook, is damaged, or unpacks to more than 512 MB or 20 million cells.
    """
    try:
        import openpyxl
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"{path} is an Excel workbook, which needs openpyxl; {_INSTALL}") from None
    try:
        _require_workbook(path, content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats and rules of a workbook, which are not read
            book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True, keep_links=False)
            shown = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
            if not shown:
                raise ValueError(f"{path} has no visible sheet with a table; save the table as CSV UTF-8")
            sheet = shown[0]
            if len(book.worksheets) > 1:
                _log.info(
                    "%s has %s sheets; %r is read, the first that is not hidden",
                    path,
                    len(book.worksheets),
                    sheet.title,
                )
            # The size that a file states may be wrong, and padded with empty rows.
            sheet.reset_dimensions()
            rows, num_cells = [], 0
            for row in islice(sheet.iter_rows(values_only=True), 1_048_577):
                cells = [_text(value) for value in row[: _MAX_COLUMNS + 1]]
                while cells and not cells[-1]:
                    cells.pop()
                num_cells += len(cells)
                if num_cells > MAX_CELLS:
                    raise ValueError(
                        f"{path} has more than {MAX_CELLS:,} cells; save the columns you need as CSV UTF-8"
                    )
                rows.append(cells)
            book.close()
    except ValueError:
        raise
    except Exception as error:  # a damaged workbook raises any exception of zip, XML or openpyxl
        raise ValueError(f"{path} is a damaged workbook ({reason_of(error)}); save the table as CSV UTF-8") from None
    return rows


def _require_workbook(path: Path, content: bytes) -> None:
    """Refuse a zip archive that is not a workbook, unpacks to too much, or declares XML entities."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        if "xl/workbook.xml" not in names:
            kind = "an OpenDocument file" if "mimetype" in names else "a zip archive"
            raise ValueError(f"{path} is {kind}, not an Excel workbook; save the table as .xlsx or CSV UTF-8")
        if (size := sum(item.file_size for item in archive.infolist())) > MAX_UNPACKED:
            raise ValueError(
                f"{path} unpacks to {size / 1e6:,.0f} MB, more than {MAX_UNPACKED / 1e6:,.0f} MB; save the table as "
                "CSV UTF-8"
            )
        for name in names:
            if name.endswith((".xml", ".rels")):
                with archive.open(name) as file:
                    if b"<!DOCTYPE" in file.read(4096).replace(b"\0", b""):
                        raise ValueError(f"{path} declares XML entities in {name}, which a workbook does not need")


def read_parquet(path: Path, content: bytes) -> list[list[str]]:
    """Return the header and the rows of a Parquet file.

    Raises:
        ModuleNotFoundError: If pyarrow is not installed.
        ValueError: If it is damaged, or has more than 20 million cells or 512 MB.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"{path} is a Parquet file, which needs pyarrow; {_INSTALL}") from None
    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
        size = sum(file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups))
        if file.metadata.num_rows * file.metadata.num_columns > MAX_CELLS or size > MAX_UNPACKED:
            raise ValueError(
                f"{path} has {file.metadata.num_rows:,} rows and {file.metadata.num_columns:,} columns, more than a label "
                "table may have; save the columns you need"
            )
        table = file.read()
        columns = [[_text(value) for value in column.to_pylist()] for column in table.columns]
    except (pyarrow.ArrowException, OSError, OverflowError) as error:
        raise ValueError(f"{path} is a damaged Parquet file ({reason_of(error)}); write it again") from None
    kept = [number for number, name in enumerate(table.column_names) if not name.startswith("__index_level_")]
    rows = zip(*(columns[number] for number in kept), strict=True)
    return [[table.column_names[number] for number in kept], *map(list, rows)]


def _text(value: Any) -> str:
    """Return a value as it would be written in a CSV: 1 instead of 1.0, a date without midnight."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)
