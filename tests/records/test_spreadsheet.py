import datetime
import re
import sys
import zipfile

import pytest

from milpath.records import spreadsheet
from milpath.records.label_table import read_table

openpyxl = pytest.importorskip("openpyxl")
pyarrow = pytest.importorskip("pyarrow")
ROWS = [
    ("Slide ID", "label", "seen", "age", None),
    ("007", "high", True, 50.5, None),
    (8, "low", False, 60.0, None),
    (None, None, None, None, None),
    ("S 9 ", None, None, datetime.datetime(2024, 5, 1), None),
]


def write_book(path, rows=ROWS):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.create_sheet("second").append(["id", "label"])
    book.save(path)
    return path


def test_the_first_sheet_of_a_workbook_is_a_table(tmp_path):
    table = read_table(write_book(tmp_path / "labels.xlsx"))
    assert table["bag_id"].tolist() == ["007", "8", "S 9"]
    assert table["label"].tolist()[:2] == ["high", "low"]
    assert table["label"].isna().tolist() == [False, False, True]
    assert table["age"].tolist() == ["50.5", "60", "2024-05-01"]
    assert table["seen"].tolist()[:2] == ["True", "False"]
    assert table.index.tolist() == [2, 3, 5]


def test_a_hidden_sheet_is_not_read_and_the_one_that_is_is_named(tmp_path, caplog):
    book = openpyxl.Workbook()
    book.active.title, book.active.sheet_state = "old", "hidden"
    for name, label in (("old", "wrong"), ("corrected", "right")):
        sheet = book[name] if name in book.sheetnames else book.create_sheet(name)
        for row in (("id", "label"), ("a", label)):
            sheet.append(row)
    book.active = 1
    book.save(tmp_path / "t.xlsx")
    with caplog.at_level("INFO"):
        assert read_table(tmp_path / "t.xlsx")["label"].tolist() == ["right"]
    assert caplog.messages == [f"{tmp_path / 't.xlsx'} has 2 sheets; 'corrected' is read, the first that is not hidden"]


def test_a_workbook_is_recognised_whatever_its_name(tmp_path):
    assert len(read_table(write_book(tmp_path / "labels.xlsx").rename(tmp_path / "labels.csv"))) == 3


def test_a_formula_has_the_value_that_excel_computed(tmp_path):
    path = write_book(tmp_path / "t.xlsx", [("id", "label"), ("a", "=1+1"), ("b", "#N/A")])
    assert read_table(path)["label"].isna().all()  # never computed: no value, rather than the text of the formula


def test_a_parquet_file_is_a_table(tmp_path):
    import pyarrow.parquet

    columns = {"slide_id": ["007", "8"], "label": [0.0, 1.0], "word": ["a", None], "__index_level_0__": [4, 5]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert list(table.columns) == ["bag_id", "label", "word"]
    assert table["bag_id"].tolist() == ["007", "8"]
    assert table["label"].tolist() == [0, 1]
    assert table["word"].isna().tolist() == [False, True]


@pytest.mark.parametrize(("package", "name"), [("openpyxl", "t.xlsx"), ("pyarrow", "t.parquet")])
def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch, package, name):
    path = tmp_path / name
    if package == "pyarrow":
        path.write_bytes(b"PAR1")
    else:
        write_book(path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ModuleNotFoundError, match=re.escape(f"needs {package}; install it with pip install 'milpath[tables]'")
    ):
        read_table(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = write_book(tmp_path / "t.xlsx")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/large.bin", bytes(20 << 20))
    assert path.stat().st_size < 1 << 16
    monkeypatch.setattr(spreadsheet, "MAX_UNPACKED", 10 << 20)
    with pytest.raises(ValueError, match=r"unpacks to 21 MB, more than 10 MB"):
        read_table(path)
    monkeypatch.setattr(spreadsheet, "MAX_CELLS", 7)
    with pytest.raises(ValueError, match=r"has more than 7 cells"):
        read_table(write_book(tmp_path / "many.xlsx"))


@pytest.mark.parametrize("comment", [b"", b"<!--" + b"x" * (1 << 20) + b"-->"])
def test_entities_in_a_workbook_are_refused(tmp_path, comment):
    path = write_book(tmp_path / "t.xlsx")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    entities = b'<?xml version="1.0"?>' + comment + b'<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]>'
    members["xl/worksheets/sheet1.xml"] = entities + members["xl/worksheets/sheet1.xml"]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=r"declares XML entities in xl/worksheets/sheet1.xml"):
        read_table(path)


def test_a_sheet_that_is_no_xml_is_one_line_with_the_name_of_its_file(tmp_path):
    path = write_book(tmp_path / "t.xlsx")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["xl/worksheets/sheet1.xml"] = members["xl/worksheets/sheet1.xml"].replace(b"</sheetData>", b"")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=r"^[^\n]*t.xlsx is a damaged workbook [^\n]*$"):
        read_table(path)


def test_damaged_files_are_one_line(tmp_path):
    path = write_book(tmp_path / "t.xlsx")
    content = path.read_bytes()
    for size in range(8, len(content), 400):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"^.*t\.xlsx .*$"):
            read_table(path)
    (tmp_path / "t.parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    with pytest.raises(ValueError, match="is a damaged Parquet file"):
        read_table(tmp_path / "t.parquet")
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("labels.csv", "id,label\na,0\n")
    with pytest.raises(ValueError, match="is a zip archive, not an Excel workbook"):
        read_table(tmp_path / "t.zip")


def write_parquet(path, **columns):
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path, store_schema=False)
    return path


def test_a_text_that_is_stored_once_and_repeated_in_each_row_is_refused_before_it_fills_the_memory(tmp_path):
    import pyarrow

    rows, text = 1000, "x" * 1_000_000
    notes = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * rows, pyarrow.int32()), [text])
    path = write_parquet(tmp_path / "t.parquet", slide_id=[str(row) for row in range(rows)], notes=notes)
    assert path.stat().st_size < 200_000
    with pytest.raises(ValueError, match="has more than 537 million characters; save the columns you need"):
        read_table(path)
    fixed = pyarrow.array([b"x" * 1_000_000], pyarrow.binary(1_000_000)).take(pyarrow.array([0] * 600))
    with pytest.raises(ValueError, match="more than a label table may have"):
        read_table(write_parquet(path, slide_id=[str(row) for row in range(600)], notes=fixed))


def test_lists_of_a_parquet_file_are_not_read_and_texts_keep_their_rows(tmp_path):
    import pyarrow

    kinds = pyarrow.array(["a", None, "b", "a"]).dictionary_encode()
    columns = {
        "slide_id": ["1", "2", "3", "4"],
        "label": kinds,
        "vector": [[0] * 9, [], None, [1]],
        "record": [{"a": 1}] * 4,
    }
    table = read_table(write_parquet(tmp_path / "t.parquet", **columns))
    assert [*table] == ["bag_id", "label"]
    assert [*table["label"].fillna("")] == ["a", "", "b", "a"]
    many = [[0] * 20_000_001]
    with pytest.raises(ValueError, match="more than a label table may have"):
        read_table(
            write_parquet(
                tmp_path / "t.parquet", slide_id=["1"], vector=pyarrow.array(many, pyarrow.list_(pyarrow.int8()))
            )
        )


def test_what_a_parquet_file_cannot_be_read_for_is_one_line_with_its_name(tmp_path):
    import pyarrow

    far = pyarrow.array([2**62], pyarrow.int64()).cast(pyarrow.timestamp("s"), safe=False).cast(pyarrow.int64())
    path = write_parquet(tmp_path / "t.parquet", slide_id=["1"], day=far.cast(pyarrow.timestamp("us")))
    with pytest.raises(ValueError, match="t.parquet is a damaged Parquet file"):
        read_table(path)
