import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from milpath.training.split_metrics import SplitMetrics, compute_metrics, predicted_classes


@pytest.fixture
def binary() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (200,), generator=generator)
    malignant = torch.sigmoid(torch.randn(200, generator=generator) + labels)
    return torch.stack([1 - malignant, malignant], 1), labels


@pytest.fixture
def grades() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(6, (300,), generator=generator)
    logits = torch.randn(300, 6, generator=generator) + 2 * torch.nn.functional.one_hot(labels, 6)
    return logits.softmax(1), labels


def test_binary_metrics_equal_those_of_scikit_learn(binary):
    probabilities, labels = binary
    score, truth = probabilities[:, 1].numpy(), labels.numpy()
    called = score >= 0.5
    result = compute_metrics(probabilities, labels, "binary")
    expected = {
        "auroc": sk.roc_auc_score(truth, score),
        "average_precision": sk.average_precision_score(truth, score),
        "accuracy": sk.accuracy_score(truth, called),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, called),
        "sensitivity": sk.recall_score(truth, called),
        "specificity": sk.recall_score(1 - truth, ~called),
        "f1": sk.f1_score(truth, called),
        "brier": sk.brier_score_loss(truth, score),
    }
    assert result.keys() == expected.keys() | {"ece"}
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-6), name


def test_metrics_of_six_grades_equal_those_of_scikit_learn(grades):
    probabilities, labels = grades
    truth, called = labels.numpy(), probabilities.argmax(1).numpy()
    result = compute_metrics(probabilities, labels, "nominal")
    expected = {
        "auroc": sk.roc_auc_score(truth, probabilities.numpy(), multi_class="ovr", average="macro"),
        "accuracy": sk.accuracy_score(truth, called),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, called),
        "f1": sk.f1_score(truth, called, average="macro"),
        "quadratic_kappa": sk.cohen_kappa_score(truth, called, weights="quadratic"),
        "brier": np.mean(((probabilities.numpy() - np.eye(6)[truth]) ** 2).sum(1)),
    }
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-6), name


def test_calibration_error_equals_its_definition(binary):
    probabilities, labels = binary
    score = probabilities[:, 1].numpy()
    bins = np.clip(np.ceil(score * 15) - 1, 0, 14).astype(int)
    expected = sum(
        abs(score[bins == b].mean() - labels.numpy()[bins == b].mean()) * (bins == b).mean()
        for b in range(15)
        if (bins == b).any()
    )
    assert compute_metrics(probabilities, labels, "binary")["ece"] == pytest.approx(expected, abs=1e-6)


def test_batches_give_what_all_bags_at_once_give(binary):
    probabilities, labels = binary
    metrics = SplitMetrics("binary", 2)
    for start in range(0, 200, 7):
        metrics.update(probabilities[start : start + 7], labels[start : start + 7])
    assert metrics.compute() == pytest.approx(compute_metrics(probabilities, labels, "binary"), abs=1e-6)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_leaves_auroc_undefined_instead_of_zero(label):
    probabilities = torch.tensor([[0.3, 0.7], [0.6, 0.4]])
    result = compute_metrics(probabilities, torch.full((2,), label), "binary")
    assert result["auroc"] is None
    assert result["specificity" if label else "sensitivity"] is None
    assert result["accuracy"] == 0.5


def test_a_missing_grade_leaves_the_macro_auroc_undefined(grades):
    probabilities, labels = grades
    kept = labels != 3
    assert compute_metrics(probabilities[kept], labels[kept], "nominal")["auroc"] is None


def test_the_threshold_moves_sensitivity_and_not_auroc(binary):
    low, high = (compute_metrics(*binary, "binary", threshold=value) for value in (0.2, 0.8))
    assert low["sensitivity"] > high["sensitivity"]
    assert low["auroc"] == high["auroc"]


def test_an_ordinal_prediction_is_the_median_class():
    assert predicted_classes(torch.tensor([[0.45, 0.0, 0.1, 0.45]]), "ordinal").item() == 2


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="'regression' is none of binary, nominal, ordinal"):
        SplitMetrics("regression", 2)


@pytest.mark.parametrize(("task", "classes"), [("binary", 2), ("nominal", 6), ("ordinal", 6)])
def test_a_step_without_a_bag_changes_no_metric(task, classes, binary, grades):
    probabilities, labels = binary if classes == 2 else grades
    metrics = SplitMetrics(task, classes)
    metrics.update(probabilities, labels)
    before = metrics.compute()
    metrics.update(probabilities[:0], labels[:0])
    assert metrics.compute() == before
