import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from milpath.metrics.evaluated_bags import Outcomes, make_outcomes
from milpath.metrics.weighted_metrics import METRICS, expected_calibration_error, metric_function
from milpath.training.split_metrics import compute_metrics

TASKS = [(2, "binary"), (4, "nominal"), (6, "ordinal")]


@pytest.mark.parametrize(("num_classes", "task"), TASKS)
def test_every_metric_equals_the_one_of_training(num_classes, task, draw_outcomes):
    outcomes = draw_outcomes(500, num_classes, task, seed=3)
    expected = compute_metrics(torch.from_numpy(outcomes.probabilities), torch.from_numpy(outcomes.labels), task)
    # Bins of the calibration error are cut in float32 there and in float64 here; the bags between differ by rounding.
    found = {name: float(METRICS[name](outcomes)) for name in expected}
    assert found == pytest.approx(expected, abs=2e-6)


def test_metrics_equal_scikit_learn(nominal, ordinal, binary):
    for outcomes in (nominal, ordinal, binary):
        truth, calls = outcomes.labels, outcomes.predicted
        assert float(METRICS["accuracy"](outcomes)) == pytest.approx(sk.accuracy_score(truth, calls))
        assert float(METRICS["balanced_accuracy"](outcomes)) == pytest.approx(sk.balanced_accuracy_score(truth, calls))
        kappa = sk.cohen_kappa_score(truth, calls, weights="quadratic")
        assert float(METRICS["quadratic_kappa"](outcomes)) == pytest.approx(kappa)
    expected = sk.roc_auc_score(nominal.labels, nominal.probabilities, multi_class="ovr")
    assert float(METRICS["auroc"](nominal)) == pytest.approx(expected)
    assert float(METRICS["brier"](binary)) == pytest.approx(
        sk.brier_score_loss(binary.labels, binary.probabilities[:, 1])
    )


@pytest.mark.parametrize(("num_classes", "task"), TASKS)
def test_weights_count_bags_as_often_as_repeating_them_does(num_classes, task, draw_outcomes):
    outcomes = draw_outcomes(60, num_classes, task, seed=5)
    weights = np.random.default_rng(0).integers(0, 4, (3, 60))
    for name, metric in METRICS.items():
        repeated = []
        for row in weights:
            often = [np.repeat(array, row, axis=0) for array in (outcomes.labels, outcomes.probabilities)]
            repeated.append(metric(Outcomes(*often, np.repeat(outcomes.predicted, row), task)))
        assert metric(outcomes, weights.astype(float)) == pytest.approx(np.array(repeated), nan_ok=True), name


def test_calibration_error_of_honest_probabilities_is_small_and_of_boasting_large():
    generator = np.random.default_rng(0)
    positive = generator.random(20_000)
    labels = (generator.random(20_000) < positive).astype(int)
    honest = make_outcomes(labels, np.stack([1 - positive, positive], 1), "binary")
    boasting = make_outcomes(labels, np.stack([positive < 0.5, positive >= 0.5], 1).astype(float), "binary")
    assert float(expected_calibration_error(honest)) < 0.02
    assert float(expected_calibration_error(boasting)) == pytest.approx(0.25, abs=0.02)


def test_an_unknown_metric_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="metric 'auc' is none of auroc, average_precision"):
        metric_function("auc")
