import re

import pytest

from milpath.records.label_table import labelled_bags, read_table


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
