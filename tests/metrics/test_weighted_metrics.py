import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torchmetrics import classification as tm

from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.intervals import metric_intervals
from milpath.metrics.weighted_metrics import (
    METRICS,
    expected_calibration_error,
    metric_function,
    own_metric_names,
    use_own_metrics,
)
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
    # Nobody of class 0, but two who are called so: its share of found bags is undefined, not 0.
    part = nominal.part(np.flatnonzero(nominal.labels != 0))
    assert (part.predicted == 0).sum() >= 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn says that it leaves the class out
        recall = sk.balanced_accuracy_score(part.labels, part.predicted)
    for name in ("balanced_accuracy", "sensitivity"):
        assert float(METRICS[name](part)) == pytest.approx(recall)
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


@pytest.fixture
def own():
    yield use_own_metrics
    use_own_metrics({})


def test_a_metric_of_ones_own_is_resampled_as_the_same_metric_of_milpath(own, binary):
    own({"right": lambda outcomes: (outcomes.labels == outcomes.predicted).mean()})
    found = metric_intervals(binary, ["accuracy", "right"], num_resamples=60)
    assert vars(found["right"]) == pytest.approx(vars(found["accuracy"]))
    assert target_named("binary").metrics(binary)["right"] == pytest.approx(found["accuracy"].value)


def test_a_metric_of_ones_own_that_is_not_defined_is_none_and_the_reason_is_said(own, binary, caplog):
    own(
        {
            "nothing": lambda outcomes: float("nan"),
            "impossible": lambda outcomes: int("two"),
            "by_zero": lambda o: 1 / 0,
        }
    )
    metrics = target_named("binary").metrics(binary)
    assert [metrics[name] for name in own_metric_names()] == [None, None, None]
    assert "metrics.impossible is undefined on these 120 bags: invalid literal" in caplog.text.replace(
        f"these {binary.num_bags} bags", "these 120 bags"
    )
    interval = metric_intervals(binary, ["nothing"], num_resamples=10)["nothing"]
    assert (interval.value, interval.low, interval.num_undefined) == (None, None, 10)


@pytest.mark.parametrize(
    ("name", "function", "error", "message"),
    [
        ("auroc", len, ValueError, "metrics.auroc is already the name of a metric of milpath"),
        ("loss", len, ValueError, "metrics.loss is already the name"),
        ("my metric", len, ValueError, "must be a word"),
        (
            "pair",
            lambda outcomes: (1, 2),
            ValueError,
            r"metrics.pair returned \(1, 2\); a metric must return one number",
        ),
        ("array", lambda outcomes: np.ones(2), ValueError, "metrics.array returned"),
        ("text", lambda outcomes: "good", ValueError, "metrics.text returned 'good'"),
    ],
)
def test_a_metric_of_ones_own_with_a_taken_name_or_no_number_is_refused(own, binary, name, function, error, message):
    with pytest.raises(error, match=message):
        own({name: function})
        target_named("binary").metrics(binary)


def test_other_metrics_of_ones_own_take_the_place_of_the_first(own):
    own({"first": len})
    own({"second": len})
    assert own_metric_names() == ("second",)
    with pytest.raises(ValueError, match="metric 'first' is not one of auroc.*second"):
        metric_function("first")
