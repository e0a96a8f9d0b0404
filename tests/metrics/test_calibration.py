from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.calibration import calibration_curve

from milpath.metrics.calibration import fit_temperature, reliability_curve
from milpath.metrics.weighted_metrics import METRICS
from milpath.targets import target_named
from milpath.targets.evaluation import evaluate_bags


def _overconfident(task, temperature=3.0, num_bags=4000):
    """Labels drawn from honest probabilities, and the probabilities of logits that many times too large."""
    generator = np.random.default_rng(0)
    if task == "binary":
        logits = generator.normal(0, 1.5, num_bags)
        honest, loud = expit(logits), expit(logits * temperature)
        labels = (generator.random(num_bags) < honest).astype(np.int64)
        return labels, np.stack([1 - loud, loud], axis=1)
    logits = generator.normal(0, 1.2, (num_bags, 4))
    honest = softmax(logits, axis=1)
    labels = (generator.random(num_bags)[:, None] > honest.cumsum(axis=1)).sum(axis=1)
    return labels, softmax(logits * temperature, axis=1)


@pytest.mark.parametrize("task", ["binary", "nominal"])
def test_the_temperature_that_spoiled_the_logits_is_found_again_and_mends_calibration(task):
    labels, probabilities = _overconfident(task)
    at_temperature = target_named(task).at_temperature
    found = fit_temperature(labels[:2000], partial(at_temperature, probabilities[:2000]))
    assert found == pytest.approx(3.0, rel=0.1)
    test_labels, test_probabilities = labels[2000:], probabilities[2000:]
    before = evaluate_bags(test_labels, test_probabilities, task)
    after = evaluate_bags(test_labels, at_temperature(test_probabilities, found), task)
    assert float(METRICS["ece"](before)) > 0.12
    assert float(METRICS["ece"](after)) < 0.04
    assert (before.predicted == after.predicted).all()
    if task == "binary":
        assert float(METRICS["auroc"](after)) == pytest.approx(float(METRICS["auroc"](before)), abs=1e-6)


def test_ordinal_temperature_divides_the_cumulative_logits():
    logits = np.sort(np.random.default_rng(0).normal(0, 2, (50, 5)), axis=1)[:, ::-1]

    def classes(cumulative_logits):
        cumulative = np.concatenate([np.ones((50, 1)), expit(cumulative_logits), np.zeros((50, 1))], axis=1)
        return cumulative[:, :-1] - cumulative[:, 1:]

    found = target_named("ordinal").at_temperature(classes(logits), 2.5)
    assert found == pytest.approx(classes(logits / 2.5), abs=1e-7)


@pytest.mark.parametrize(("task", "num_outputs"), [("binary", 1), ("nominal", 4), ("ordinal", 5)])
def test_it_is_the_temperature_of_the_networks(task, num_outputs):
    target = target_named(task)
    logits = torch.randn(40, num_outputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if task == "ordinal":
        logits = logits.sort(dim=1, descending=True).values
    plain = target.probabilities(logits).numpy()
    cooled = target.probabilities(logits, temperature=1.7).numpy()
    assert target.at_temperature(plain, 1.7) == pytest.approx(cooled, abs=1e-7)


def test_probabilities_of_zero_and_one_stay_finite():
    for task, row in (("binary", [0.0, 1.0]), ("nominal", [0.0, 0.0, 1.0]), ("ordinal", [0.0, 1.0, 0.0])):
        cooled = target_named(task).at_temperature(np.array([row]), 2.0)
        assert np.isfinite(cooled).all()
        assert cooled.sum() == pytest.approx(1)


def test_a_perfect_validation_split_does_not_send_the_temperature_to_zero():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert fit_temperature(
        np.array([0, 1]), partial(target_named("binary").at_temperature, probabilities)
    ) == pytest.approx(0.1, rel=1e-3)


def test_reliability_curve_equals_scikit_learn():
    labels, probabilities = _overconfident("binary", num_bags=300)
    curve = reliability_curve(evaluate_bags(labels, probabilities, "binary"), num_bins=10)
    happened, claimed = calibration_curve(labels, probabilities[:, 1], n_bins=10)
    assert curve.happened == pytest.approx(happened)
    assert curve.claimed == pytest.approx(claimed)
    assert curve.count.sum() == 300


def test_an_empty_split_or_a_cold_temperature_is_refused():
    with pytest.raises(ValueError, match="validation split"):
        fit_temperature(np.array([], int), partial(target_named("binary").at_temperature, np.zeros((0, 2))))
    with pytest.raises(ValueError, match="positive"):
        target_named("binary").at_temperature(np.array([[0.5, 0.5]]), 0.0)
