from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from milpath.metrics.weighted_metrics import METRICS
from milpath.reports.method_tables.method_table import compare_methods
from milpath.reports.method_tables.run_design import FoldResult
from milpath.targets.evaluation import evaluate_bags


def fold_results(method, gain, folds=5, repeats=2, num_bags=100, groups=None, seed=0):
    """Cross-validation of a method that knows so much of the label."""
    labels = np.random.default_rng(seed).integers(2, size=num_bags)
    for repeat in range(repeats):
        order = np.random.default_rng(repeat).permutation(num_bags)
        noise = np.random.default_rng(100 + repeat).normal(size=num_bags)
        positive = 1 / (1 + np.exp(-(gain * (labels - 0.5) + noise)))
        for fold, bags in enumerate(np.array_split(order, folds)):
            probabilities = np.stack([1 - positive[bags], positive[bags]], axis=1)
            of_bags = None if groups is None else groups[bags]
            outcomes = evaluate_bags(labels[bags], probabilities, "binary", groups=of_bags)
            yield FoldResult(method, repeat, fold, [f"bag_{bag}" for bag in bags], outcomes, num_bags - len(bags))


def test_mean_error_and_test_are_those_of_the_folds():
    results = [*fold_results("attention", 2.0), *fold_results("mean", 0.5)]
    table = compare_methods(results, "auroc")
    first, second = table.rows
    values = [
        [float(METRICS["auroc"](fold.outcomes)) for fold in results if fold.method == row.method] for row in table.rows
    ]
    assert first.mean == pytest.approx(np.mean(values[0]))
    assert first.standard_error == pytest.approx(stats.sem(values[0]))
    assert first.test is None
    assert first.interval.low < first.mean < first.interval.high
    differences = np.array(values[1]) - np.array(values[0])
    statistic = differences.mean() / np.sqrt((1 / 10 + 20 / 80) * differences.var(ddof=1))
    assert second.test.p_value == pytest.approx(2 * stats.t.sf(abs(statistic), 9))
    assert table.complete


def test_a_failed_fold_is_named_and_not_averaged_over():
    results = list(fold_results("attention", 2.0))
    whole = compare_methods(results, "accuracy").rows[0]
    broken = [*results[:3], FoldResult("attention", 0, 3, failure="ValueError: loss is NaN"), *results[4:]]
    table = compare_methods(broken, "accuracy")
    row = table.rows[0]
    assert (row.num_done, row.num_planned) == (9, 10)
    assert row.failed == ("repeat 0, fold 3: ValueError: loss is NaN",)
    others = [value for key, value in whole.values.items() if key != (0, 3)]
    assert row.mean == pytest.approx(np.mean(others))
    assert "attention: FAILED repeat 0, fold 3: ValueError: loss is NaN" in table.notes
    assert not table.complete


def test_a_fold_with_one_class_is_named_undefined():
    one_class = evaluate_bags([1, 1], np.array([[0.4, 0.6], [0.3, 0.7]]), "binary")
    results = [*fold_results("attention", 2.0, repeats=1), FoldResult("attention", 1, 0, ["a", "b"], one_class, 80)]
    row = compare_methods(results, "auroc").rows[0]
    assert row.undefined == ("repeat 1, fold 0",)
    assert (row.num_done, row.num_planned) == (5, 6)


def test_a_method_without_a_fold_has_no_number():
    results = [*fold_results("attention", 2.0), FoldResult("mean", 0, 0, failure="RuntimeError: out of memory")]
    row = compare_methods(results, "auroc").rows[1]
    assert (row.mean, row.standard_error, row.interval, row.test) == (None, None, None, None)


def test_bags_of_one_patient_widen_the_interval():
    patients = np.arange(100) % 12
    alone = compare_methods(fold_results("attention", 1.0), "accuracy").rows[0].interval
    # Labels follow the patient here, so a patient is right or wrong as a whole more often than not.
    labels = (np.arange(12) % 2)[patients]
    guess = np.where(np.isin(patients, [3, 4, 8]), 1 - labels, labels)
    outcomes = evaluate_bags(labels, np.eye(2)[guess], "binary", groups=patients)
    grouped = [FoldResult("attention", 0, 0, [f"bag_{n}" for n in range(100)], outcomes, 400)]
    ungrouped = [
        FoldResult("attention", 0, 0, grouped[0].bag_ids, evaluate_bags(labels, np.eye(2)[guess], "binary"), 400)
    ]
    wide = compare_methods(grouped, "accuracy").rows[0].interval
    narrow = compare_methods(ungrouped, "accuracy").rows[0].interval
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert alone.num_undefined == 0


@pytest.mark.parametrize(
    ("results", "reference", "words"),
    [
        ([], None, "at least one method"),
        ([FoldResult("a", 0, 0, failure="x"), FoldResult("a", 0, 0, failure="x")], None, "is given twice"),
        ([FoldResult("a", 0, 0, failure="x")], "b", "must be one of the methods a, got 'b'"),
    ],
)
def test_results_that_make_no_table_are_refused(results, reference, words):
    with pytest.raises(ValueError, match=words):
        compare_methods(results, "auroc", reference=reference)


def test_folds_that_share_their_test_bags_are_said_to():
    same = {"bag_ids": [f"bag_{n}" for n in range(20)], "tiles_sha256": "tiles", "splits_sha256": "split"}
    shared = [replace(fold, **same) for fold in fold_results("attention", 2.0)]
    words = "Every run has the same training and the same test bags"
    assert any(words in note for note in compare_methods(shared, "auroc").notes)
    assert not any(words in note for note in compare_methods(fold_results("attention", 2.0), "auroc").notes)
