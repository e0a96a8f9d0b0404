import numpy as np
import pytest

from milpath.reports.calibration import apply_temperature
from milpath.reports.decision import Decision, choose_decision, decide


def test_temperature_threshold_and_deferral_are_chosen_in_this_order(binary):
    decision = choose_decision(binary.labels, binary.probabilities, "binary", sensitivity=0.95, defer_share=0.1)
    calls = decide(binary.probabilities, "binary", decision)
    assert calls.predicted[binary.labels == 1].mean() >= 0.95
    assert calls.deferred.mean() == pytest.approx(0.1, abs=0.02)
    assert calls.probabilities == pytest.approx(apply_temperature(binary.probabilities, decision.temperature, "binary"))


def test_without_wishes_nothing_is_changed(nominal):
    assert choose_decision(nominal.labels, nominal.probabilities, "nominal", calibrate=False) == Decision()
    calls = decide(nominal.probabilities, "nominal", Decision())
    assert (calls.predicted == nominal.predicted).all()
    assert not calls.deferred.any()
    assert calls.probabilities is nominal.probabilities


def test_a_sensitivity_of_many_classes_is_refused(nominal):
    with pytest.raises(ValueError, match="binary task, not of a nominal one"):
        choose_decision(nominal.labels, nominal.probabilities, "nominal", sensitivity=0.9)


def test_choosing_does_not_change_the_probabilities(ordinal):
    before = ordinal.probabilities.copy()
    choose_decision(ordinal.labels, ordinal.probabilities, "ordinal", defer_share=0.2)
    assert np.array_equal(before, ordinal.probabilities)
