import logging
import re

import pandas as pd
import pytest

from milpath.targets import Regression, Survival
from milpath.targets.columns.label_columns import bag_labels, bag_numbers, columns_read, task_of


def table(**columns):
    length = len(next(iter(columns.values())))
    return pd.DataFrame({"bag_id": [f"slide_{number}" for number in range(length)], **columns})


def test_isup_of_one_or_more_is_malignant():
    labels, names = bag_labels(table(isup_grade=[0, 1, 2, 3, 4, 5]), "malignant")
    assert labels.tolist() == [0, 1, 1, 1, 1, 1]
    assert names == ("benign", "malignant")


def test_isup_has_six_classes():
    labels, names = bag_labels(table(isup_grade=[5, 0, 3]), "isup")
    assert labels.tolist() == [5, 0, 3]
    assert names == ("isup_0", "isup_1", "isup_2", "isup_3", "isup_4", "isup_5")


def test_names_can_be_given():
    assert bag_labels(table(label=[0, 1, 2]), "label", ["a", "b", "c"])[1] == ("a", "b", "c")
    assert bag_labels(table(label=[0, 0]), "label")[1] == ("0", "1")


@pytest.mark.parametrize(
    ("columns", "target", "names", "message"),
    [
        ({"label": [0, 6]}, "label", ["a", "b", "c", "d", "e", "f"],
         "label 6 of slide 'slide_1' is not in 0..5; data.class_names has 6 names"),
        ({"isup_grade": [0, 7]}, "isup", None, "label 7 of slide 'slide_1' is not in 0..5; an ISUP grade is 0 to 5"),
        ({"isup_grade": [-1, 2]}, "malignant", None, "label -1 of slide 'slide_0' is not in 0..5; an ISUP grade is 0 to 5"),
        ({"label": [0, 0.5]}, "label", None,
         "label '0.5' of slide 'slide_1' is not a whole number; column 'label' of the labels must hold 0, 1, ..., or the words in data.class_names=[...]"),
        ({"label": [0, None]}, "label", None,
         "1 slide has no label: its cell in column 'label' is empty ('slide_1'); fill it in, or leave such slides out with "
         "data.on_missing_label=skip"),
        ({"label": [0, "yes"]}, "label", None,
         "label 'yes' of slide 'slide_1' is not a whole number; column 'label' of the labels must hold 0, 1, ..., or the words in data.class_names=[...]"),
        ({"label": [0, 1]}, "malignant", None,
         "data.target=malignant needs the column 'isup_grade'; the data have bag_id, label; choose one with "
         "data.label_column=NAME"),
        ({"label": [0, 1]}, "grade", None, "data.target is 'grade'; it must be one of label, malignant, isup"),
        ({"label": [1, 2]}, "label", ["I", "II", "III"],
         "column 'label' has 1, 2, but no 0: with data.class_names=[I,II,III], whose classes count from 0, label 1 would be 'II'; "
         "subtract 1 in the table, write the names into it, or name the classes as it does: data.class_names=[1,2]"),
        ({"label": [0, 1, 2]}, "label", ["1", "2", "3"],
         "column 'label' has 0, 1, 2, which are not all in data.class_names=[1,2,3]; name the classes as the table does"),
        ({"label": [0, 1]}, "label", ["1", "2"],
         "column 'label' has 0, 1, which are not all in data.class_names=[1,2]; name the classes as the table does"),
        ({"isup_grade": [0, 1]}, "isup", ["low", "high"],
         "data.target=isup has 6 classes, but data.class_names has 2 names: 'low', 'high'"),
    ],
)  # fmt: skip
def test_a_bad_label_is_named_in_one_line(columns, target, names, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        bag_labels(table(**columns), target, names)


def test_the_task_follows_from_the_classes_unless_it_is_given():
    assert task_of(None, ["a", "b"]) == "binary"
    assert task_of(None, ["a", "b", "c"]) == "nominal"
    assert task_of("ordinal", ["a", "b", "c"]) == "ordinal"


@pytest.mark.parametrize(
    ("task", "names", "message"),
    [
        ("binary", ["a", "b", "c"], "data.task=binary does not fit 3 classes (a, b, c)"),
        ("ordinal", ["a", "b"], "data.task=ordinal does not fit 2 classes (a, b)"),
        (
            "counting",
            ["a", "b"],
            "data.task is 'counting'; it must be one of binary, nominal, ordinal, regression, survival, several, multilabel, or null",
        ),
    ],
)
def test_a_task_that_does_not_fit_is_refused(task, names, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        task_of(task, names)


def test_two_classes_cannot_share_a_name():
    with pytest.raises(ValueError, match=re.escape("data.class_names has a name twice: a, a")):
        bag_labels(table(label=[0, 1]), "label", ["a", "a"])


def test_names_of_numbers_are_said_and_classes_may_lack_bags(caplog):
    with caplog.at_level(logging.INFO):
        labels, _ = bag_labels(table(label=[0, 2]), "label", ["I", "II", "III"])
    assert labels.tolist() == [0, 2]
    assert caplog.messages == ["classes of column 'label': 0 = I, 1 = II, 2 = III (order of data.class_names)"]
    assert bag_labels(table(label=[1, 1]), "label", ["benign", "malignant"])[0].tolist() == [1, 1]
    # Slides of another hospital, without the first class.
    names = ["I", "II", "III"]
    assert bag_labels(table(label=[1, 2]), "label", names, trained_names=names)[0].tolist() == [1, 2]


def test_columns_of_other_data_are_given_for_each_that_the_target_names():
    assert columns_read(Survival(), {"event": "dead"}, "label") == ("time", "dead")
    assert columns_read(Regression(["a", "b"]), {"b": "a", "a": "b"}, "label") == ("b", "a")
    assert columns_read(None, None, "isup_grade") == ("isup_grade",)
    with pytest.raises(ValueError, match="has 'tme', which is no column of the target; it reads time, event"):
        columns_read(Survival(), {"tme": "os"}, "label")
    with pytest.raises(
        ValueError, match="is for a target of several columns; give data.label_column=NAME of the classes"
    ):
        bag_labels(table(label=[0, 1]), "label", column={"label": "msi"})


def test_a_missing_column_of_several_names_the_option_that_chooses_it():
    bags = pd.DataFrame({"bag_id": ["a"], "days": [1], "event": [1]})
    with pytest.raises(
        ValueError, match=r"choose one with target.time_column=NAME, or for a trained network data.label"
    ):
        bag_numbers(bags, Survival(), None, "label")
