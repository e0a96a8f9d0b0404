import numpy as np
import pytest

from milpath.metrics.deferral import defer_threshold, deferral_table, referral_table, risk_coverage
from milpath.targets.evaluation import evaluate_bags


def test_risk_coverage_follows_its_definition(nominal):
    curve = risk_coverage(nominal)
    order = np.argsort(-nominal.confidence)
    errors = (~nominal.correct)[order]
    expected = [errors[: count + 1].mean() for count in range(len(errors))]
    assert curve.risk == pytest.approx(expected)
    assert curve.area == pytest.approx(np.mean(expected))
    assert curve.risk[-1] == pytest.approx(1 - nominal.correct.mean())


def test_the_order_of_equally_certain_bags_does_not_matter(binary):
    order = np.random.default_rng(0).permutation(binary.num_bags)
    shuffled = evaluate_bags(binary.labels[order], binary.probabilities[order], "binary")
    assert risk_coverage(shuffled).risk == pytest.approx(risk_coverage(binary).risk)


def test_the_threshold_defers_the_share_it_was_chosen_for():
    confidence = np.random.default_rng(0).uniform(0.5, 1, 500)
    for share in (0.0, 0.1, 0.25, 0.9):
        assert (confidence < defer_threshold(confidence, share)).mean() == pytest.approx(share)


def test_equally_certain_bags_are_deferred_together_and_never_more_than_the_share():
    confidence = np.array([0.5, 0.6, 0.6, 0.6, 0.9])
    assert (confidence < defer_threshold(confidence, 0.4)).tolist() == [True, False, False, False, False]
    assert defer_threshold(np.full(5, 0.7), 0.4) == 0.0


def test_referring_the_least_certain_catches_errors():
    probabilities = np.array([[0.99, 0.01], [0.95, 0.05], [0.55, 0.45], [0.4, 0.6]])
    rows = deferral_table(evaluate_bags([0, 0, 1, 0], probabilities, "binary"), shares=(0.0, 0.5, 1.0))
    assert (rows[0].accuracy, rows[0].num_errors, rows[0].errors_caught) == (0.5, 2, 0.0)
    assert (rows[1].accuracy, rows[1].num_referred, rows[1].errors_caught) == (1.0, 2, 1.0)
    assert (rows[2].accuracy, rows[2].num_kept) == (None, 0)


def test_a_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\), got 1"):
        defer_threshold(np.array([0.5]), 1.0)


def test_every_bag_is_in_one_row_of_the_reasons_of_referral():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55], [0.1, 0.9]])
    outcomes = evaluate_bags([1, 0, 1, 0, 1], probabilities, "binary")
    rows = referral_table(outcomes, 0.7, np.array([True, False, True, True, False]))
    assert [(row.reason, row.num_bags, row.num_errors, row.accuracy) for row in rows] == [
        ("low confidence", 1, 0, 1.0),
        ("unfamiliar", 2, 1, 0.5),
        ("both", 1, 1, 0.0),
        ("decided by the network", 1, 0, 1.0),
    ]
    assert sum(row.num_bags for row in rows) == outcomes.num_bags
    nobody = referral_table(outcomes, 0.0, np.zeros(5, bool))
    assert [row.num_bags for row in nobody] == [0, 0, 0, 5]
    assert nobody[0].accuracy is None
