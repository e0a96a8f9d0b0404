import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate

from milpath.metrics.faithfulness.perturbation_curves import (
    KEPT,
    REMOVED,
    area,
    mean_intervals,
    num_kept,
    num_removed,
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
    # The shares are exact where the bag can be cut so.
    if num_tiles == 1000:
        assert removed.tolist() == list(range(0, 1000, 50))
        assert kept.tolist() == list(range(50, 1001, 50))


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
