import json
import logging
import re

import numpy as np
import pandas as pd
import pytest

from milpath.data.splits.bag_lists import bag_groups, excluded_bags, read_split

IDS = np.array(["a", "b", "c"])


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
    assert caplog.messages == [f"{tmp_path / 'x.csv'} names 1 bags that are not in the data (first: 'z')"]


def test_excluding_everything_is_an_error(tmp_path):
    (tmp_path / "x.csv").write_text("image_id\na\nb\n")
    with pytest.raises(ValueError, match=r"^data.exclude excludes all 2 bags; check"):
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


def test_rows_that_mean_a_bag_under_another_name_are_refused(tmp_path, caplog):
    (tmp_path / "groups.csv").write_text("slide_id,group\na,P1\nb-scan,P1\n")
    bags = pd.DataFrame({"bag_id": ["a", "b"]})
    message = (
        "has no group for 1 of 2 bags (first: 'b'), but names 1 that are not in the data (first: 'b-scan'), such as "
        "'b-scan' for 'b'; name bags as the data do"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        bag_groups(bags, None, tmp_path / "groups.csv", known=())
    # An excluded bag, a table of more bags, and a table of some.
    assert bag_groups(bags, None, tmp_path / "groups.csv", known=["b-scan"]).tolist() == ["group P1", "bag b"]
    assert bag_groups(bags[:1], None, tmp_path / "groups.csv", known=()).tolist() == ["group P1"]
    assert not caplog.messages
    # Slides of a larger cohort, of which some belong together.
    (tmp_path / "groups.csv").write_text("slide_id,group\nS2,P1\nS10,P1\n")
    bags = pd.DataFrame({"bag_id": ["S2", "S1"]})
    assert bag_groups(bags, None, tmp_path / "groups.csv", known=()).tolist() == ["group P1", "bag S1"]
    (said,) = caplog.messages
    assert said.endswith("(first: 'S10'): each bag without a row counts as a group of its own")


def test_empty_cells_of_the_patients_are_said(caplog):
    bags = pd.DataFrame({"bag_id": ["a", "b", "c"], "patient": ["P1", None, None]})
    with caplog.at_level(logging.WARNING):
        bag_groups(bags, "patient", None, known=())
    assert caplog.messages == [
        "column 'patient' is empty for 2 of 3 bags ('b', 'c'): each counts as a patient of its own; fill the cells in"
    ]


def test_an_empty_cell_leaves_the_numbers_of_patients_as_they_are():
    bags = pd.DataFrame({"bag_id": ["a", "b", "c"], "patient": [7, 10, None]})
    assert bag_groups(bags, "patient", None).tolist() == ["group 7", "group 10", "bag c"]
    assert bag_groups(bags.assign(patient=[0.5, 1, None]), "patient", None).tolist() == [
        "group 0.5",
        "group 1.0",
        "bag c",
    ]


def test_a_patient_whose_name_two_systems_wrote_is_one():
    bags = pd.DataFrame({"bag_id": ["a", "b"], "patient": ["M\u00fcller", "Mu\u0308ller"]})
    assert len(set(bag_groups(bags, "patient", None))) == 1


def test_no_grouping_is_none():
    assert bag_groups(pd.DataFrame({"bag_id": ["a"]}), None, None) is None


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        (
            "patient",
            "image_id,group\na,1\n",
            "data.group_column and data.groups are mutually exclusive; set only one of them",
        ),
        (
            "hospital",
            None,
            "data.group_column=hospital is not in the data; they have bag_id, patient (with data.aggregate it is "
            "data.patient_column unless given)",
        ),
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
    with pytest.raises(ValueError, match=re.escape("groups.csv has a header but no rows")):
        bag_groups(pd.DataFrame({"bag_id": ["a"]}), None, path)


def write(path, text):
    path.write_text(text)
    return path


def test_a_file_gives_each_bag_its_split_whatever_the_order(tmp_path):
    path = write(tmp_path / "splits.csv", "id,split,label\nc,test,0\na,train,1\nb,val,0\n")
    assert read_split(path, IDS).tolist() == ["train", "val", "test"]


def test_one_fold_of_several_is_read(tmp_path):
    path = write(
        tmp_path / "s.csv", "image_id,split,fold\na,train,0\nb,test,0\nc,test,0\na,test,1\nb,train,1\nc,train,1\n"
    )
    assert read_split(path, IDS, fold=1).tolist() == ["test", "train", "train"]
    with pytest.raises(ValueError, match=r"has no rows of fold 2; it has the folds 0, 1$"):
        read_split(path, IDS, fold=2)


def test_a_fold_of_a_file_with_one_split_changes_nothing_and_is_said(tmp_path, caplog):
    (tmp_path / "s.csv").write_text("id,split\na,train\nb,val\nc,test\n")
    with caplog.at_level(logging.WARNING):
        assert read_split(tmp_path / "s.csv", IDS, fold=2).tolist() == ["train", "val", "test"]
    assert caplog.messages == [
        f"data.fold=2 changes nothing: {tmp_path / 's.csv'} has one split, without a column 'fold'"
    ]
    caplog.clear()
    read_split(tmp_path / "s.csv", IDS)
    assert not caplog.messages


def test_the_column_of_folds_is_found_in_any_capitals(tmp_path):
    path = tmp_path / "folds.csv"
    path.write_text("ID;Fold;Split\na;0;train\na;1;test\nb;0;test\nb;1;train\n")
    assert read_split(path, np.array(["a", "b"]), fold=1).tolist() == ["test", "train"]


def test_bags_that_a_file_does_not_name_are_counted_and_not_used(tmp_path, caplog):
    path = write(tmp_path / "splits.csv", "id,split\na,train\n")
    with caplog.at_level(logging.WARNING):
        assert read_split(path, IDS).tolist() == ["train", "", ""]
    assert caplog.messages == [f"{path} does not name 2 of 3 bags: they are not used"]


def test_excluded_bags_may_be_in_the_file(tmp_path):
    path = write(tmp_path / "splits.csv", "id,split\na,train\nb,val\nc,test\nx,test\n")
    assert read_split(path, IDS, known={"x"}).tolist() == ["train", "val", "test"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,split\nx,train\ny,test\na,val\n",
         "2 of 3 bags in {path} are not in the data (first: 'x', ...), whose bags are 'a', ...; the file belongs to another data set"),
        ("id,split\na,training\n", "{path} has the split 'training'; it must be one of train, val, test"),
        ("id,split\na,train\na,test\n", "{path} names 'a' more than once; a file with several folds needs the column 'fold'"),
        ("id,part\na,train\n", "{path} has no column 'split'; it has id, part"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_one_line(tmp_path, text, message):
    path = write(tmp_path / "splits.csv", text)
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(path=path))}$"):
        read_split(path, IDS)


def test_a_split_file_survives_identifiers_that_look_like_numbers(tmp_path):
    pd.DataFrame({"id": ["007", "7"], "split": ["train", "test"]}).to_csv(tmp_path / "s.csv", index=False)
    assert read_split(tmp_path / "s.csv", np.array(["7", "007"])).tolist() == ["test", "train"]


def test_lists_of_slides_are_read_as_clam_writes_them(tmp_path):
    path = write(tmp_path / "splits_0.csv", ",train,val,test\n0,c,b,a\n1,d,,\n")
    assert read_split(path, np.array(["a", "b", "c", "d"])).tolist() == ["test", "val", "train", "train"]
    path = write(tmp_path / "short.csv", "train,test\nc.svs,a.svs\nb.svs,\n")
    assert read_split(path, IDS).tolist() == ["test", "train", "train"]
    twice = write(tmp_path / "twice.csv", "train,val,test\nc,b,a\na,,\n")
    with pytest.raises(ValueError, match="names 'a' more than once"):
        read_split(twice, IDS)


def test_numbers_of_slides_to_which_decimals_were_added_are_explained(tmp_path):
    """Where the lists of CLAM have unequal lengths, pandas writes numbers with decimals."""
    path = write(tmp_path / "splits_0.csv", ",train,val,test\n0,11,12.0,13.0\n1,14,,\n")
    with pytest.raises(ValueError, match=r"2 of 4 bags .* '12.0' may be '12': spreadsheet programs add decimals"):
        read_split(path, np.array(["11", "12", "13", "14"]))


FOLDS = """case_id\tslide_id\tBAP1\tfold_0\tfold_1
p1\ta\t0\ttrain\ttest
p1\tb\t0\ttrain\ttest
p2\tc\t1\ttest\ttrain
"""


def test_a_column_for_each_fold_is_read_as_patho_bench_writes_them(tmp_path):
    path = write(tmp_path / "k=all.tsv", FOLDS)
    assert read_split(path, IDS).tolist() == ["train", "train", "test"]
    assert read_split(path, IDS, fold=1).tolist() == ["test", "test", "train"]
    with pytest.raises(ValueError, match=r"has no rows of fold 2; it has the folds 0, 1$"):
        read_split(path, IDS, fold=2)
    assert read_split(path, np.array(["p2", "p1"]), fold=1).tolist() == ["train", "test"]
    path.write_text(FOLDS.replace("b\t0\ttrain", "b\t0\ttest"))
    with pytest.raises(ValueError, match="puts slides of 'p1' .column 'case_id'. in more than one split"):
        read_split(path, np.array(["p2", "p1"]))


def test_the_split_of_stamp_names_patients_fold_by_fold(tmp_path):
    folds = [
        {"train_patients": ["a", "b"], "test_patients": ["c"]},
        {"train_patients": ["c"], "test_patients": ["b", "a"]},
    ]
    path = write(tmp_path / "splits.json", json.dumps({"splits": folds}))
    assert read_split(path, IDS).tolist() == ["train", "train", "test"]
    assert read_split(path, IDS, fold=1).tolist() == ["test", "test", "train"]
    for text in ("{}", '{"splits": []}', '{"splits": [{"train_patients": ["a"]}]}', '{"splits": [1]}'):
        path.write_text(text)
        with pytest.raises(
            ValueError, match=r"splits.json is not a split of STAMP, .*give such a file, or a CSV with id and"
        ):
            read_split(path, IDS)


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_other_text_is_no_split_of_stamp(text, tmp_path):
    with pytest.raises(ValueError, match="splits.json"):
        read_split(write(tmp_path / "splits.json", text), IDS)


def test_a_split_without_a_column_of_bags_says_what_to_rename(tmp_path):
    path = write(tmp_path / "splits.csv", "sample_id,split\na,train\n")
    with pytest.raises(ValueError, match="it has sample_id, split; rename the one that does to bag_id$"):
        read_split(path, IDS)
