import logging
import re
import time

import pytest

from milpath.records import table_cells
from milpath.records.label_table import read_table
from milpath.records.table_cells import read_cells

ROWS = [["slide_id", "label", "site"], ["S1", "0", "Köln"], ["S2", "1", "Münster, Nord"]]


def write(path, text, encoding="utf-8", mark=b""):
    path.write_bytes(mark + text.encode(encoding))
    return path


def lines(separator, rows=ROWS, end="\n"):
    return end.join(separator.join(f'"{cell}"' if separator in cell else cell for cell in row) for row in rows) + end


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""), ("utf-8-sig", b""), ("utf-16", b""), ("utf-16-le", b""), ("utf-16-be", b""),
        ("utf-16-be", b"\xfe\xff"), ("utf-32", b""), ("cp1252", b""), ("latin-1", b""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_usual_separator_and_encoding_gives_the_same_table(tmp_path, separator, encoding, mark, end):
    cells = read_cells(write(tmp_path / "t.csv", lines(separator, end=end), encoding, mark))
    assert [cells.header, *cells.rows] == ROWS
    assert cells.numbers == [2, 3]


def test_an_encoding_that_is_guessed_is_said(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        read_cells(write(tmp_path / "t.csv", lines(","), "cp1252"))
    assert caplog.messages == [f"{tmp_path / 't.csv'} is not UTF-8; it is read as Windows-1252 (Latin-1)"]


def test_decimal_commas_become_numbers_and_text_with_commas_stays(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "id;age;size;note\nS1;50,5;1;a, b\nS2;60;2;c\n"))
    assert table["age"].tolist() == [50.5, 60.0]
    assert table["size"].tolist() == [1, 2]
    assert table["note"].tolist() == ["a, b", "c"]


@pytest.mark.parametrize(
    ("separator", "cells", "read"),
    [
        (",", ["2,581", "1,983", "955"], None),
        (",", ["2,581"], None),
        (",", ["0,581", "1,983", "5"], [0.581, 1.983, 5]),
        (",", ["2,581", "1,98", "955"], [2.581, 1.98, 955]),
        (",", ["2.581", "1.983", "955"], [2.581, 1.983, 955]),
        (";", ["2,581", "1,983", "955"], [2.581, 1.983, 955]),
        (";", ["2.581", "1.983", "955"], None),
        (";", ["2.581", "1.983", "5"], [2.581, 1.983, 5]),
        (";", ["2.581", "1.983", "9550"], [2.581, 1.983, 9550]),
        (";", ["2.581", "1.983"], [2.581, 1.983]),
    ],
)
def test_what_may_be_thousands_is_no_number_and_none_is_taken_for_a_thousandth(separator, cells, read, tmp_path):
    rows = "".join(f'S{number}{separator}"{cell}"\n' for number, cell in enumerate(cells))
    table = read_table(write(tmp_path / "t.csv", f"id{separator}days\n{rows}"))
    assert table["days"].tolist() == (cells if read is None else read)


def test_digits_of_other_scripts_are_text(tmp_path):
    assert read_table(write(tmp_path / "t.csv", "id,label\nS1,\uff10\nS2,\uff11\n"))["label"].tolist() == [
        "\uff10",
        "\uff11",
    ]


def test_commas_of_decimals_are_not_taken_for_the_separator(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "slide_id;age, years;size, mm\nS1;50,5;1,5\nS2;60,5;2,5\n"))
    assert list(table.columns) == ["bag_id", "age, years", "size, mm"]
    assert table["size, mm"].tolist() == [1.5, 2.5]


def test_blanks_invisible_characters_and_errors_of_formulas_are_removed(tmp_path):
    text = " Slide_ID ,label\u00a0,score\n S1 , high\u200b,#N/A\n\u2060S2,low,3\n"
    cells = read_cells(write(tmp_path / "t.csv", text))
    assert [cells.header, *cells.rows] == [["Slide_ID", "label", "score"], ["S1", "high", ""], ["S2", "low", "3"]]


def test_empty_rows_and_columns_are_no_rows_and_the_numbers_are_those_of_the_file(tmp_path):
    cells = read_cells(write(tmp_path / "t.csv", "id;label;;\nS1;0;;\n;;;\n\nS2;1\n"))
    assert [cells.header, *cells.rows] == [["id", "label"], ["S1", "0"], ["S2", "1"]]
    assert cells.numbers == [2, 5]


def test_a_cell_with_line_breaks_is_one_cell_of_one_row(tmp_path):
    cells = read_cells(write(tmp_path / "t.csv", 'id,note,label\nS1,"first\nsecond",0\nS2,,1\n'))
    assert cells.rows == [["S1", "first\nsecond", "0"], ["S2", "", "1"]]
    assert cells.numbers == [2, 3]


def test_the_line_that_excel_writes_names_the_separator(tmp_path):
    cells = read_cells(write(tmp_path / "t.csv", "sep=|\nid|label, first\nS1|0\n"))
    assert [cells.header, *cells.rows] == [["id", "label, first"], ["S1", "0"]]
    assert cells.numbers == [3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a CSV table (No columns to parse from file): it is empty"),
        (b" \n,,\n", "is not a CSV table (No columns to parse from file): it is empty"),
        (b"id,label\nS1,\x000\x01\n", "its bytes are no text (tried utf-8, which gives the control character \\x00)"),
        (b"\x81\x8d" * 8, "its bytes are no text (tried utf-8, cp1252)"),
        (b"\xff\xfei\x00d", "its bytes are no text (tried utf-16)"),
        (b"\xff\xfe\x00\xd8\x00", "its bytes are no text (tried utf-16)"),
        (b'id,label\n"S1,0\nS2,1\n', "line 2 cannot be read with the separator 'comma'"),
        (b'id,label\n"S1"x,0\nS2,1\n', "line 2 cannot be read with the separator 'comma'"),
        (b"id,label\nS1,0,extra\n", "has 'extra' in row 2, column 3, which has no name in the header (row 1: id, label)"),
        (b"id,label,label\nS1,0,1\n", "has 2 columns called 'label'; rename or delete one of them"),
        (b"\xd0\xcf\x11\xe0rest", "is not a CSV table but an old Excel workbook (.xls) or one with a password"),
        (b"\x1f\x8brest", "is not a CSV table but a gzip archive"),
        (b"%PDF-1.7", "is not a CSV table but a PDF document"),
    ],
)  # fmt: skip
def test_what_is_not_a_table_is_said_in_one_line(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_cells(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))


def test_a_file_too_large_for_a_table_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(table_cells, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"has 0 MB; a table may have"):
        read_cells(write(tmp_path / "t.csv", "id,label\n" + "S1,0\n" * 300))


@pytest.mark.parametrize("first", ["0", "1", "7"])
def test_row_numbers_that_r_and_pandas_write_are_not_a_column(tmp_path, caplog, first):
    with caplog.at_level(logging.INFO):
        cells = read_cells(write(tmp_path / "t.csv", f'"","slide_id","label"\n"{first}","S1","x"\n"12","S2","y"\n'))
    assert [cells.header, *cells.rows] == [["slide_id", "label"], ["S1", "x"], ["S2", "y"]]
    assert "row numbers in its first column, which has no name" in caplog.text


@pytest.mark.parametrize("cells", [("a", "b"), ("1", "1"), ("1.5", "2"), ("1", "")])
def test_any_other_column_without_a_name_is_refused(tmp_path, cells):
    with pytest.raises(ValueError, match="which has no name in the header"):
        read_cells(write(tmp_path / "t.csv", f",slide_id,label\n{cells[0]},S1,x\n{cells[1]},S2,y\n"))


@pytest.mark.parametrize("title", ["Export of 2024", "# exported, by us", '"Cases; all"', "Cases\n\n# of 2024"])
@pytest.mark.parametrize("separator", [",", ";"])
def test_a_title_above_the_header_is_named(tmp_path, title, separator):
    text = f"{title}\n\nSlide ID{separator}label\nS1{separator}0\n"
    with pytest.raises(
        ValueError, match=r"'Slide ID' in row [35], which seems to be the header: delete the rows above"
    ):
        read_table(write(tmp_path / "t.csv", text))


def test_names_of_slides_keep_their_commas(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "slide_id;age\n12,1;50,5\n12,2;60\n"))
    assert table["bag_id"].tolist() == ["12,1", "12,2"]
    assert table["age"].tolist() == [50.5, 60.0]


def test_a_table_of_many_columns_is_read_in_a_time_that_grows_with_them(tmp_path):
    names = ["slide_id", *(f"gene_{number}" for number in range(100_000))]
    path = tmp_path / "genes.csv"
    path.write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    began = time.process_time()
    assert read_cells(path).header == names
    assert time.process_time() - began < 20  # each name compared with each took minutes
