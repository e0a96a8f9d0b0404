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
