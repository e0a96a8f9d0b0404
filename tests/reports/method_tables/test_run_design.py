"""Runs that draw their own bags, and seeds of one split, have other statistics than folds."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from milpath.metrics.comparison import corrected_resampled_t_test
from milpath.metrics.intervals import resample_weights
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


def seeds(method, gain, **change):
    """Runs of one split: the same bags and labels, and other noise."""
    labels = np.arange(60) % 2
    for run, result in enumerate(runs(method, gain)):
        noise = np.random.default_rng(0).normal(size=60) + 0.3 * np.random.default_rng([1, run]).normal(size=60)
        positive = 1 / (1 + np.exp(-(gain * (labels - 0.5) + noise)))
        outcomes = evaluate_bags(labels, np.stack([1 - positive, positive], axis=1), "binary")
        yield replace(
            result, **({"outcomes": outcomes, "tiles_sha256": "tiles", "splits_sha256": "the split"} | change)
        )


def test_seeds_of_one_split_give_no_p_and_the_difference_with_an_interval_over_bags():
    first, second = list(seeds("attention", 2.0)), list(seeds("mean", 1.0))
    table = compare_methods([*first, *second], "auroc", num_resamples=300)
    assert table.design is Design.SEEDS
    assert [row.test for row in table.rows] == [None, None]
    assert table.rows[0].difference is None
    assert table.rows[0].interval.low < table.rows[0].mean < table.rows[0].interval.high
    found = table.rows[1].difference
    drawn = []
    place = np.argsort(np.argsort([f"bag_{bag}" for bag in range(60)]))  # resamples are of sorted names
    for weights in (weights[place] for part in resample_weights(60, None, 300, 0) for weights in part):
        each = [[float(METRICS["auroc"](run.outcomes, weights)) for run in part] for part in (second, first)]
        drawn.append(np.mean(each[0]) - np.mean(each[1]))
    assert found.value == pytest.approx(values_of(second).mean() - values_of(first).mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))
    assert any(note.startswith("No p: other seeds on one split") for note in table.notes)
    words = f"mean minus attention: {found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
    assert any(note.startswith(words) for note in table.notes)
    assert not any("Nadeau" in note for note in table.notes)


def test_splits_that_overlap_are_folds():
    """Monte-Carlo cross-validation: a bag is tested by several runs, and trains others."""
    results = []
    for method, gain in (("attention", 2.0), ("mean", 1.5)):
        for run, result in enumerate(seeds(method, gain)):
            chosen = np.random.default_rng([2, run]).permutation(60)[:40]
            results.append(
                replace(
                    result,
                    bag_ids=[result.bag_ids[bag] for bag in chosen],
                    outcomes=result.outcomes.part(chosen),
                    num_train=20,
                    splits_sha256=f"split {run}",
                )
            )
    table = compare_methods(results, "auroc")
    assert table.design is Design.FOLDS
    first, second = (values_of([run for run in results if run.method == name]) for name in ("attention", "mean"))
    assert table.rows[1].test == corrected_resampled_t_test(second.tolist(), first.tolist(), 40 / 20)
    assert not any("same test bags" in note for note in table.notes)


@pytest.mark.parametrize(
    "of_run",
    [
        pytest.param(lambda run: {"tiles_sha256": "", "splits_sha256": ""}, id="not recorded"),
        pytest.param(lambda run: {"tiles_sha256": f"draw {run // 2}"}, id="seeds of several draws"),
    ],
)
def test_runs_of_which_it_is_not_known_what_they_share_have_no_p(of_run):
    results = [
        replace(result, **of_run(result.fold))
        for method, gain in (("attention", 2.0), ("mean", 1.5))
        for result in seeds(method, gain)
    ]
    table = compare_methods(results, "auroc")
    assert table.design is Design.UNKNOWN
    assert [(row.test, row.difference) for row in table.rows] == [(None, None)] * 2
    assert any("it is not known" in note for note in table.notes)
    assert not any("Every run" in note for note in table.notes)
