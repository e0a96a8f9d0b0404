import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torchmetrics import classification as tm

from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.weighted_metrics import METRICS, expected_calibration_error, metric_function
from milpath.targets import target_named
from milpath.targets.evaluation import evaluate_bags

TASKS = [(2, "binary"), (4, "nominal"), (6, "ordinal")]


def _torchmetrics(num_classes: int) -> dict[str, torch.nn.Module]:
    """The same metrics by an independent library."""
    if num_classes == 2:
        return {
            "auroc": tm.BinaryAUROC(), "average_precision": tm.BinaryAveragePrecision(),
            "ece": tm.BinaryCalibrationError(15, norm="l1"), "accuracy": tm.BinaryAccuracy(),
            "balanced_accuracy": tm.MulticlassAccuracy(2, average="macro"), "sensitivity": tm.BinaryRecall(),
            "specificity": tm.BinarySpecificity(), "f1": tm.BinaryF1Score(),
        }  # fmt: skip
    macro = {"num_classes": num_classes, "average": "macro"}
    return {
        "auroc": tm.MulticlassAUROC(**macro), "average_precision": tm.MulticlassAveragePrecision(**macro),
        "ece": tm.MulticlassCalibrationError(num_classes, 15, norm="l1"),
        "accuracy": tm.MulticlassAccuracy(num_classes, average="micro"),
        "balanced_accuracy": tm.MulticlassAccuracy(**macro), "sensitivity": tm.MulticlassRecall(**macro),
        "specificity": tm.MulticlassSpecificity(**macro), "f1": tm.MulticlassF1Score(**macro),
        "quadratic_kappa": tm.MulticlassCohenKappa(num_classes, weights="quadratic"),
    }  # fmt: skip


@pytest.mark.parametrize(("num_classes", "task"), TASKS)
def test_every_metric_equals_the_one_of_torchmetrics(num_classes, task, draw_outcomes):
    outcomes = draw_outcomes(500, num_classes, task, seed=3)
    labels, called = torch.from_numpy(outcomes.labels), torch.from_numpy(outcomes.predicted)
    probabilities = torch.from_numpy(outcomes.probabilities).float()
    scores = probabilities[:, 1] if num_classes == 2 else probabilities
    found = target_named(task).metrics(outcomes)
    for name, metric in _torchmetrics(num_classes).items():
        expected = float(metric(scores if name in ("auroc", "average_precision", "ece") else called, labels))
        # Bins of the calibration error are cut in float32 there and in float64 here.
        assert found[name] == pytest.approx(expected, abs=2e-6), name


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
            repeated.append(metric(EvaluatedBags(*often, np.repeat(outcomes.predicted, row), outcomes.positive_class)))
        assert metric(outcomes, weights.astype(float)) == pytest.approx(np.array(repeated), nan_ok=True), name


def test_calibration_error_of_honest_probabilities_is_small_and_of_boasting_large():
    generator = np.random.default_rng(0)
    positive = generator.random(20_000)
    labels = (generator.random(20_000) < positive).astype(int)
    honest = evaluate_bags(labels, np.stack([1 - positive, positive], 1), "binary")
    boasting = evaluate_bags(labels, np.stack([positive < 0.5, positive >= 0.5], 1).astype(float), "binary")
    assert float(expected_calibration_error(honest)) < 0.02
    assert float(expected_calibration_error(boasting)) == pytest.approx(0.25, abs=0.02)


def test_an_unknown_metric_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="metric 'auc' is not one of auroc, average_precision"):
        metric_function("auc")
