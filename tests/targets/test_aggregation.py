"""Predictions of patients from those of their slides."""

import numpy as np
import pytest

from milpath.targets import Regression, Survival, target_named
from milpath.targets.aggregation import aggregated_answers, require_aggregate

PATIENTS = np.array([1, 0, 1, 1])


def test_the_mean_weighs_the_slides_of_a_patient_alike():
    answers = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.6, 0.4]])
    found = aggregated_answers(target_named("binary"), answers, PATIENTS, "mean")
    assert np.allclose(found.answers, [[0.4, 0.6], [0.6, 0.4]])
    assert found.weights.tolist() == [1 / 3, 1, 1 / 3, 1 / 3]


@pytest.mark.parametrize(
    ("target", "answers"),
    [
        (target_named("binary"), [[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.6, 0.4]]),
        (target_named("ordinal"), [[0.8, 0.1, 0.1], [1, 0, 0], [0, 0.6, 0.4], [0.5, 0, 0.5]]),
        (Survival(), [[-1.0], [9.0], [3.0], [2.0]]),
        (Regression(columns=("age",)), [[1.0], [9.0], [3.0], [2.0]]),
    ],
)
def test_the_highest_slide_answers_for_its_patient_as_it_is(target, answers):
    found = aggregated_answers(target, np.array(answers), PATIENTS, "max")
    assert found.weights.tolist() == [0, 1, 1, 0]
    assert found.answers.tolist() == [answers[1], answers[2]]


def test_classes_without_an_order_have_no_highest_slide():
    with pytest.raises(ValueError, match="have no order; set aggregate=mean"):
        require_aggregate("max", target_named("nominal"), 3)
    with pytest.raises(ValueError, match="must be one of mean, max"):
        require_aggregate("median", target_named("binary"), 2)
    require_aggregate(None, target_named("nominal"), 3)
