import numpy as np
import pytest

from milpath.metrics.shortcuts.association import associations
from milpath.metrics.shortcuts.permutation import group_codes, holm, p_value, permuted


def drawn(values, groups, count=400, seed=0):
    return np.concatenate(list(permuted(values, groups, count, seed)))


def test_groups_of_one_value_exchange_their_values_as_a_whole():
    groups = np.array([0, 0, 0, 1, 2, 2])
    rows = drawn(np.array([1, 1, 1, 0, 0, 0]), groups)
    assert all(len(set(row[:3])) == 1 and row[4] == row[5] for row in rows)
    # One of three groups has the value 1, each as often as the others.
    assert [(rows[:, place] == 1).mean() for place in (0, 3, 4)] == pytest.approx([1 / 3] * 3, abs=0.08)


def test_groups_of_mixed_values_keep_the_number_of_each_value_and_their_likeness():
    groups = np.repeat(np.arange(10), 6)
    values = (groups < 5).astype(np.int64)
    values[0] = 0  # one group is mixed
    rows = drawn(values, groups)
    assert (rows.sum(axis=1) == values.sum()).all()
    # Bags of one group agree far more often than bags drawn at random would.
    agree = (rows.reshape(len(rows), 10, 6)[..., 0] == rows.reshape(len(rows), 10, 6)[..., 1]).mean()
    assert agree > 0.75


def test_pairs_of_one_patient_with_both_labels_are_shuffled():
    """In a row of patients with a benign and a malignant slide each, a mere shift would give back the same labels."""
    groups, values = np.repeat(np.arange(20), 2), np.tile([0, 1], 20)
    rows = drawn(values, groups)
    assert (rows == values).all(axis=1).mean() < 0.01


def test_single_bags_are_permuted_without_groups():
    rows = drawn(np.arange(5), None)
    assert all(sorted(row) == list(range(5)) for row in rows)
    assert len({tuple(row) for row in rows}) > 100


def test_the_smallest_p_value_is_one_by_the_number_of_permutations_plus_one():
    assert p_value(1.0, np.zeros(99)) == 0.01
    assert p_value(0.0, np.zeros(99)) == 1.0


def test_holm_equals_its_definition():
    raw = [0.01, 0.04, 0.03, 0.005]
    assert holm(raw) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([]) == []


def null_data(seed, mixed):
    """Patients of one to ten slides; label and scanner are drawn by patient, independently."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(40), rng.integers(1, 11, 40))
    labels, scanner = rng.integers(0, 2, 40)[groups], rng.integers(0, 2, 40)[groups]
    if mixed:  # a fifth of the slides are not like the others of their patient
        labels = np.where(rng.random(len(groups)) < 0.2, 1 - labels, labels)
    return labels.astype(np.int64), scanner.astype(str), groups.astype(str)


@pytest.mark.parametrize("mixed", [False, True], ids=["one label a patient", "mixed labels"])
def test_false_alarms_are_as_rare_as_promised(mixed):
    by_group, by_slide = [], []
    for seed in range(150):
        labels, scanner, groups = null_data(seed, mixed)
        for groups_used, found in ((groups, by_group), (None, by_slide)):
            (each,) = associations(
                labels, {"scanner": scanner}, groups_used, num_permutations=99, num_resamples=2, seed=seed
            )
            found.append(each.p_value)
    # 0.05 with three standard errors of 150 data sets.
    assert np.mean(np.array(by_group) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)
    assert np.mean(np.array(by_group) <= 0.5) >= 0.3  # nor are they all large
    # Slides that count as independent raise an alarm far more often: this is what the groups are for.
    assert np.mean(np.array(by_slide) <= 0.05) > 0.1


def test_codes_follow_the_sorted_names():
    assert group_codes(np.array(["b", "a", "b"])).tolist() == [1, 0, 1]
    assert group_codes(None) is None
