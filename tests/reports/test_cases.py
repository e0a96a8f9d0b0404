import numpy as np
import pandas as pd
import pytest

from milpath.data.store.grouped_store import GroupedStore
from milpath.records.prediction_table import Predictions
from milpath.reports.cases import case_table, num_slides_of
from milpath.reports.pictures import CasePictures
from milpath.targets import target_named
from milpath.targets.evaluation import evaluate_bags


@pytest.fixture
def predictions():
    return Predictions(
        bag_ids=["a", "b"],
        splits=["val", "test"],
        labels=np.array([1, 0]),
        probabilities=np.array([[0.7, 0.3], [0.9, 0.1]]),
        attention=[np.array([0.2, 0.5, 0.3]), np.array([1.0])],
        class_names=["benign", "malignant"],
    )


def test_columns_hold_what_a_reader_asks_of_a_case(predictions):
    outcomes = evaluate_bags(predictions.labels, predictions.probabilities, "binary")
    bags = pd.DataFrame(
        {"bag_id": ["b", "a"], "start": [0, 1], "num_tiles": [1, 3], "provider": ["k", None], "age": [7, 8]}
    )
    table = case_table(predictions, outcomes, target_named("binary"), 0.8, bags, {"a": CasePictures("m.jpg", None)})
    assert table["wrongness"] == [0.7, 0.1]
    assert table["deferred"] == [1, 0]
    assert table["predicted"] == [0, 0]
    assert table["top"] == [[[1, 0.5], [2, 0.3], [0, 0.2]], [[0, 1.0]]]
    assert table["numTiles"] == [3, 1]
    assert table["entropy"][1] == 0.0
    assert table["details"] == {"provider": ["", "k"], "age": ["8", "7"]}
    assert (table["montage"], table["overlay"]) == (["m.jpg", None], [None, None])


def test_a_patient_has_the_number_of_its_slides(predictions, open_store):
    outcomes = evaluate_bags(predictions.labels, predictions.probabilities, "binary")
    slides = open_store([2, 1, 3])
    members = [np.array([0, 2]), np.array([1])]
    patients = GroupedStore(slides, pd.DataFrame({"bag_id": ["a", "b"]}), members)
    table = case_table(predictions, outcomes, target_named("binary"), 0.8, None, {}, num_slides_of(patients))
    assert table["numSlides"] == [2, 1]
    assert num_slides_of(slides) == num_slides_of(None) == {}
    assert case_table(predictions, outcomes, target_named("binary"), 0.8, None, {})["numSlides"] == []


def test_a_grade_far_from_the_truth_is_more_wrong_than_one_beside_it():
    probabilities = np.array([[0.0, 0.0, 0.1, 0.9], [0.9, 0.1, 0.0, 0.0]])
    far, near = target_named("ordinal").wrongness(evaluate_bags([0, 1], probabilities, "ordinal"))
    assert (far, near) == (pytest.approx(2.9), pytest.approx(0.9))
    assert target_named("nominal").wrongness(evaluate_bags([0, 1], probabilities, "nominal")) == pytest.approx(
        [1.0, 0.9]
    )
