import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milpath.metrics.operating_point import attained, threshold_for_sensitivity


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=1, max_size=60),
    st.sampled_from([0.5, 0.8, 0.9, 0.95, 1.0]),
)
def test_the_threshold_reaches_the_sensitivity_and_no_higher_one_does(pairs, sensitivity):
    labels, scores = np.array([label for label, _ in pairs]), np.array([score / 20 for _, score in pairs])
    if not labels.any():
        return
    threshold = threshold_for_sensitivity(labels, scores, sensitivity)
    found = scores[labels == 1] >= threshold
    assert found.mean() >= sensitivity - 1e-12
    higher = scores[scores >= threshold].min() + 1e-9
    assert (scores[labels == 1] >= higher).mean() < sensitivity


def test_validation_chooses_and_test_attains():
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=2000)
    scores = 1 / (1 + np.exp(-generator.normal(2.0 * labels - 1)))
    threshold = threshold_for_sensitivity(labels[:1000], scores[:1000], 0.95)
    point = attained(labels[1000:], scores[1000:], threshold)
    assert point.sensitivity.value == pytest.approx(0.95, abs=0.03)
    assert point.sensitivity.low < point.sensitivity.value < point.sensitivity.high
    assert point.num_missed == ((labels[1000:] == 1) & (scores[1000:] < threshold)).sum()
    assert point.num_false_alarms == ((labels[1000:] == 0) & (scores[1000:] >= threshold)).sum()
    assert point.specificity.value == pytest.approx(1 - point.num_false_alarms / (labels[1000:] == 0).sum())


def test_a_score_rounded_in_a_file_stays_on_its_side():
    scores = np.array([0.123456789123, 0.5, 0.7])
    threshold = threshold_for_sensitivity(np.array([1, 1, 1]), scores, 1.0)
    assert (np.round(scores, 6) >= threshold).all()


@pytest.mark.parametrize("sensitivity", [0.0, -0.1, 1.1])
def test_an_impossible_sensitivity_is_refused(sensitivity):
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        threshold_for_sensitivity(np.array([1]), np.array([0.5]), sensitivity)


def test_a_split_without_class_one_cannot_choose():
    with pytest.raises(ValueError, match="the validation split has no bag of class 1"):
        threshold_for_sensitivity(np.array([0, 0]), np.array([0.2, 0.5]), 0.9)
