import logging
import re

import pandas as pd
import pytest

from milpath.data.splits.bag_lists import bag_groups, excluded_bags


def test_real_exclusion_lists_are_counted(shared_data, caplog):
    folder = shared_data / "panda_meta"
    ids = pd.read_csv(folder / "train.csv")["image_id"].tolist()
    with caplog.at_level(logging.INFO):
        excluded = excluded_bags([folder / "suspicious_slides.csv"], ids)
    # The list has 675 rows, but names some slides for two reasons.
    assert len(excluded) == 662
    assert caplog.messages == [f"{folder / 'suspicious_slides.csv'} excludes 662 bags"]


def test_an_unknown_bag_is_reported_and_not_fatal(tmp_path, caplog):
    (tmp_path / "x.csv").write_text("bag_id\na\nz\n")
    with caplog.at_level(logging.WARNING):
        assert excluded_bags([tmp_path / "x.csv"], ["a", "b"]) == {"a"}
    assert caplog.messages == [f"{tmp_path / 'x.csv'} names 1 bags that the data do not have (first: 'z')"]


def test_excluding_everything_is_an_error(tmp_path):
    (tmp_path / "x.csv").write_text("image_id\na\nb\n")
    with pytest.raises(ValueError, match=r"^data.exclude leaves none of 2 bags; check"):
        excluded_bags([tmp_path / "x.csv"], ["a", "b"])


@pytest.mark.parametrize("name", ["duplicates_imghash090_1st_place.csv", "duplicate_groups_lopuhin.csv"])
def test_real_duplicate_groups_are_read(shared_data, name):
    table = pd.read_csv(shared_data / "panda_meta" / "train.csv").rename(columns={"image_id": "bag_id"})
    listed = pd.read_csv(shared_data / "panda_meta" / name)
    groups = pd.Series(bag_groups(table, None, shared_data / "panda_meta" / name), index=table["bag_id"])
    column = "group" if "group" in listed else "group_id"
    for _, part in listed[listed["image_id"].isin(table["bag_id"])].groupby(column):
        assert groups[part["image_id"]].nunique() == 1
    assert groups.nunique() == len(table) - len(listed) + listed[column].nunique()


def test_a_bag_without_a_group_is_its_own():
    bags = pd.DataFrame({"bag_id": ["a", "b", "c", "d"], "patient": ["p", "p", None, None]})
    groups = bag_groups(bags, "patient", None)
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3


def test_no_grouping_is_none():
    assert bag_groups(pd.DataFrame({"bag_id": ["a"]}), None, None) is None


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        ("patient", "image_id,group\na,1\n", "data.group_column and data.groups exclude each other; give one of them"),
        ("hospital", None, "data.group_column=hospital is not in the data; they have bag_id, patient"),
        (None, "image_id,cluster\na,1\n", "{path} has no column 'group'; it has bag_id, cluster"),
        (None, "image_id,group\nz,1\n", "{path} names no bag of the data (first: 'z')"),
    ],
)
def test_bad_groups_are_one_line(tmp_path, column, text, message):
    path = tmp_path / "groups.csv"
    if text:
        path.write_text(text)
    bags = pd.DataFrame({"bag_id": ["a", "b"], "patient": ["p", "q"]})
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(path=path))}$"):
        bag_groups(bags, column, path if text else None)


def test_a_group_file_without_rows_is_an_error(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("image_id,group\n")
    with pytest.raises(ValueError, match=re.escape("groups.csv has a header and no row")):
        bag_groups(pd.DataFrame({"bag_id": ["a"]}), None, path)
