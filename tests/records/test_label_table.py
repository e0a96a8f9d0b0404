import re

import pytest

from milpath.records.label_table import find_column, labelled_bags, read_table, require_column


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_the_naming_column_is_called_bag_id_whatever_it_was(tmp_path):
    for name in ("bag_id", "image_id", "slide_id", "id"):
        table = read_table(write(tmp_path / f"{name}.csv", f"label,{name}\n1,007\n"))
        assert table["bag_id"].tolist() == ["007"]


def test_only_an_empty_cell_is_missing(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "image_id,gleason_score\nnull,NA\nb,\n"))
    assert table["bag_id"].tolist() == ["null", "b"]
    assert table["gleason_score"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,label\na,1\n", "has no column that identifies the bags; expected one of bag_id, image_id, slide_id, id, it has slide, label"),
        ("image_id,score\na,1\n", "has no column 'label'; it has image_id, score"),
        ("image_id,label\na,1\na,0\nb,1\n", "has 1 bag(s) in more than one row (first: 'a')"),
        ("image_id,label\na,1\n,0\n", "has no image_id in row 3"),
        ("", "is not a CSV table (No columns to parse from file)"),
        ('image_id,label\n"a,1\n', "is not a CSV table"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_one_line(tmp_path, text, message):
    path = write(tmp_path / "labels.csv", text)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_table(path, required=("label",))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no label table at .*labels.csv; give the path of a CSV file$"):
        read_table(tmp_path / "labels.csv", what="label table")


def test_binary_rubbish_is_no_table(tmp_path):
    (tmp_path / "labels.csv").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(ValueError, match=r"labels.csv"):
        read_table(tmp_path / "labels.csv")


def test_bags_come_with_plain_values(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "image_id,label,provider\na,1,x\nb,0,y\n"))
    assert list(labelled_bags(table)) == [("a", {"label": 1, "provider": "x"}), ("b", {"label": 0, "provider": "y"})]
    assert type(next(labelled_bags(table))[1]["label"]) is int


def test_the_naming_column_is_found_in_other_capitals_or_named(tmp_path):
    for header in ("Slide_ID", "SLIDE ID", "slide-id", " Image Id "):
        assert read_table(write(tmp_path / "t.csv", f"{header},label\na,1\n"))["bag_id"].tolist() == ["a"]
    path = write(tmp_path / "t.csv", "Name,slide_id,bag_id,label\na,x,p,1\nb,x,p,0\n")
    table = read_table(path, id_column="name")
    assert table["bag_id"].tolist() == ["a", "b"]
    assert table[find_column(table.columns, "bag_id")].tolist() == ["p", "p"]
    with pytest.raises(
        ValueError, match=re.escape("has no column 'file' (data.id_column); it has Name, slide_id, bag_id")
    ):
        read_table(path, id_column="file", id_option="data.id_column")


def test_a_table_without_a_naming_column_is_told_which_column_could_be_it(tmp_path):
    path = write(tmp_path / "t.csv", "label,name\n0,a\n0,b\n")
    with pytest.raises(ValueError, match=r"it has label, name; say which column it is with data.id_column=name$"):
        read_table(path, id_option="data.id_column")


def test_rows_that_occur_twice_are_named_with_their_rows(tmp_path):
    path = write(tmp_path / "t.csv", "id,label\na,1\nb,1\n a ,0\na,1\n")
    with pytest.raises(ValueError, match=re.escape("(first: 'a'), in rows 2, 4 and 5; keep one row per bag")):
        read_table(path)


def test_a_name_that_a_spreadsheet_rounded_is_refused(tmp_path):
    path = write(tmp_path / "t.csv", "id;label\nS1;0\n1,23E+11;1\n")
    with pytest.raises(
        ValueError, match=re.escape("has the id '1,23E+11' in row 3: a spreadsheet program has rounded it")
    ):
        read_table(path)


def test_numbers_are_numbers_only_if_all_cells_are(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "id,a,b,c,d,e\nx,1,1.5,1,nan,\ny,2,,one,2,\n"))
    assert table["a"].dtype == "int64"
    assert table["b"].tolist()[0] == 1.5
    assert table["c"].tolist() == ["1", "one"]
    assert table["d"].tolist() == ["nan", "2"]
    assert table["e"].isna().all()


def test_a_column_that_does_not_exist_is_named_with_the_most_similar_one():
    with pytest.raises(ValueError, match=r"the data have id, MSI_status; did you mean 'MSI_status'\?$"):
        require_column(["id", "MSI_status"], "msi_stat", "data.target=label")
