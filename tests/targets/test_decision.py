import numpy as np
import pytest

from milpath.targets import target_named
from milpath.targets.decision import Decision, choose_decision, decide


def test_temperature_threshold_and_deferral_are_chosen_in_this_order(binary):
    decision = choose_decision(binary.labels, binary.probabilities, "binary", sensitivity=0.95, defer_share=0.1)
    calls = decide(binary.probabilities, "binary", decision)
    assert calls.predicted[binary.labels == 1].mean() >= 0.95
    assert calls.deferred.mean() == pytest.approx(0.1, abs=0.02)
    assert calls.probabilities == pytest.approx(
        target_named("binary").at_temperature(binary.probabilities, decision.temperature)
    )


def test_without_wishes_nothing_is_changed(nominal):
    assert choose_decision(nominal.labels, nominal.probabilities, "nominal", calibrate=False) == Decision()
    calls = decide(nominal.probabilities, "nominal", Decision())
    assert (calls.predicted == nominal.predicted).all()
    assert not calls.deferred.any()
    assert calls.probabilities is nominal.probabilities


def test_a_sensitivity_of_many_classes_is_refused(nominal):
    with pytest.raises(ValueError, match="binary task, not a nominal one"):
        choose_decision(nominal.labels, nominal.probabilities, "nominal", sensitivity=0.9)


def test_choosing_does_not_change_the_probabilities(ordinal):
    before = ordinal.probabilities.copy()
    choose_decision(ordinal.labels, ordinal.probabilities, "ordinal", defer_share=0.2)
    assert np.array_equal(before, ordinal.probabilities)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_number_that_is_none_becomes_a_call(value):
    with pytest.raises(ValueError, match=r"row 1 of the probabilities is \[.*they must be finite"):
        decide(np.array([[0.5, 0.5], [value, 0.5]]), "binary", Decision())
    with pytest.raises(ValueError, match="they must be finite"):
        choose_decision(np.array([0, 1]), np.array([[0.5, 0.5], [value, 0.5]]), "binary")


@pytest.mark.parametrize("field", ["threshold", "temperature", "defer_below"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_decision_has_finite_numbers(field, value):
    with pytest.raises(ValueError, match=f"{field} of a decision must be"):
        Decision(**{field: value})


def test_a_temperature_fitted_from_logits_is_not_bound_by_the_rounding_of_probabilities():
    rng = np.random.default_rng(0)
    true = rng.normal(0, 3, 2000)
    labels = (rng.random(2000) < 1 / (1 + np.exp(-true))).astype(np.int64)

    def scaled(temperature):  # ten times too sure
        positive = 1 / (1 + np.exp(-10 * true / temperature))
        return np.stack([1 - positive, positive], axis=1)

    rounded = scaled(1.0).astype(np.float32).astype(np.float64)
    exact = choose_decision(labels, rounded, "binary", at_temperature=scaled).temperature
    assert exact == pytest.approx(10, rel=0.1)  # 2,000 labels tell it no better
    assert choose_decision(labels, rounded, "binary").temperature < exact - 0.1
