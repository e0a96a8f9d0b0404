import numpy as np
import pytest
from sklearn import metrics as sk

from milpath.targets.evaluation import compute_metrics, evaluate_bags


@pytest.fixture
def two_classes() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=200)
    malignant = 1 / (1 + np.exp(-generator.normal(size=200) - labels))
    return np.stack([1 - malignant, malignant], 1), labels


@pytest.fixture
def grades() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    labels = generator.integers(6, size=300)
    logits = np.exp(generator.normal(size=(300, 6)) + 2 * np.eye(6)[labels])
    return logits / logits.sum(axis=1, keepdims=True), labels


def test_binary_metrics_equal_those_of_scikit_learn(two_classes):
    probabilities, labels = two_classes
    score, truth = probabilities[:, 1], labels
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
    truth, called = labels, probabilities.argmax(1)
    result = compute_metrics(probabilities, labels, "nominal")
    expected = {
        "auroc": sk.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro"),
        "accuracy": sk.accuracy_score(truth, called),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, called),
        "f1": sk.f1_score(truth, called, average="macro"),
        "quadratic_kappa": sk.cohen_kappa_score(truth, called, weights="quadratic"),
        "brier": np.mean(((probabilities - np.eye(6)[truth]) ** 2).sum(1)),
    }
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-6), name


def test_calibration_error_equals_its_definition(two_classes):
    probabilities, labels = two_classes
    score = probabilities[:, 1]
    bins = np.clip(np.ceil(score * 15) - 1, 0, 14).astype(int)
    expected = sum(
        abs(score[bins == b].mean() - labels[bins == b].mean()) * (bins == b).mean()
        for b in range(15)
        if (bins == b).any()
    )
    assert compute_metrics(probabilities, labels, "binary")["ece"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_leaves_auroc_undefined_instead_of_zero(label):
    probabilities = np.array([[0.3, 0.7], [0.6, 0.4]])
    result = compute_metrics(probabilities, np.full(2, label), "binary")
    assert result["auroc"] is None
    assert result["specificity" if label else "sensitivity"] is None
    assert result["accuracy"] == 0.5


def test_a_missing_grade_leaves_the_macro_auroc_undefined(grades):
    probabilities, labels = grades
    kept = labels != 3
    assert compute_metrics(probabilities[kept], labels[kept], "nominal")["auroc"] is None


def test_the_threshold_moves_sensitivity_and_not_auroc(two_classes):
    low, high = (compute_metrics(*two_classes, "binary", threshold=value) for value in (0.2, 0.8))
    assert low["sensitivity"] > high["sensitivity"]
    assert low["auroc"] == high["auroc"]


def test_a_perfect_ranking_is_one_and_not_more(grades):
    """In float32 the average precision of a perfect ranking came out as 1.0000001192092896."""
    _, labels = grades
    for threshold in np.linspace(0.1, 0.9, 9):
        result = compute_metrics(np.eye(6)[labels] * 0.7 + 0.05, labels, "nominal", threshold)
        assert result["average_precision"] == 1.0
        assert result["auroc"] == 1.0


@pytest.mark.parametrize(
    ("labels", "probabilities", "task", "words"),
    [
        ([0], [[0.5, 0.5]], "counting", "task 'counting' is not one of binary, nominal, ordinal"),
        ([0], [[0.2, 0.3, 0.5]], "binary", "has 2 classes"),
        ([2], [[0.5, 0.5]], "binary", "labels must be in 0..1"),
        ([0], [[0.5, 0.2]], "binary", "sum to 1"),
        ([0], [[float("nan"), 0.2]], "binary", "finite"),
        ([0, 1], [[0.5, 0.5]], "binary", "expected labels"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(labels, probabilities, task, words):
    with pytest.raises(ValueError, match=words):
        evaluate_bags(labels, np.array(probabilities), task)


def test_a_group_for_each_bag_is_asked_for():
    with pytest.raises(ValueError, match="2 bags have 1 groups"):
        evaluate_bags([0, 1], np.full((2, 2), 0.5), "binary", groups=["a"])
