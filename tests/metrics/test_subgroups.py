import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from milpath.metrics.subgroups import grade_rows, subgroup_tables

METRICS = ("auroc", "accuracy", "sensitivity", "specificity")


def test_each_value_has_the_results_of_its_own_bags(binary):
    providers = np.where(np.arange(300) % 3 == 0, "karolinska", "radboud")
    (table,) = subgroup_tables(binary, pd.DataFrame({"data_provider": providers}), METRICS, num_resamples=50)
    assert [(row.value, row.num_bags) for row in table.rows] == [("karolinska", 100), ("radboud", 200)]
    own = providers == "radboud"
    expected = roc_auc_score(binary.labels[own], binary.probabilities[own, 1])
    assert table.rows[1].intervals[table.metrics.index("auroc")].value == pytest.approx(expected)


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
