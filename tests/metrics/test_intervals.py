import time
from functools import partial

import numpy as np
import pytest
from scipy import stats

from milpath.metrics.intervals import (
    bootstrap_interval,
    mean_and_standard_error,
    metric_intervals,
    percentile_interval,
    resample_weights,
    wilson,
)
from milpath.metrics.ranking import auroc
from milpath.metrics.weighted_metrics import METRICS
from milpath.targets import target_named


def _mean_of(values):
    return lambda weights: values.mean() if weights is None else weights @ values / weights.sum(axis=-1)


def test_a_thousand_resamples_of_ten_thousand_bags_take_seconds(draw_outcomes):
    outcomes = draw_outcomes(10_000, 2, "binary")
    start = time.process_time()
    interval = metric_intervals(outcomes, ["auroc"])["auroc"]
    assert time.process_time() - start < 5
    assert interval.low < interval.value < interval.high


def test_the_interval_of_a_mean_equals_the_bootstrap_of_scipy():
    values = np.random.default_rng(0).exponential(size=80)
    found = bootstrap_interval(_mean_of(values), 80, num_resamples=20_000)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile").confidence_interval
    assert found.low == pytest.approx(expected.low, abs=0.015)
    assert found.high == pytest.approx(expected.high, abs=0.015)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    held = 0
    for number in range(200):
        interval = bootstrap_interval(_mean_of(generator.normal(size=60)), 60, num_resamples=300, seed=number)
        held += interval.low <= 0 <= interval.high
    assert 0.89 <= held / 200 <= 0.985


def test_bags_of_one_group_are_drawn_together():
    groups = np.array(["a", "b", "a", "c", "b"])
    for weights in resample_weights(5, groups, num_resamples=50):
        assert (weights[:, 0] == weights[:, 2]).all()
        assert (weights[:, 1] == weights[:, 4]).all()
        assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_bags_that_repeat_one_another_widen_the_interval_when_grouped():
    values = np.repeat(np.random.default_rng(0).normal(size=40), 10)
    alone = bootstrap_interval(_mean_of(values), 400)
    grouped = bootstrap_interval(_mean_of(values), 400, np.repeat(np.arange(40), 10).astype(str))
    assert (grouped.high - grouped.low) > 2.5 * (alone.high - alone.low)


def test_the_same_seed_gives_the_same_interval_and_portions_change_nothing(monkeypatch, draw_outcomes):
    outcomes = draw_outcomes(200, 2, "binary")
    whole = metric_intervals(outcomes, METRICS)
    assert metric_intervals(outcomes, METRICS) == whole
    monkeypatch.setattr("milpath.metrics.intervals.PORTION", 200 * 7)
    in_portions = metric_intervals(outcomes, METRICS)
    assert in_portions["auroc"].low == pytest.approx(whole["auroc"].low)
    assert metric_intervals(outcomes, METRICS, seed=1) != in_portions


def test_an_undefined_metric_has_neither_value_nor_interval():
    scores = np.array([0.1, 0.2, 0.3])
    interval = bootstrap_interval(partial(auroc, np.zeros(3, bool), scores), 3)
    assert (interval.value, interval.low, interval.high) == (None, None, None)


def test_resamples_without_one_class_are_counted():
    positive = np.array([False, False, True, False, False, False])
    interval = bootstrap_interval(partial(auroc, positive, np.arange(6.0)), 6)
    # A bag is in none of six draws with probability (5/6)^6 = 0.335.
    assert 280 < interval.num_undefined < 390
    assert interval.low is not None


def test_standard_error_equals_scipy_and_needs_two_folds():
    values = [0.8, 0.9, 0.7, 0.95]
    mean, error = mean_and_standard_error(values)
    assert mean == pytest.approx(np.mean(values))
    assert error == pytest.approx(stats.sem(values))
    assert mean_and_standard_error([0.8]) == (0.8, None)
    assert mean_and_standard_error([]) == (None, None)


def test_nothing_to_draw_from_is_an_error():
    with pytest.raises(ValueError, match="needs bags and resamples, got 0"):
        next(resample_weights(0))


def test_resamples_that_all_agree_give_no_interval():
    interval = bootstrap_interval(_mean_of(np.ones(7)), 7)
    assert (interval.value, interval.low, interval.high) == (1.0, None, None)


def test_resamples_that_agree_up_to_rounding_give_no_interval():
    """0.500 (0.500 to 0.500) would read as certainty."""
    rounded = 0.5 + np.array([0.0, 1.2e-16, -1.2e-16] * 30)
    assert percentile_interval(0.5, rounded).low is None
    assert percentile_interval(0.0, rounded - 0.5).low is None, "likewise a difference of two networks"
    assert percentile_interval(0.5, np.append(rounded.repeat(11), 1.0)).low is None, "one resample without a class"
    assert percentile_interval(1e-7, 1e-7 * np.arange(90)).low == pytest.approx(2.225e-7), "small, and no rounding"


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_all_or_none_has_the_interval_of_wilson(share):

    found = wilson(share, 40)
    assert found == pytest.approx(stats.binomtest(round(40 * share), 40).proportion_ci(method="wilson"), abs=1e-12)
    assert found[1 - int(share)] != share
    assert all(wilson(share, count)[int(share)] == share for count in range(1, 200))


def test_forty_of_forty_correct_bags_have_an_interval_and_grouped_ones_a_wider_one():
    labels = np.arange(40) % 2
    probabilities = np.stack([1.0 - labels, labels], axis=1)
    names = ("accuracy", "sensitivity", "specificity", "auroc")
    alone = metric_intervals(target_named("binary").evaluate(labels, probabilities), names, num_resamples=50)
    assert (alone["accuracy"].low, alone["accuracy"].high) == pytest.approx((0.9124, 1.0), abs=1e-4)
    assert alone["sensitivity"].low == alone["specificity"].low == pytest.approx(wilson(1.0, 20)[0])
    assert alone["auroc"].low is None
    groups = (np.arange(40) // 8).astype(str)
    grouped = metric_intervals(
        target_named("binary").evaluate(labels, probabilities, 0.5, groups), names, num_resamples=50
    )
    assert grouped["accuracy"].low == pytest.approx(wilson(1.0, 5)[0])


def test_resamples_of_one_class_do_not_widen_what_needs_two():
    patients = np.repeat([f"patient {number}" for number in range(6)], [6, 6, 5, 5, 5, 5])
    labels = np.array([1] * 6 + [1] * 6 + [0] * 5 + [0] * 5 + [0] * 5 + [0, 1, 0, 1, 0])
    called = np.tile([0.4, 0.6], (32, 1))  # everything malignant, with the same score
    outcomes = target_named("binary").evaluate(labels, called, 0.5, patients)
    found = metric_intervals(outcomes, ["auroc", "balanced_accuracy", "average_precision"], num_resamples=500)
    undefined = found["auroc"].num_undefined
    assert 0 < undefined < 100
    assert {interval.num_undefined for interval in found.values()} == {undefined}
    assert found["balanced_accuracy"].value == 0.5
    assert (found["balanced_accuracy"].low, found["balanced_accuracy"].high) == (None, None)  # all the others agree
    assert found["average_precision"].high < 1


def test_metrics_of_two_classes_are_undefined_on_one():
    outcomes = target_named("binary").evaluate(np.ones(4, int), np.tile([0.4, 0.6], (4, 1)), 0.5)
    assert np.isnan(METRICS["balanced_accuracy"](outcomes))
    assert np.isnan(METRICS["average_precision"](outcomes))
    assert METRICS["sensitivity"](outcomes) == 1
    outcomes = target_named("binary").evaluate(np.array([0, 0, 0, 1]), np.tile([0.4, 0.6], (4, 1)), 0.5)
    assert METRICS["f1"](outcomes, np.array([[1.0, 1, 1, 0], [1, 1, 1, 1]])) == pytest.approx(
        [np.nan, 0.4], nan_ok=True
    )
