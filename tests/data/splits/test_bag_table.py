import logging

import pandas as pd
import pytest

from milpath.data.splits.bag_table import SplitOptions, label_and_split


def bags(labels) -> pd.DataFrame:
    return pd.DataFrame({"bag_id": [f"S{number}" for number in range(len(labels))], "MSI": labels})


@pytest.mark.parametrize("names", [None, ["MSS", "MSI-H"]])
def test_slides_without_a_label_are_left_out_on_request_whatever_their_cells_say(names, caplog):
    labels = ["MSS", "MSI-H"] * 5 + ["NA", None, "unknown", " "]
    options = SplitOptions(label_column="msi", on_missing_label="skip")
    with caplog.at_level(logging.WARNING):
        table, _ = label_and_split(bags(labels), "label", names, options)
    assert sorted(table["bag_id"]) == [f"S{number}" for number in range(10)]
    assert "left out: 4 of 14 bags have no label in column 'MSI'" in caplog.text


def test_a_class_may_be_called_like_a_missing_value():
    options = SplitOptions(label_column="msi", on_missing_label="skip")
    table, names = label_and_split(bags(["unknown", "MSI-H"] * 5), "label", ["unknown", "MSI-H"], options)
    assert (len(table), names) == (10, ("unknown", "MSI-H"))


@pytest.mark.parametrize("given", ["file", "column"])
def test_a_share_of_the_training_bags_validates_where_a_given_split_has_no_validation(given, tmp_path, caplog):
    table = bags(["MSS", "MSI-H"] * 10).assign(split=["train"] * 15 + ["test"] * 5)
    table.rename(columns={"bag_id": "id"})[["id", "split"]].to_csv(tmp_path / "splits.csv", index=False)
    where = {"splits": str(tmp_path / "splits.csv")} if given == "file" else {"split_column": "split"}
    counts = {}
    for fraction in (None, 0, 0.2):
        options = SplitOptions(label_column="msi", val_fraction=fraction, num_folds=7, **where)
        with caplog.at_level(logging.INFO):
            found, _ = label_and_split(table, "label", None, options)
        counts[fraction] = found["split"].value_counts().to_dict()
    assert counts[None] == counts[0] == {"train": 15, "test": 5}
    assert counts[0.2] == {"train": 13, "test": 5, "val": 2}
    assert "data.num_folds=7 changes nothing: the split is in " in caplog.text
