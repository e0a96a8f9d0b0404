from itertools import permutations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, stats

from milpath.metrics.faithfulness.perturbation_curves import (
    KEPT,
    REMOVED,
    area,
    mean_intervals,
    num_kept,
    num_removed,
    ratio_interval,
    value_at,
)
from milpath.metrics.intervals import bootstrap_interval


@pytest.mark.parametrize("num_tiles", [2, 3, 10, 20, 1000])
def test_a_bag_is_never_empty_and_is_whole_at_the_ends(num_tiles):
    removed, kept = num_removed(num_tiles), num_kept(num_tiles)
    assert removed[0] == 0
    assert kept[-1] == num_tiles
    assert kept.min() >= 1
    assert removed.max() <= num_tiles - 1
    assert (np.diff(removed) >= 0).all()
    assert (np.diff(kept) >= 0).all()
    # What is kept of an order is what stays where the rest is removed.
    assert_allclose(KEPT, 1 - REMOVED[::-1])
    assert (kept + removed[::-1] == num_tiles).all()
    # The shares are exact where the bag can be cut so.
    if num_tiles == 1000:
        assert removed.tolist() == list(range(0, 1000, 50))
        assert kept.tolist() == list(range(50, 1001, 50))


@pytest.mark.parametrize("num_tiles", [2, 3, 4, 5, 6])
def test_over_all_orders_of_a_bag_there_is_no_area_between_the_curves(num_tiles):
    # Any answer to any part of the bag; part 1 has tile 0, and so on.
    answers = np.random.default_rng(num_tiles).random(1 << num_tiles)
    removed, kept = num_removed(num_tiles), num_kept(num_tiles)
    gains = []
    for order in permutations(range(num_tiles)):
        bits = 1 << np.array(order)
        deletion = np.array([answers[bits[size:].sum()] for size in removed])
        insertion = np.array([answers[bits[:size].sum()] for size in kept])
        gains.append(float(area(insertion) - area(deletion)))
        # In reverse order what was put back first is removed last.
        backwards = np.array([answers[bits[::-1][size:].sum()] for size in removed])
        assert_allclose(insertion, backwards[::-1])
    assert max(gains) > 0.05
    assert abs(np.mean(gains)) < 1e-12


@pytest.mark.parametrize("num_tiles", [5, 8, 10, 33])
def test_random_orders_gain_nothing_where_one_tile_decides(num_tiles):
    # A random part of k tiles has the tile with probability k / n.
    expected = area(num_kept(num_tiles) / num_tiles) - area((num_tiles - num_removed(num_tiles)) / num_tiles)
    assert abs(float(expected)) < 1e-12


def test_the_area_is_that_of_the_trapezoidal_rule():
    curves = np.random.default_rng(0).random((4, len(REMOVED)))
    width = REMOVED[-1] - REMOVED[0]
    assert_allclose(area(curves), integrate.trapezoid(curves, REMOVED, axis=-1) / width)
    assert_allclose(area(curves), integrate.trapezoid(curves, KEPT, axis=-1) / width)


def test_a_curve_between_two_steps_is_a_straight_line():
    curve = np.random.default_rng(0).random((3, len(REMOVED)))
    for share in (0.0, 0.03, 0.1, 0.5, 0.95):
        assert_allclose(value_at(share, curve, REMOVED), [np.interp(share, REMOVED, row) for row in curve])


def test_intervals_of_columns_are_those_of_each_by_itself():
    values = np.random.default_rng(0).normal(size=(40, 2))
    groups = np.array([f"patient {number // 4}" for number in range(40)])

    def mean(weights):
        return np.asarray(values[:, 1].mean() if weights is None else weights @ values[:, 1] / weights.sum(1))

    found, expected = mean_intervals(values, groups)[1], bootstrap_interval(mean, 40, groups)
    assert_allclose([found.value, found.low, found.high], [expected.value, expected.low, expected.high], rtol=1e-12)
    wide, narrow = mean_intervals(values, groups)[0], mean_intervals(values)[0]
    assert wide.value == pytest.approx(narrow.value)
    assert wide.low != narrow.low


def test_a_bag_without_a_value_counts_in_no_mean():
    values = np.array([[1.0, np.nan], [3.0, 2.0], [5.0, 4.0]])
    first, second = mean_intervals(values)
    assert (first.value, second.value) == (3.0, 3.0)
    (none,) = mean_intervals(np.full((3, 1), np.nan))
    assert none.value is None


def test_the_interval_of_a_ratio_is_that_of_scipy_and_leaves_out_what_is_not_known():
    rng = np.random.default_rng(0)
    below = rng.uniform(0.5, 1.5, 60)
    above = 0.4 * below + rng.normal(0, 0.1, 60)
    found = ratio_interval(np.append(above, [np.nan, 9.0]), np.append(below, [1.0, np.nan]), None, 4000)
    theirs = stats.bootstrap(
        (above, below), lambda one, other, axis: one.mean(axis) / other.mean(axis), paired=True, method="percentile",
        n_resamples=4000, vectorized=True, rng=0,
    ).confidence_interval  # fmt: skip
    assert found.value == pytest.approx(above.mean() / below.mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.003)


def test_a_ratio_to_what_is_not_above_zero_has_no_value():
    found = ratio_interval(np.ones(5), np.array([-1.0, -1.0, 1.0, 0.5, 0.0]))
    assert (found.value, found.low, found.high) == (None, None, None)
