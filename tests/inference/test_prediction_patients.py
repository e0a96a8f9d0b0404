"""Predictions of patients from those of their slides: classes of several targets, and the folds of an average."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from milpath.inference.ensemble.fold_columns import EACH, each_as_cell, fold_cells, fold_columns
from milpath.inference.prediction_patients import write_patients
from milpath.models.card import Card
from milpath.targets import Regression, Several, Survival, target_of

SLIDES = pd.DataFrame({"bag_id": ["a1", "a2", "b1"], "patient_id": ["a", "a", "b"]})


def card() -> Card:
    labels = np.array([[0, 50.0], [1, 60.0], [1, 70.0]])
    target = Several({"grade": {"task": "binary", "class_names": ["low", "high"]}, "age": "regression"}).fitted_on(
        labels
    )
    return Card(network={}, class_names=target.names, task="several", target_state=target.state())


def test_patients_have_their_classes_and_what_the_folds_say_of_them(tmp_path):
    own = card()
    target = target_of(own)
    each = (
        target.answers(torch.randn(6, 2, generator=torch.Generator().manual_seed(0))).double().numpy().reshape(3, 2, -1)
    )
    mean = each.mean(1)
    table = pd.DataFrame(mean, columns=list(target.answer_columns))
    table.insert(0, "id", SLIDES["bag_id"])
    table["attention_agreement"] = [0.5, np.nan, 0.25]
    table[EACH] = [each_as_cell(row) for row in each]
    table.to_csv(tmp_path / "predictions.csv", index=False)
    write_patients(tmp_path, SimpleNamespace(bags=SLIDES), own, "mean", temperatures=[1.0, 1.0])
    found = pd.read_csv(tmp_path / "patients.csv").set_index("id")
    together = np.stack([mean[:2].mean(0), mean[2]])
    np.testing.assert_allclose(found[list(target.answer_columns)], together, rtol=1e-7)
    assert found["grade/predicted"].tolist() == ["low" if row[0] > row[1] else "high" for row in together]
    spread = np.stack([each[:2].mean(0), each[2]]).std(axis=1, ddof=1)
    np.testing.assert_allclose(found["age/fold_spread_age"], spread[:, 2], rtol=1e-6)
    np.testing.assert_allclose(found["grade/fold_spread"], spread[:, 0], rtol=1e-6)  # equal for two classes
    assert found["attention_agreement"].tolist() == [0.5, 0.25]


def test_a_time_that_a_fold_does_not_reach_has_no_spread():
    own = card()
    assert fold_columns(own) == ("grade/fold_spread", "age/fold_spread_age", "attention_agreement")
    cells = fold_cells(own, np.array([[0.2, 0.8, 50.0], [0.4, 0.6, np.nan]]), None, ["high"])
    assert cells == [f"{np.std([0.8, 0.6], ddof=1):.9g}", "", ""]
    assert fold_cells(own, None, None, []) == []


def test_a_target_says_itself_which_predictions_have_a_spread():
    class OwnTimes(Survival):
        name = "own_times"

    labels = np.array([[5.0, 1], [9.0, 1], [20.0, 0], [30.0, 1]])
    for kind in (Survival, OwnTimes):  # the kind counts, not the name
        fitted = kind(loss="hazard", num_intervals=2, times=[6, 12]).fitted_on(labels)
        assert (
            fitted.spread_names == fitted.answer_columns == ("risk", "survival_at_6", "survival_at_12", "median_time")
        )
        assert fitted.without_sets == "a censored time has no error to fit them on"
    assert Regression(["age"], quantiles=[0.1, 0.9]).spread_names == ("age",)  # its quantiles have no spread
