"""Excel workbooks and Parquet files as rows of text, with bounded sizes."""

import datetime
import io
import logging
import warnings
import zipfile
from itertools import islice
from pathlib import Path
from typing import IO, Any

from milpath.records.error_text import reason_of

_log = logging.getLogger(__name__)

# Unpacked: a workbook is a zip archive, which can be a thousand times larger than its file.
MAX_UNPACKED = 512 * 2**20
MAX_CELLS = 20_000_000
_MAX_COLUMNS = 16_384
_FIXED = "FIXED_LEN_BYTE_ARRAY"
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
            rows, num_cells, num_characters = [], 0, 0
            for row in islice(sheet.iter_rows(values_only=True), 1_048_577):
                cells = [_text(value) for value in row[: _MAX_COLUMNS + 1]]
                while cells and not cells[-1]:
                    cells.pop()
                num_cells += len(cells)
                num_characters += sum(map(len, cells))
                _require_text(path, num_characters)
                if num_cells > MAX_CELLS:
                    raise ValueError(
                        f"{path} has more than {MAX_CELLS:,} cells; save the columns you need as CSV UTF-8"
                    )
                rows.append(cells)
            book.close()
    except Exception as error:  # a damaged workbook raises any exception of zip, XML or openpyxl
        if isinstance(error, ValueError) and str(error).startswith(f"{path} "):
            raise
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
                    if _declares_entities(file):
                        raise ValueError(f"{path} declares XML entities in {name}, which a workbook does not need")


def _declares_entities(file: IO[bytes]) -> bool:
    """Return whether an XML file has a document type, behind comments of any length; in texts its mark is escaped."""
    end = b""
    while block := file.read(1 << 20):
        text = (end + block).replace(b"\0", b"")
        if b"<!DOCTYPE" in text:
            return True
        end = block[-32:]
    return False


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
        too_large = _too_large(path, file)
        if not too_large:
            leaves = [file.schema.column(number) for number in range(len(file.schema))]
            nested = [leaf.path for leaf in leaves if leaf.max_repetition_level or leaf.path != leaf.name]
            names = [
                name
                for name in file.schema_arrow.names
                if not any(f"{leaf}.".startswith(f"{name}.") for leaf in nested)
            ]
            if nested:
                _log.info("%s has columns of lists or records, which are not read: %s", path, ", ".join(nested[:5]))
            texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and leaf.path not in nested]
            file = pyarrow.parquet.ParquetFile(io.BytesIO(content), read_dictionary=texts)
            table = file.read(columns=names if nested else None)
            columns = [[text for chunk in column.chunks for text in _texts(chunk)] for column in table.columns]
    except (pyarrow.ArrowException, OSError, OverflowError, ValueError) as error:
        raise ValueError(f"{path} is a damaged Parquet file ({reason_of(error)}); write it again") from None
    if too_large:
        raise ValueError(too_large)
    for column in columns:
        _require_text(path, sum(map(len, column)))
    kept = [number for number, name in enumerate(table.column_names) if not name.startswith("__index_level_")]
    rows = zip(*(columns[number] for number in kept), strict=True)
    return [[table.column_names[number] for number in kept], *map(list, rows)]


def _too_large(path: Path, file: Any) -> str:
    """Return why a Parquet file is too large for a table; empty if it is not. Its numbers of rows and values may differ."""
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    size = sum(group.total_byte_size for group in groups)
    values = [[group.column(number).num_values for number in range(group.num_columns)] for group in groups]
    num_rows = max(file.metadata.num_rows, sum(group.num_rows for group in groups))
    num_cells = max(num_rows * file.metadata.num_columns, sum(map(sum, values)))
    # What is stored once, as a dictionary, may be the value of each row.
    leaves = [file.schema.column(number) for number in range(len(file.schema))]
    size = max(size, num_rows * sum(leaf.length for leaf in leaves if leaf.physical_type == _FIXED))
    if num_cells <= MAX_CELLS and size <= MAX_UNPACKED:
        return ""
    return (
        f"{path} has {num_rows:,} rows and {file.metadata.num_columns:,} columns, more than a label table may have; save "
        "the columns you need"
    )


def _texts(chunk: Any) -> list[str]:
    """Return a piece of a column as text; equal texts are one object, however many rows have it."""
    if not hasattr(chunk, "dictionary"):
        return [_text(value) for value in chunk.to_pylist()]
    values = [_text(value) for value in chunk.dictionary.to_pylist()]
    return ["" if number is None else values[number] for number in chunk.indices.to_pylist()]


def _require_text(path: Path, num_characters: int) -> None:
    if num_characters > MAX_UNPACKED:
        raise ValueError(
            f"{path} has more than {MAX_UNPACKED / 1e6:,.0f} million characters; save the columns you need as CSV UTF-8"
        )


def _text(value: Any) -> str:
    """Return a value as it would be written in a CSV: 1 instead of 1.0, a date without midnight."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)
