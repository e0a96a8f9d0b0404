import logging
import re

import pandas as pd
import pytest

from milpath.records.label_table import ROW
from milpath.targets.columns.label_columns import bag_labels


def table(values, column="label"):
    names = [f"S{number}" for number in range(len(values))]
    return pd.DataFrame({"bag_id": names, column: values}, index=pd.RangeIndex(2, len(values) + 2, name=ROW))


def test_words_are_sorted_unless_their_order_is_given(caplog):
    with caplog.at_level(logging.INFO):
        labels, names = bag_labels(table(["MSS", "MSI-H", "MSS"]), "label")
        assert (labels.tolist(), names) == ([1, 0, 1], ("MSI-H", "MSS"))
        labels, names = bag_labels(table(["MSS", "MSI-H", "MSS"]), "label", ["MSS", "MSI-H"])
        assert (labels.tolist(), names) == ([0, 1, 0], ("MSS", "MSI-H"))
    assert caplog.messages == [
        "classes of column 'label': 0 = MSI-H, 1 = MSS; the class to detect is MSS (sorted; another order: "
        "data.class_names=[...])",
        "classes of column 'label': 0 = MSS, 1 = MSI-H; the class to detect is MSI-H (order of data.class_names)",
    ]


def test_words_keep_the_order_of_a_trained_network_and_unknown_ones_are_named():
    labels, names = bag_labels(table(["low", "LOW", "high"]), "label", trained_names=["low", "high"])
    assert (labels.tolist(), names) == ([0, 0, 1], ("low", "high"))
    assert bag_labels(table(["high", "high"]), "label", trained_names=["low", "high"])[0].tolist() == [1, 1]
    message = (
        "column 'label' has 'lwo', 'maybe', not one of the classes of the network (low, high): slide 'S1' in row 3, 'S2' in "
        "row 4; did you mean 'low'? "
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        bag_labels(table(["low", "lwo", "maybe"]), "label", trained_names=["low", "high"])
    with pytest.raises(ValueError, match=re.escape("has 'high', not one of data.class_names (low, mid)")):
        bag_labels(table(["low", "high"]), "label", ["low", "mid"])


def test_a_word_for_a_missing_value_can_be_the_name_of_a_class():
    values = ["NA", "MSS", "none"]
    assert bag_labels(table(values), "label", ["MSS", "NA", "None"])[0].tolist() == [1, 0, 2]
    assert bag_labels(table(["MSI\u2011H", "mss"]), "label", ["MSS", "MSI-H"])[0].tolist() == [1, 0]


def test_numbers_can_be_names_of_classes():
    for values in ([1, 2, 1], [1.0, 2.0, 1.0], ["1", "2", "1"]):
        labels, names = bag_labels(table(values), "label", [1, 2])
        assert (labels.tolist(), names) == ([0, 1, 0], ("1", "2"))
    labels, _ = bag_labels(table(["0", "1+", "3+"]), "label", ["0", "1+", "2+", "3+"])
    assert labels.tolist() == [0, 1, 3]
    assert bag_labels(table([True, False]), "label")[1] == ("False", "True")


def test_numbers_that_are_not_names_are_positions():
    labels, names = bag_labels(table([0, 1, 2]), "label", ["a", "b", "c"])
    assert (labels.tolist(), names) == ([0, 1, 2], ("a", "b", "c"))
    # Numbers say nothing about the words of a network.
    assert bag_labels(table([0, 1]), "label", trained_names=["benign", "malignant"])[1] == ("0", "1")
    assert bag_labels(table([0, 2]), "label", trained_names=["0", "1", "2"])[1] == ("0", "1", "2")


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ([1, 2], None, "labels start at 1 (column 'label' has 1, 2); classes count from 0: subtract 1 in the table, or name "
                       "the classes as the table does with data.class_names=[1,2]"),
        ([1, 2], ["low", "high"], "labels start at 1 (column 'label' has 1, 2)"),
        ([1, 2, 3], None, "labels start at 1 (column 'label' has 1, 2, 3)"),
        ([0, 2], None, "but no slide has label 1; classes count from 0 without a gap"),
        ([0, 70000], None, "but no slide has label 1"),
        ([-1, 1], None, "column 'label' has the labels -1, 1; classes count from 0: name the classes as the table does with "
                        "data.class_names=[-1,1]"),
        (["a", "a"], None, "all 2 slides have the label 'a' in column 'label'"),
        (["a", "A"], None, "has 'A' and 'a', which differ only in capitals"),
        ([f"name {number}" for number in range(20)], None, "has 20 different words for 20 slides"),
        (["a", None, "  ", "b"], None, "2 of 4 slides have no label: the cell in column 'label' is empty ('S1' in row 3, "
                                       "'S2' in row 4)"),
        (["MSS", "NA", "MSI", None], None, "2 of 4 slides have no label: the cell in column 'label' is empty or 'NA' ('S1' in "
                                           "row 3, 'S3' in row 5); fill it in, or leave such slides out with "
                                           "data.on_missing_label=skip; if NA is a class, name all classes"),
        (["0", "1", "NA"], None, "1 slide has no label: its cell in column 'label' is 'NA' ('S2' in row 4)"),
        (["pos", "neg", "Unknown", "?"], ["neg", "pos"], "is '?' or 'Unknown' ('S2' in row 4, 'S3' in row 5)"),
        (["MSI-H", "MSI\u2013H", "MSS"], None, "'MSI-H' and 'MSI\\u2013H', which differ only in capitals, blanks or dashes"),
        (["MSI high", "MSI  high", "MSS"], None, "'MSI  high' and 'MSI high', which differ only in capitals, blanks or dashes"),
        (["0", "0.5"], None, "label '0.5' of slide 'S1' is not a whole number"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_class_is_explained_with_what_to_type(values, names, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        bag_labels(table(values), "label", names)
    assert "\n" not in str(error.value)


def test_the_column_of_the_labels_can_be_named_for_every_target():
    assert bag_labels(table(["a", "b"], "MSI Status"), "label", column="msi_status")[0].tolist() == [0, 1]
    assert bag_labels(table([0, 3], "ISUP"), "malignant", column="ISUP")[0].tolist() == [0, 1]
    with pytest.raises(
        ValueError, match=r"needs the column 'label'; the data have bag_id, MSI; choose one with data.label"
    ):
        bag_labels(table([0, 1], "MSI"), "label")
