from itertools import combinations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from milpath.metrics.faithfulness.rank_agreement import kendall, overlap_by_chance, top_overlap
from milpath.metrics.number_metrics import spearman


@pytest.mark.parametrize("length", [2, 3, 17, 200, 1500])
@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlations_are_those_of_scipy(length, ties):
    draw = np.random.default_rng(length)
    first, second = draw.normal(size=(2, length))
    second += first
    if ties:
        first, second = np.r_[first, first].round(1), np.r_[second, second].round(1)
    assert_allclose(spearman(first, second), stats.spearmanr(first, second).statistic, atol=1e-12)
    assert_allclose(kendall(first, second), stats.kendalltau(first, second).statistic, atol=1e-12)


def test_a_constant_ranking_agrees_with_nothing_and_says_so():
    flat, other = np.ones(5), np.arange(5.0)
    for pair in ((flat, other), (other, flat), (flat, flat)):
        assert np.isnan(spearman(*pair))
        assert np.isnan(kendall(*pair))


def test_the_overlap_is_that_of_the_sets():
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=(2, 50))
    for top in (1, 5, 50):
        sets = [set(np.argsort(-values)[:top].tolist()) for values in (first, second)]
        assert top_overlap(first, second, top) == len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_tiles_with_equal_weights_share_the_last_places():
    hot, flat = np.array([1.0, 0, 0, 0]), np.ones(4)
    # Two of the top tiles: the hot one, and a third of each other; of the flat ones half of each.
    assert_allclose(top_overlap(hot, flat, 2), (0.5 + 3 / 3) / (1 + 3 * 0.5))
    assert_allclose(top_overlap(hot[::-1], flat, 2), top_overlap(hot, flat, 2))


@pytest.mark.parametrize("num_tiles", [1, 2, 3, 5, 7])
def test_the_overlap_by_chance_is_the_mean_over_all_pairs_of_sets(num_tiles):
    for num_top in range(1, num_tiles + 1):
        # By symmetry one of the two sets can stay.
        first = set(range(num_top))
        sets = [set(each) for each in combinations(range(num_tiles), num_top)]
        found = np.mean([len(first & each) / len(first | each) for each in sets])
        assert_allclose(overlap_by_chance(num_tiles, num_top), found, rtol=1e-12)


@pytest.mark.parametrize(("num_tiles", "num_top"), [(10, 1), (42, 5), (200, 40)])
def test_random_top_tiles_overlap_as_much_as_chance_says(num_tiles, num_top):
    draw = np.random.default_rng(0)
    found = [top_overlap(*draw.normal(size=(2, num_tiles)), num_top) for _ in range(4000)]
    assert abs(np.mean(found) - overlap_by_chance(num_tiles, num_top)) < 4 * np.std(found) / 4000**0.5
