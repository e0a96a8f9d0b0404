import numpy as np

from milpath.data.splits.fold_assignment import assign_folds


def test_shares_are_kept_in_every_stratum():
    strata = np.repeat(np.arange(3), 100)[:, None]
    folds = assign_folds(strata, np.arange(300), [0.2, 0.8], np.random.default_rng(0))
    for stratum in range(3):
        assert (folds[strata[:, 0] == stratum] == 0).sum() == 20


def test_groups_stay_whole_and_sizes_even_out():
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(0, 60, 400))
    groups = np.unique(groups, return_inverse=True)[1]
    strata = rng.integers(0, 2, (400, 1))
    folds = assign_folds(strata, groups, [1.0] * 5, np.random.default_rng(1))
    assert all(len(set(folds[groups == group])) == 1 for group in np.unique(groups))
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 8
    shares = [strata[folds == fold].mean() for fold in range(5)]
    assert max(shares) - min(shares) < 0.06


def test_the_second_level_is_balanced_where_the_first_leaves_a_choice():
    """Six strata of three bags each: one level alone could pile one label up in a fold."""
    first = np.repeat(np.arange(6), 4)
    second = first % 2
    folds = assign_folds(np.stack([first, second], axis=1), np.arange(24), [1.0] * 3, np.random.default_rng(0))
    for label in (0, 1):
        assert np.bincount(folds[second == label], minlength=3).tolist() == [4, 4, 4]
