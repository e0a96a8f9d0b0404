import numpy as np
import pytest

from milpath.metrics.shortcuts.exchangeable_bags import permuted_column
from milpath.metrics.shortcuts.permutation import permuted

PAIR = np.array([0, 1])


def each_patient(rows, num_patients):
    return rows.reshape(len(rows), num_patients, -1)


def test_bags_of_patients_with_one_class_each_are_permuted_as_within_each_class():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), rng.integers(1, 5, 30))
    kinds, codes = rng.integers(0, 2, 30)[groups], rng.integers(0, 3, 30)[groups]
    for known in (groups, None):
        found = permuted_column(codes, kinds, known, 50, seed=7)
        for kind in (0, 1):
            own = kinds == kind
            inside = None if known is None else np.unique(groups[own], return_inverse=True)[1]
            expected = np.concatenate(list(permuted(codes[own], inside, 50, 7 + kind)))
            np.testing.assert_array_equal(found.rows[:, own], expected)
        assert found.how == f"values permuted within classes{'' if known is None else ' and by group'}"
    assert permuted_column(codes, np.zeros_like(kinds), groups, 5).how == "values permuted by group"


def test_all_bags_of_a_patient_of_whatever_class_get_one_value_from_a_patient_with_the_same_classes():
    kinds = np.concatenate([np.tile([0, 0], 8), np.tile([1, 1], 8), np.tile(PAIR, 8)])
    groups, codes = np.repeat(np.arange(24), 2), np.repeat(np.arange(24), 2)
    found = permuted_column(codes, kinds, groups, 200)
    rows = each_patient(found.rows, 24)
    assert (rows[..., 0] == rows[..., 1]).all()
    for start in (0, 8, 16):
        assert (np.sort(rows[:, start : start + 8, 0]) == np.arange(start, start + 8)).all()
    assert found.how == "values permuted over whole groups with similar shares of classes"


def counts_of_patients(kind_sets):
    groups = np.repeat(np.arange(len(kind_sets)), [len(each) for each in kind_sets])
    return groups, np.concatenate([np.array(each) for each in kind_sets])


MOSTLY_0, MOSTLY_1 = [0, 0, 0, 0, 1], [0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("kind_sets", "alike", "sets"),
    [
        ([MOSTLY_0] * 6 + [MOSTLY_1] * 6, "with similar shares of classes", [6, 6]),
        ([MOSTLY_0] * 5 + [MOSTLY_1] * 5, "with the same classes", [10]),
        ([[2, 2]] * 3 + [[0, 1], [1, 2], [0, 2]] * 3, "with bags of one, or of several classes", [3, 9]),
        ([[0, 0]] * 3 + [[1, 1]] * 3 + [[0, 1]] * 3, "of any classes", [9]),
        # Nor are two and three of them enough if taken together.
        ([[0, 0]] * 2 + [[0, 1]] * 3, "with similar shares of classes", [2, 3]),
    ],
)
def test_sets_of_patients_that_are_alike_are_made_larger_if_they_are_too_small_to_permute(kind_sets, alike, sets):
    groups, kinds = counts_of_patients(kind_sets)
    found = permuted_column(groups, kinds, groups, 300)
    assert found.how == f"values permuted over whole groups {alike}"
    firsts = found.rows[:, np.unique(groups, return_index=True)[1]]
    ends = np.cumsum(sets)
    for start, end in zip(ends - sets, ends, strict=True):
        assert all(set(firsts[:, place]) == set(range(start, end)) for place in range(start, end))


def test_several_values_of_a_patient_stay_with_the_patient_and_are_permuted_within_each_class():
    groups, kinds = counts_of_patients([[0, 0, 0, 1, 1], [0, 1, 1, 1, 1, 1]] + [[0, 1]] * 6)
    codes = np.concatenate([[0, 1, 1, 0, 1], [1, 0, 0, 1, 1, 0], np.repeat([0, 1] * 3, 2)])
    found = permuted_column(codes, kinds, groups, 400)
    for patient in (0, 1):
        for kind in (0, 1):
            own = (groups == patient) & (kinds == kind)
            assert (found.rows[:, own].sum(axis=1) == codes[own].sum()).all()
    assert found.rows[:, :3].mean(axis=0) == pytest.approx([2 / 3] * 3, abs=0.08)
    whole = each_patient(found.rows[:, groups > 1], 6)
    assert (whole[..., 0] == whole[..., 1]).all()
    assert found.how == (
        "values permuted over whole groups with similar shares of classes, "
        "and within groups and classes where a group has several"
    )


def test_patients_with_several_values_and_equally_many_bags_of_each_class_exchange_them():
    """One benign and one malignant slide, always at different scanners: nothing could be permuted within a patient."""
    groups, kinds = np.repeat(np.arange(8), 2), np.tile(PAIR, 8)
    codes = np.concatenate([np.tile([0, 1], 4), np.tile([1, 0], 4)])
    found = permuted_column(codes, kinds, groups, 400)
    rows = each_patient(found.rows, 8)
    assert (rows.sum(axis=2) == 1).all()
    assert (rows[..., 0].sum(axis=1) == 4).all()
    assert rows[..., 0].mean(axis=0) == pytest.approx([0.5] * 8, abs=0.1)
    assert found.how == "values permuted within groups and classes"
