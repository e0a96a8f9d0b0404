import re

import numpy as np
import pandas as pd
import pytest

from milpath.records.prediction_table import Predictions, read_predictions


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 4)
    return Predictions(
        bag_ids=["007", "b", 'c "quoted", with comma', "d"],
        splits=["val", "test", "test", "test"],
        labels=np.array([0, 2, -1, 1]),
        probabilities=probabilities,
        attention=[rng.dirichlet(np.ones(length)).astype(np.float32) for length in (3, 1, 5, 2)],
        class_names=["benign", "low grade", "high"],
    )


def test_what_is_written_is_read_again(predictions, tmp_path):
    predictions.write_csv(tmp_path / "predictions.csv")
    again = read_predictions(tmp_path / "predictions.csv")
    assert list(again.bag_ids) == list(predictions.bag_ids)
    assert list(again.splits) == list(predictions.splits)
    assert again.labels.tolist() == [0, 2, -1, 1]
    assert list(again.class_names) == ["benign", "low grade", "high"]
    np.testing.assert_allclose(again.probabilities, predictions.probabilities, rtol=1e-8)
    for one, other in zip(again.attention, predictions.attention, strict=True):
        assert np.array_equal(one.astype(np.float32), other)
    assert again.predicted_labels.tolist() == predictions.probabilities.argmax(1).tolist()


def test_the_columns_are_those_that_others_script_against(predictions, tmp_path):
    predictions.write_csv(tmp_path / "predictions.csv")
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert list(table.columns) == [
        "id", "split", "label", "predicted", "probability_benign", "probability_low grade", "probability_high", "attention",
    ]  # fmt: skip


def test_writing_twice_gives_equal_files_and_leaves_no_other(predictions, tmp_path):
    predictions.write_csv(tmp_path / "a.csv")
    predictions.write_csv(tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_one_split_can_be_taken_out(predictions):
    test = predictions.of_split("test")
    assert len(test) == 3
    assert list(test.bag_ids) == ["b", 'c "quoted", with comma', "d"]
    assert len(test.attention[1]) == 5


def test_a_threshold_other_than_a_half_shows_in_what_is_predicted(predictions, tmp_path):
    chosen = np.array([2, 2, 0, 0])
    changed = Predictions(**(vars(predictions) | {"predicted": chosen}))
    changed.write_csv(tmp_path / "p.csv")
    assert read_predictions(tmp_path / "p.csv").predicted_labels.tolist() == chosen.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,split,label,predicted,attention\na,test,0,0,[1]\n", "has no column probability_<class>"),
        ("id,split,label,predicted,probability_a\na,test,0,0,1\n", "has no column 'attention'"),
        (
            "id,split,label,predicted,probability_a,attention\na,test,0,0,1,nonsense\n",
            "row 2, bag 'a': attention is no list of numbers",
        ),
        (
            "id,split,label,predicted,probability_a,attention\na,test,0,0,1,[1]\nb,test,0,0,1,null\n",
            "row 3, bag 'b': attention is no list of numbers, such as [0.25, 0.75] (it is empty)",
        ),
        (
            "id,split,label,predicted,probability_a,attention\na,test,0,0,1,[1]\nb,test,0,0,1,\n",
            "row 3, bag 'b': attention is no list of numbers, such as [0.25, 0.75] (it is empty)",
        ),
        (
            "id,split,label,predicted,probability_a,attention\na,test,0,0,one,[1]\n",
            "row 2, bag 'a': probability_a is 'one'; it must be a probability, from 0 to 1",
        ),
    ],
)
def test_another_table_is_refused(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_predictions(tmp_path / "p.csv")


def test_maps_per_class_survive_writing_splitting_and_reading(tmp_path):
    rng = np.random.default_rng(0)
    lengths = (3, 1, 4)
    maps = {name: [rng.normal(size=length) for length in lengths] for name in ("attention_a", "contribution_b, c")}
    table = Predictions(
        ["x", "y", "z"], ["train", "test", "test"], np.array([0, 1, 1]), np.full((3, 2), 0.5),
        [np.full(length, 1 / length) for length in lengths], ["a", "b, c"], maps=maps,
    )  # fmt: skip
    table.write_csv(tmp_path / "predictions.csv")
    again = read_predictions(tmp_path / "predictions.csv")
    assert list(again.maps) == list(maps)
    for name, values in maps.items():
        for found, expected in zip(again.maps[name], values, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-8)
        for found, expected in zip(again.of_split("test").maps[name], values[1:], strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-8)
    assert again.maps_of(1).keys() == maps.keys()


def test_a_map_that_is_not_finite_is_refused_by_bag_tile_and_name():
    with pytest.raises(ValueError, match="bag 'x' has attention_a nan on tile 1; it must be finite"):
        Predictions(
            ["x"], ["test"], np.array([0]), np.full((1, 2), 0.5), [np.array([0.5, 0.5])], ["a", "b"],
            maps={"attention_a": [np.array([1.0, np.nan])]},
        )  # fmt: skip


@pytest.mark.parametrize("numbers", [False, True], ids=["classes", "numbers"])
def test_columns_of_unfamiliarity_come_last_and_are_read_again(predictions, tmp_path, numbers):
    strange = np.array([[1, 97.5, 3.25], [0, 0, -1.5], [np.nan, 50, 0.125], [0, 12.5, 0]])
    changes = {"unfamiliarity": strange, "further_columns": ("set",), "further": [["a"], ["b"], ["c"], ["d"]]}
    if numbers:
        changes |= {"labels": np.zeros((4, 1)), "label_columns": ("label_age",), "answer_columns": ("x", "y", "z")}
    table = Predictions(**(vars(predictions) | changes))
    table.write_csv(tmp_path / "predictions.csv")
    found = pd.read_csv(tmp_path / "predictions.csv")
    assert found.columns[-4:].tolist() == ["set", "unfamiliar", "unfamiliarity", "unfamiliarity_score"]
    again = read_predictions(tmp_path / "predictions.csv")
    np.testing.assert_array_equal(again.unfamiliarity, strange)
    assert again.unfamiliar.tolist() == [True, False, False, False]
    assert again.of_split("test").unfamiliar.tolist() == [False, False, False]
    assert predictions.unfamiliar.tolist() == [False] * 4


@pytest.mark.parametrize("cell", ["2", "maybe", "inf"])
def test_a_table_whose_unfamiliarity_is_no_such_number_is_refused(predictions, tmp_path, cell):
    Predictions(**(vars(predictions) | {"unfamiliarity": np.ones((4, 3))})).write_csv(tmp_path / "p.csv")
    table = pd.read_csv(tmp_path / "p.csv", dtype=str)
    table.loc[1, "unfamiliar"] = cell
    table.to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(ValueError, match="unfamiliar|not numbers"):
        read_predictions(tmp_path / "p.csv")


HEADER = "id,split,label,predicted,probability_a,probability_b,attention\n"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("y,test,0,0,2,-1,[1]", "row 3, bag 'y': probability_a is 2; it must be a probability, from 0 to 1"),
        ("y,test,0,0,0.5,-0.5,[1]", "row 3, bag 'y': probability_b is -0.5; it must be a probability, from 0 to 1"),
        ("y,test,0,0,,0.5,[1]", "row 3, bag 'y': probability_a is empty; it must be a probability, from 0 to 1"),
        ("y,test,0,0,inf,0.5,[1]", "row 3, bag 'y': probability_a is inf; it must be a probability, from 0 to 1"),
        (
            "y,test,0,0,0.5,0.3,[1]",
            "row 3, bag 'y': probability_a to probability_b sum to 0.8; the classes of a bag must sum to 1",
        ),
        ("y,test,0,-1,0.5,0.5,[1]", "row 3, bag 'y': predicted is -1; it must be the number of a class, 0 to 1"),
        ("y,test,0,1.9,0.5,0.5,[1]", "row 3, bag 'y': predicted is 1.9; it must be the number of a class, 0 to 1"),
        ("y,test,0,9,0.5,0.5,[1]", "row 3, bag 'y': predicted is 9; it must be the number of a class, 0 to 1"),
        ("y,test,0,,0.5,0.5,[1]", "row 3, bag 'y': predicted is empty; it must be the number of a class, 0 to 1"),
        ("y,test,0,b,0.5,0.5,[1]", "row 3, bag 'y': predicted is 'b'; it must be the number of a class, 0 to 1"),
        ("y,test,2,0,0.5,0.5,[1]", "row 3, bag 'y': label is 2; it must be the number of a class, 0 to 1, or empty"),
        (
            "y,test,0.5,0,0.5,0.5,[1]",
            "row 3, bag 'y': label is 0.5; it must be the number of a class, 0 to 1, or empty",
        ),
        ("y,test,b,0,0.5,0.5,[1]", "row 3, bag 'y': label is 'b'; it must be the number of a class, 0 to 1, or empty"),
    ],
)
def test_a_prediction_that_cannot_be_is_named(tmp_path, row, message):
    (tmp_path / "p.csv").write_text(f"{HEADER}x,test,1,1,0.25,0.75,[1]\n{row}\n")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'p.csv'}, {message}")):
        read_predictions(tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[[0.5], [0.5]]", "[[0.5], [0.5]]"),
        ('["0.5"]', "['0.5']"),
        ("[1" + "0" * 400 + "]", "too large"),
    ],
    ids=["deep", "nested", "texts", "large"],
)
@pytest.mark.parametrize("column", ["attention", "attention_a"])
def test_a_list_of_anything_but_numbers_is_refused(tmp_path, column, cell, found):
    table = pd.DataFrame(
        {"id": ["x"], "split": "test", "label": 0, "predicted": 0, "probability_a": 0.5, "probability_b": 0.5}
    )
    table.assign(**{"attention": "[1]", "attention_a": "[1]"} | {column: cell}).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(ValueError, match=re.escape(f"row 2, bag 'x': {column} is no list of numbers")) as refused:
        read_predictions(tmp_path / "p.csv")
    assert found in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label_grade": 0, "grade/probability_a": 1.5, "grade/probability_b": -0.5}, "grade/probability_a is 1.5"),
        ({"label_grade": 0, "grade/probability_a": 0.5, "grade/probability_b": 0.2}, "sum to 0.7"),
        ({"label_grade": 2, "grade/probability_a": 0.5, "grade/probability_b": 0.5}, "label_grade is 2"),
        ({"label_grade": 0.5, "grade/probability_a": 0.5, "grade/probability_b": 0.5}, "label_grade is 0.5"),
        (
            {"label_time": 2, "label_event": 1, "risk": -3, "survival_at_2": 1.1, "median_time": ""},
            "survival_at_2 is 1.1",
        ),
        ({"label_time": 2, "label_event": 0.5, "risk": -3, "survival_at_2": 1, "median_time": 3}, "label_event is 0.5"),
        ({"label_time": -2, "label_event": 0, "risk": -3, "survival_at_2": 1, "median_time": 3}, "label_time is -2"),
        ({"label_time": 2, "label_event": 0, "risk": -3, "survival_at_2": 1, "median_time": -3}, "median_time is -3"),
        ({"label_os/time": 2, "label_os/event": 0, "os/risk": -3, "os/survival_at_2": -1}, "os/survival_at_2 is -1"),
    ],
)
def test_numbers_that_cannot_be_are_named(tmp_path, columns, message):
    row = {"id": "x", "split": "test", **columns, "attention": "[1]"}
    pd.DataFrame([row]).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        read_predictions(tmp_path / "p.csv")
    assert str(refused.value).startswith(f"{tmp_path / 'p.csv'}, row 2, bag 'x': ")


@pytest.mark.parametrize(
    "columns",
    [
        {
            "label_grade": "",
            "grade/probability_a/b": 0.5000001,
            "grade/probability_b": 0.5,
            "label_age": 4,
            "age/predicted_age": -4,
        },
        {"label_time": 2.5, "label_event": 0, "risk": -3, "survival_at_2": 0, "median_time": ""},
        {"label_event": 0.5, "label_probability": 3, "predicted_event": 7, "predicted_probability": 3},
        {"label_x/probability_y": 3, "predicted_x/probability_y": 7},
    ],
    ids=["several", "survival", "regression", "regression with a slash"],
)
def test_numbers_that_are_no_probabilities_stay(tmp_path, columns):
    row = {"id": "x", "split": "test", **columns, "attention": "[1]"}
    pd.DataFrame([row]).to_csv(tmp_path / "p.csv", index=False)
    assert len(read_predictions(tmp_path / "p.csv")) == 1


def test_rounding_is_no_mistake(tmp_path):
    (tmp_path / "p.csv").write_text(f"{HEADER}x,test,1.0,1,1.0000001,-1e-9,[1]\ny,test,,0.0,0.5004,0.5,[1]\n")
    again = read_predictions(tmp_path / "p.csv")
    assert again.labels.tolist() == [1, -1]
    assert again.predicted_labels.tolist() == [1, 0]
