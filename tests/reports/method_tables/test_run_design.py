"""Runs that draw their own bags, and seeds of one split, have other statistics than folds."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from milpath.metrics.weighted_metrics import METRICS
from milpath.reports.method_tables.method_table import compare_methods
from milpath.reports.method_tables.run_design import Design, FoldResult
from milpath.targets.evaluation import evaluate_bags


def runs(method, gain, num_runs=8, digest="tiles of draw {}"):
    """Results on bags of the same names, which each run has drawn anew."""
    for run in range(num_runs):
        rng = np.random.default_rng(run)
        labels = np.arange(60) % 2
        positive = 1 / (1 + np.exp(-(gain * (labels - 0.5) + rng.normal(size=60))))
        outcomes = evaluate_bags(labels, np.stack([1 - positive, positive], axis=1), "binary")
        yield FoldResult(
            method, 0, run, [f"bag_{bag}" for bag in range(60)], outcomes, 100, tiles_sha256=digest.format(run)
        )


def values_of(results):
    return np.array([float(METRICS["auroc"](run.outcomes)) for run in results])


def test_independent_draws_have_intervals_and_a_test_over_draws():
    first, second = list(runs("attention", 2.0)), list(runs("mean", 1.5))
    table = compare_methods([*first, *second], "auroc")
    assert table.design is Design.DRAWS
    for row, results in zip(table.rows, (first, second), strict=True):
        values = values_of(results)
        low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
        assert (row.interval.low, row.interval.high) == pytest.approx((low, high))
    expected = stats.ttest_rel(values_of(second), values_of(first))
    test = table.rows[1].test
    assert test.p_value == pytest.approx(expected.pvalue)
    assert (test.low, test.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert test.name == "paired t-test over draws"
    assert any("Every run draws its own training and test bags" in note for note in table.notes)
    assert not any("Nadeau" in note or "bootstrap" in note for note in table.notes)


def test_methods_are_paired_on_the_same_draws_only():
    first, second = list(runs("attention", 2.0)), list(runs("mean", 1.5))
    second = [*second[:5], *(replace(run, tiles_sha256=f"other {run.fold}") for run in second[5:])]
    test = compare_methods([*first, *second], "auroc").rows[1].test
    assert test.p_value == pytest.approx(stats.ttest_rel(values_of(second)[:5], values_of(first)[:5]).pvalue)
    unpaired = [replace(run, tiles_sha256=f"other {run.fold}") for run in second]
    assert compare_methods([*first, *unpaired], "auroc").rows[1].test is None


def test_two_draws_have_no_interval():
    row = compare_methods(runs("attention", 2.0, num_runs=2), "auroc").rows[0]
    assert row.standard_error is not None
    assert (row.interval.low, row.interval.high) == (None, None)


@pytest.mark.parametrize("digest", ["tiles of the data", ""])
def test_seeds_of_one_split_give_no_p(digest):
    table = compare_methods([*runs("attention", 2.0, digest=digest), *runs("mean", 1.5, digest=digest)], "auroc")
    assert table.design is Design.SEEDS
    assert [row.test for row in table.rows] == [None, None]
    assert table.rows[0].interval.low < table.rows[0].mean < table.rows[0].interval.high
    assert any(note.startswith("No p: other seeds on one split") for note in table.notes)
    assert not any("Nadeau" in note for note in table.notes)
