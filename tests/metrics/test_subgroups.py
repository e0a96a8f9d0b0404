from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, roc_auc_score

from milpath.metrics.subgroups import grade_results, grade_rows, subgroup_tables

METRICS = ("auroc", "accuracy", "sensitivity", "specificity")


def test_each_value_has_the_results_of_its_own_bags(binary):
    providers = np.where(np.arange(300) % 3 == 0, "karolinska", "radboud")
    (table,) = subgroup_tables(binary, pd.DataFrame({"data_provider": providers}), METRICS, num_resamples=50)
    assert [(row.value, row.num_bags) for row in table.rows] == [("karolinska", 100), ("radboud", 200)]
    own = providers == "radboud"
    expected = roc_auc_score(binary.labels[own], binary.probabilities[own, 1])
    assert table.rows[1].intervals[table.metrics.index("auroc")].value == pytest.approx(expected)


def test_bags_without_a_value_are_a_row_of_their_own_and_cut_no_other_value(binary):
    scanners = np.array(["hamamatsu", "huron", None], dtype=object)[np.arange(300) % 3]
    frame = pd.DataFrame(
        {"scanner": pd.Series(scanners), "isup_grade": np.array([1.0, 10.0, np.nan])[np.arange(300) % 3]}
    )
    for table, names in zip(
        subgroup_tables(binary, frame, METRICS, num_resamples=20), (["hamamatsu", "huron"], ["1", "10"]), strict=True
    ):
        assert [(row.value, row.num_bags) for row in table.rows] == [(each, 100) for each in (*names, "no value")]
    named = grade_rows(
        replace(binary, probabilities=np.eye(6)[binary.labels]), frame.rename(columns={"scanner": "data_provider"})
    )
    assert [row.name for row in named] == ["all", "hamamatsu", "huron", "no value"]


def test_a_metric_that_no_value_defines_is_left_out(binary):
    grades = pd.DataFrame({"isup_grade": binary.labels * 3})
    (table,) = subgroup_tables(binary, grades, METRICS, num_resamples=20)
    assert "auroc" not in table.metrics
    assert "accuracy" in table.metrics


def test_columns_of_one_value_or_of_a_list_are_no_table(binary):
    frame = pd.DataFrame({"data_provider": ["k"] * 300, "tma_group": np.arange(300)})
    assert subgroup_tables(binary, frame, METRICS, num_resamples=20) == []


def test_grades_need_six_classes(binary, ordinal):
    assert grade_rows(binary, None) == []
    frame = pd.DataFrame({"data_provider": np.where(np.arange(400) % 2, "k", "r")})
    assert [row.name for row in grade_rows(ordinal, frame)] == ["all", "k", "r"]
    assert [row.name for row in grade_rows(ordinal, None)] == ["all"]


@pytest.fixture(scope="module")
def out_of_fold(shared_data):
    """The published out-of-fold grades of the winner of the PANDA challenge, with the provider of each slide."""
    folder = shared_data / "panda_meta"
    predictions = pd.read_csv(folder / "oof_predictions_1st_place.csv")
    providers = pd.read_csv(folder / "train.csv")[["image_id", "data_provider"]]
    return predictions.merge(providers, on="image_id", validate="one_to_one")


def test_published_grades_of_panda_give_the_published_numbers(out_of_fold):
    rows = grade_results(
        out_of_fold["isup_grade"].to_numpy(np.int64),
        out_of_fold["preds"].to_numpy(np.int64),
        out_of_fold["probs_raw"].to_numpy(np.float64),
        out_of_fold["data_provider"].to_numpy(str),
    )
    everything, karolinska, radboud = rows
    assert [row.name for row in rows] == ["all", "karolinska", "radboud"]
    assert [row.num_bags for row in rows] == [10616, 5456, 5160]
    assert everything.quadratic_kappa == pytest.approx(0.8760, abs=5e-5)
    assert everything.accuracy == pytest.approx(0.6518, abs=5e-5)
    assert everything.malignant_auroc == pytest.approx(0.9633, abs=5e-5)
    assert karolinska.malignant_auroc == pytest.approx(0.977, abs=5e-4)
    assert radboud.malignant_auroc == pytest.approx(0.952, abs=5e-4)


def test_each_provider_equals_scikit_learn():
    rng = np.random.default_rng(0)
    grades, providers = rng.integers(0, 6, 400), rng.choice(["karolinska", "radboud"], 400)
    scores = grades + rng.normal(0, 1.5, 400)
    predicted = scores.round().clip(0, 5).astype(np.int64)
    for row in grade_results(grades, predicted, scores, providers)[1:]:
        chosen = providers == row.name
        assert row.quadratic_kappa == pytest.approx(
            cohen_kappa_score(grades[chosen], predicted[chosen], weights="quadratic")
        )
        assert row.accuracy == pytest.approx(accuracy_score(grades[chosen], predicted[chosen]))
        assert row.malignant_auroc == pytest.approx(roc_auc_score(grades[chosen] >= 1, scores[chosen]))


def test_a_provider_of_one_grade_has_no_number_in_place_of_a_false_one():
    grades = np.zeros(3, dtype=np.int64)
    row = grade_results(grades, grades, np.array([0.1, 0.2, 0.3]))[0]
    assert row.accuracy == 1.0
    assert row.malignant_auroc is None
    assert row.quadratic_kappa is None
