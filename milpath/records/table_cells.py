"""Cells of a table as text: CSV with any usual separator and encoding, Excel workbooks and Parquet."""

import codecs
import csv
import io
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from milpath.records.error_text import reason_of, visible
from milpath.records.spreadsheet import read_parquet, read_workbook

_log = logging.getLogger(__name__)

MAX_BYTES = 256 * 2**20
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
# The longer mark first: the one of UTF-32 begins with the one of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_OTHER_FILES = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls) or one with a password"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"%PDF", "a PDF document"),
    (b"{\\rtf", "an RTF document"),
    (b"\x89HDF", "an HDF5 file"),
)
_EXPECTED = "save the table as CSV UTF-8, .xlsx or .parquet"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_INVISIBLE = "\ufeff\u200b\u200e\u200f\u2060"
# Cells that Excel writes for a formula without a value.
_EXCEL_ERRORS = frozenset({"#N/A", "#NV", "#REF!", "#DIV/0!", "#VALUE!", "#NAME?", "#NULL!", "#NUM!"})
_COMMA_NUMBER = re.compile(r"[+-]?[0-9]+(,[0-9]+)?")
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")
_WHOLE = re.compile(r"[0-9]+")
# Rows among which the header is looked for if the first is a title.
_TITLE_ROWS = 20
# Rows that decide which separator a file has.
_SAMPLE = 200


@dataclass(frozen=True)
class TableCells:
    """The text of a table, without blanks around a cell; an empty text is a missing value.

    Attributes:
        header: Name of each column.
        rows: One list per row, as long as the header.
        numbers: Row of the file in which each row begins, as a spreadsheet program counts them (the header is row 1).
        separator: What separates the cells of a text file; empty for other files.
    """

    header: list[str]
    rows: list[list[str]]
    numbers: list[int]
    separator: str = ""


def read_cells(path: Path, expected: Sequence[str] = ()) -> TableCells:
    """Read the first table of a file; its format is recognised by its content, not by its name.

    Args:
        path: An existing file: text separated by `,` `;` tab or `|` in UTF-8, UTF-16, UTF-32 or Windows-1252, an Excel
            workbook (`.xlsx`, first visible sheet) or a Parquet file.
        expected: Names of which the header has one, as `plain_name` writes them; they help to recognise the separator.

    Raises:
        ValueError: If it is not a table, or larger than 256 MB.
        ModuleNotFoundError: If the package that reads this format is not installed.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path} has {size / 1e6:,.0f} MB; a table may have {MAX_BYTES / 1e6:,.0f} MB")
    content = path.read_bytes()
    for mark, kind in _OTHER_FILES:
        if content.startswith(mark):
            raise ValueError(f"{path} is not a CSV table but {kind}; {_EXPECTED}")
    if content.startswith(b"PK\x03\x04"):
        lines, start = read_workbook(path, content), 1
    elif content.startswith(b"PAR1"):
        lines, start = read_parquet(path, content), 1
    else:
        rows, numbers, separator = _read_text(path, content, expected)
        return replace(_complete(path, rows, numbers, expected), separator=separator)
    return _complete(path, lines, list(range(start, start + len(lines))), expected)


def _read_text(path: Path, content: bytes, expected: Sequence[str]) -> tuple[list[list[str]], list[int], str]:
    """Return the rows of a text file, the row in which each begins, and what separates the cells."""
    text = _decode(path, content)
    first, _, rest = text.partition("\n")
    # Excel takes the separator from such a line, and writes it.
    stated = re.fullmatch(r'"?sep=(.)"?\s*', first)
    offset = 1 if stated else 0
    if stated:
        text = rest
    separator = stated[1] if stated else _separator(text, expected)
    try:
        rows, numbers, before = [], [], 0
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        for number, row in enumerate(reader, 1):
            rows.append(row)
            # A cell with line breaks is one row of a spreadsheet.
            numbers.append(number + offset)
            before = reader.line_num
    except csv.Error as error:
        raise ValueError(
            f"{path} is not a CSV table: line {before + 1 + offset} cannot be read with the separator "
            f"{SEPARATORS.get(separator, separator)!r} ({reason_of(error)}); check its quotation marks"
        ) from None
    return rows, numbers, separator


def _decode(path: Path, content: bytes) -> str:
    """Return the text of a file in the first encoding that fits."""
    encodings = next(([name] for mark, name in _MARKS if content.startswith(mark)), ["utf-8", "cp1252"])
    if len(encodings) > 1 and len(content) >= 4:
        # UTF-16 without a mark: every other byte of western text is 0.
        if content[1] == content[3] == 0 and content[0] and content[2]:
            encodings = ["utf-16-le"]
        elif content[0] == content[2] == 0 and content[1] and content[3]:
            encodings = ["utf-16-be"]
    tried = []
    for encoding in encodings:
        tried.append(encoding)
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if control := _CONTROL.search(text):
            tried.append(f"which gives the control character {visible(control[0])}")
            break
        if encoding == "cp1252":
            _log.info("%s is not UTF-8; it is read as Windows-1252 (Latin-1)", path)
        return text
    raise ValueError(f"{path} is not a CSV table: its bytes are no text (tried {', '.join(tried)}); {_EXPECTED}")


def _separator(text: str, expected: Sequence[str]) -> str:
    """Return the separator that gives the most columns in equally long rows; a comma if there is only one column."""
    best, best_key = ",", (0.0, False, 0)
    for separator in SEPARATORS:
        rows: list[list[str]] = []
        try:
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
                if any(cell.strip() for cell in row):
                    rows.append(row)
                if len(rows) == _SAMPLE:
                    break
        except csv.Error:
            continue
        width = len(rows[0]) if rows else 0
        if width < 2:
            continue
        named = any(plain_name(cell) in expected for cell in rows[0])
        key = (sum(len(row) == width for row in rows) / len(rows), named, width)
        if key > best_key:
            best, best_key = separator, key
    return best


def _complete(
    path: Path, lines: Sequence[Sequence[str]], numbers: Sequence[int], expected: Sequence[str]
) -> TableCells:
    """Return the table below the header, without empty rows and columns."""
    cleaned = [[_clean(cell) for cell in line] for line in lines]
    kept = [(row, number) for row, number in zip(cleaned, numbers, strict=True) if any(row)]
    if not kept:
        raise ValueError(f"{path} is not a CSV table (No columns to parse from file): it is empty; {_EXPECTED}")
    header, rows = kept[0][0], [row for row, _ in kept[1:]]
    _require_header_first(path, kept[:_TITLE_ROWS], expected)
    width = max(map(len, (header, *rows)))
    for row in (header, *rows):
        row.extend([""] * (width - len(row)))
    used = [column for column in range(width) if header[column]]
    if used and rows and not header[0] and _are_row_numbers([row[0] for row in rows]):
        _log.info("%s has row numbers in its first column, which has no name; they are not used", path)
        rows = [["", *row[1:]] for row in rows]
    for column in sorted(set(range(width)) - set(used)):
        for row, (_, number) in zip(rows, kept[1:], strict=True):
            if row[column]:
                raise ValueError(
                    f"{path} has {row[column]!r} in row {number}, column {column + 1}, which has no name in the header "
                    f"(row {kept[0][1]}: {', '.join(filter(None, header))}); name the column, or empty it"
                )
    names = [header[column] for column in used]
    if twice := [(name, count) for name, count in Counter(names).items() if count > 1]:
        name, count = twice[0]
        raise ValueError(f"{path} has {count} columns called {name!r}; rename or delete one of them")
    return TableCells(names, [[row[column] for column in used] for row in rows], [number for _, number in kept[1:]])


def plain_name(name: str) -> str:
    """Return the name of a column as it is compared: `Slide ID`, `slide-id` and `SLIDE_ID` are `slide_id`.

    Example:
        >>> plain_name(" Slide ID ")
        'slide_id'
    """
    return re.sub(r"[\s_.-]+", "_", name.strip().strip(_INVISIBLE).strip()).casefold()


def _clean(cell: str) -> str:
    """Return a cell without blanks and invisible characters around it; an error of a formula is an empty cell."""
    text = cell.strip().strip(_INVISIBLE).strip()
    return "" if text in _EXCEL_ERRORS else text


def _require_header_first(path: Path, rows: Sequence[tuple[list[str], int]], expected: Sequence[str]) -> None:
    """Refuse a table with a title or comments above its header."""
    for (row, number), above in zip(rows, range(len(rows)), strict=True):
        # A title has no separators, and its table is then read as a single column.
        named = [name for cell in row for name in re.split(r"[,;\t|]", cell) if plain_name(name.strip('"')) in expected]
        if named and above:
            raise ValueError(
                f"{path} has {named[0]!r} in row {number}, which seems to be the header: delete the rows above it (row "
                f"{rows[0][1]}: {', '.join(filter(None, rows[0][0]))})"
            )
        if named:
            return


def _are_row_numbers(cells: Sequence[str]) -> bool:
    """Return whether cells are the row names that R and pandas write: different whole numbers."""
    return all(cell.isascii() and cell.isdecimal() for cell in cells) and len(set(cells)) == len(cells)


def plain_decimals(cells: list[str], separator: str = "") -> list[str]:
    """Return a column with decimal points if all its numbers are written with decimal commas (0,5).

    What may as well be thousands (2,581) stays as it is written, which is then no number.

    Args:
        cells: The column.
        separator: What separates the cells of the file: with `;`, commas are those of decimals.

    Example:
        >>> plain_decimals(["0,5", "12"]), plain_decimals(["2,581", "955"]), plain_decimals(["2,581", "955"], ";")
        (['0.5', '12'], ['2,581', '955'], ['2.581', '955'])
    """
    if any("," in cell for cell in cells) and all(not cell or _COMMA_NUMBER.fullmatch(cell) for cell in cells):
        return cells if may_be_thousands(cells, separator) else [cell.replace(",", ".") for cell in cells]
    return cells


def may_be_thousands(cells: Sequence[str], separator: str = "") -> bool:
    """Return whether the signs in the numbers of a column may separate thousands: 2,581, or 2.581 beside 955.

    A comma may if three digits follow each; a point only in a file with `;`, of countries with decimal commas, and if the
    column also has whole numbers of three digits, and none of more.
    """
    if commas := [cell for cell in cells if "," in cell]:
        return separator != ";" and all(map(_THOUSANDS.fullmatch, commas))
    points, whole = [cell for cell in cells if "." in cell], [cell for cell in cells if _WHOLE.fullmatch(cell)]
    like_thousands = bool(points) and all(map(_THOUSANDS.fullmatch, points))
    return separator == ";" and like_thousands and max(map(len, whole), default=0) == 3
