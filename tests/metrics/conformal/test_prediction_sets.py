"""Prediction sets: their coverage over many draws, against formulas written another way, and on too few patients."""

import json

import numpy as np
import pytest

from milpath.metrics.conformal import (
    Conformal,
    class_scores,
    fewest_groups,
    fit_conformal,
    measure_sets,
    measured_coverage,
    set_metrics,
)
from milpath.metrics.conformal.conformity_scores import score_quantile

NUM_DRAWS = 400


def drawn(generator, num_bags, num_classes=4, sharpness=1.0):
    """Draw labels that follow their probabilities, so that many sets hold more than one class."""
    probabilities = generator.dirichlet(np.full(num_classes, 1 / sharpness), num_bags)
    labels = (probabilities.cumsum(axis=1) > generator.random((num_bags, 1))).argmax(axis=1)
    return labels, probabilities


def set_by_hand(scores, labels, row, coverage):
    """The classes whose score is at most the ceil((n + 1) coverage)-th smallest score of the true classes."""
    true = sorted(scores[bag][label] for bag, label in enumerate(labels))
    rank = int(np.ceil((len(labels) + 1) * coverage - 1e-9))
    bound = true[rank - 1] if rank <= len(true) else np.inf
    return {k for k, value in enumerate(row) if value <= bound}


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_sets_are_those_of_the_textbook_formula(coverage):
    generator = np.random.default_rng(1)
    labels, probabilities = drawn(generator, 37)
    _, new = drawn(generator, 50)
    found = fit_conformal(labels, probabilities, "classes", coverage).sets(new)
    for row, inside in zip(new, found, strict=True):
        wanted = set_by_hand((1 - probabilities).tolist(), labels, 1 - row, coverage) | {int(row.argmax())}
        assert set(np.flatnonzero(inside)) == wanted


@pytest.mark.parametrize("kind", ["classes", "ordered"])
@pytest.mark.parametrize("by_class", [False, True])
def test_coverage_over_many_draws_is_what_was_asked(kind, by_class):
    generator = np.random.default_rng(2)
    shares = []
    for _ in range(NUM_DRAWS):
        conformal = fit_conformal(*drawn(generator, 60, 3), kind, 0.8, by_class)
        labels, probabilities = drawn(generator, 60, 3)
        shares.append(conformal.covered(labels, probabilities).mean())
    error = np.std(shares) / np.sqrt(NUM_DRAWS)
    # Ties, the most probable class and gaps only add to it; one quantile in 61 ranks is 0.803.
    assert 0.8 - 3 * error < np.mean(shares) < 0.86


def test_coverage_within_each_class_holds_by_class_and_fails_on_average_for_a_rare_one():
    generator = np.random.default_rng(3)

    def bags():
        labels = (generator.random(150) < 0.15).astype(int)
        score = generator.normal(labels * 1.0 - 1.5)
        positive = 1 / (1 + np.exp(-score))
        return labels, np.stack([1 - positive, positive], axis=1)

    shares = {False: [], True: []}
    for _ in range(NUM_DRAWS):
        fitted, (labels, probabilities) = bags(), bags()
        for by_class, found in shares.items():
            covered = fit_conformal(*fitted, "classes", 0.9, by_class).covered(labels, probabilities)
            found.append(covered[labels == 1].mean())
    error = np.std(shares[True]) / np.sqrt(NUM_DRAWS)
    assert np.mean(shares[True]) > 0.9 - 3 * error
    assert np.mean(shares[False]) < 0.7


def test_intervals_of_numbers_cover_over_many_draws_each_number_on_its_own():
    generator = np.random.default_rng(4)
    shares = []
    for _ in range(NUM_DRAWS):
        truth = generator.normal(size=(2, 39, 2)) * [1.0, 30.0]
        answers = truth + generator.standard_t(3, size=truth.shape) * [0.5, 10.0]
        conformal = fit_conformal(truth[0], answers[0], "numbers", 0.9)
        low, high = conformal.intervals(answers[1])
        assert ((low <= truth[1]) & (truth[1] <= high) == conformal.covered(truth[1], answers[1])).all()
        shares.append(conformal.covered(truth[1], answers[1]).mean(axis=0))
    error = np.std(shares, axis=0) / np.sqrt(NUM_DRAWS)
    # 36 of 40 ranks are exactly 0.9.
    assert (np.abs(np.mean(shares, axis=0) - 0.9) < 3 * error).all()


def test_quantiles_are_conformalized_as_romano_patterson_and_candes_do():
    """Equations 6 to 8 by hand: `E_i = max(lo - y, y - hi)`, and both ends move by its ceil((n + 1) 0.9)-th smallest."""
    generator = np.random.default_rng(11)
    shares, of_widths = [], []
    for draw in range(NUM_DRAWS):
        x = generator.uniform(0, 1, (2, 59, 1))
        truth = generator.normal(size=x.shape) * (0.2 + 3 * x)
        ends = np.concatenate([-0.9 * (0.2 + 3 * x), 0.9 * (0.2 + 3 * x)], axis=2)  # too narrow: they cover 63%
        conformal = fit_conformal(truth[0], ends[0], "numbers", 0.9)
        low, high = conformal.intervals(ends[1])
        if draw < 5:
            errors = sorted(max(lo - y, y - hi) for y, (lo, hi) in zip(truth[0, :, 0], ends[0], strict=True))
            np.testing.assert_allclose(high[:, 0], ends[1, :, 1] + errors[int(np.ceil(60 * 0.9)) - 1], rtol=1e-12)
            np.testing.assert_allclose(low[:, 0], ends[1, :, 0] - errors[int(np.ceil(60 * 0.9)) - 1], rtol=1e-12)
        shares.append(conformal.covered(truth[1], ends[1]).mean())
        of_widths.append((high - low)[x[1] > 0.8].mean() / (high - low)[x[1] < 0.2].mean())
    # 54 of 60 ranks are exactly 0.9.
    assert abs(np.mean(shares) - 0.9) < 3 * np.std(shares) / np.sqrt(NUM_DRAWS)
    assert np.mean(of_widths) > 1.5  # wide where the noise is


def test_quantiles_that_are_too_wide_shrink_but_never_cross():
    truth, ends = np.zeros((20, 1)), np.tile([-5.0, 5.0], (20, 1))
    conformal = fit_conformal(truth, ends, "numbers", 0.9)
    low, high = conformal.intervals(np.array([[-7.0, 7.0], [1.0, 2.0]]))
    assert low.ravel().tolist() == [-2.0, 1.5]
    assert high.ravel().tolist() == [2.0, 1.5]
    assert conformal.covered(np.array([[1.9], [1.5]]), np.array([[-7.0, 7.0], [1.0, 2.0]])).all()


def test_a_class_without_any_validation_bag_is_in_every_set_by_class():
    labels, probabilities = np.zeros(20, int), np.tile([0.9, 0.1], (20, 1))
    conformal = fit_conformal(labels, probabilities, "classes", 0.9, by_class=True)
    assert conformal.num_groups == (20, 0)
    assert conformal.sets(np.array([[0.9, 0.1]])).tolist() == [[True, True]]
    assert "tumour (0) have fewer: every set holds these classes" in conformal.too_small(["benign", "tumour"])


def test_equal_scores_are_counted_together_and_only_add_to_the_coverage():
    generator, shares = np.random.default_rng(12), []
    for _ in range(NUM_DRAWS):
        truth = generator.integers(0, 4, (2, 40, 1)).astype(float)  # errors of 0 to 3, each many times
        conformal = fit_conformal(truth[0], np.zeros((40, 1)), "numbers", 0.7)
        shares.append(conformal.covered(truth[1], np.zeros((40, 1))).mean())
    assert np.mean(shares) > 0.7 - 3 * np.std(shares) / np.sqrt(NUM_DRAWS)


def test_several_bags_of_a_patient_count_as_one():
    """Each patient has an error of its own: taken for independent, patients with many bags would decide the quantile."""
    generator = np.random.default_rng(5)

    def patients():
        sizes = generator.choice([1, 30], 40)
        groups = np.repeat(np.arange(40).astype(str), sizes)
        spread = np.where(sizes == 1, 5.0, 1.0)  # patients with one bag are the difficult ones
        errors = np.repeat(generator.normal(size=40) * spread, sizes) + generator.normal(size=len(groups)) * 0.1
        return np.zeros((len(groups), 1)), errors[:, None], groups

    by_patient, by_bag = [], []
    for _ in range(NUM_DRAWS):
        (labels, answers, groups), (others, found, of_others) = patients(), patients()
        for known, shares in ((groups, by_patient), (None, by_bag)):
            covered = fit_conformal(labels, answers, "numbers", 0.8, groups=known).covered(others, found)[:, 0]
            shares.append(measured_coverage(covered, of_others).value)
    error = np.std(by_patient) / np.sqrt(NUM_DRAWS)
    assert 0.8 - 3 * error < np.mean(by_patient) < 0.84
    assert np.mean(by_bag) < 0.75


def test_single_bags_of_patients_are_the_plain_quantile():
    scores = np.random.default_rng(6).random(50)
    names = np.arange(50).astype(str)
    assert score_quantile(scores, names, 0.9) == score_quantile(scores, None, 0.9) == (float(np.sort(scores)[45]), 50)


def test_sets_of_ordered_classes_are_ranges_also_by_class():
    generator = np.random.default_rng(7)
    for by_class in (False, True):
        conformal = fit_conformal(*drawn(generator, 80, 6), "ordered", 0.8, by_class)
        inside = conformal.sets(drawn(generator, 300, 6)[1])
        assert (np.abs(np.diff(np.pad(inside, ((0, 0), (1, 1))).astype(int), axis=1)).sum(axis=1) == 2).all()
        assert len(np.unique(inside.sum(axis=1))) > 2


def test_a_range_grows_from_the_most_probable_class_by_the_more_probable_neighbour():
    scores = class_scores(np.array([[0.05, 0.2, 0.4, 0.1, 0.25]]), "ordered")
    np.testing.assert_allclose(scores, [[0.95, 0.4, 0.0, 0.6, 0.7]])


def test_too_few_patients_give_everything_and_say_so():
    labels, probabilities = drawn(np.random.default_rng(8), 8)
    conformal = fit_conformal(labels, probabilities, "classes", 0.9)
    assert fewest_groups(0.9) == 9
    assert conformal.sets(probabilities).all()
    assert conformal.too_small("abcd") == (
        "a coverage of 0.9 needs at least 9 independent validation bags or patients, but there are 8: every set holds "
        "every class"
    )
    numbers = fit_conformal(np.zeros((3, 1)), np.ones((3, 1)), "numbers", 0.9)
    assert np.isnan(numbers.intervals(np.ones((2, 1)))).all()
    assert numbers.covered(np.zeros((2, 1)), np.ones((2, 1))).all()
    assert "no interval has an end" in numbers.too_small(["age"])


def test_a_class_with_too_few_patients_is_in_every_set():
    labels = np.array([0] * 20 + [1] * 3)
    probabilities = np.stack([np.where(labels == 0, 0.9, 0.2), np.where(labels == 0, 0.1, 0.8)], axis=1)
    conformal = fit_conformal(labels, probabilities, "classes", 0.9, by_class=True)
    assert conformal.sets(np.array([[0.99, 0.01]])).tolist() == [[True, True]]
    assert "malignant (3) have fewer: every set holds these classes" in conformal.too_small(["benign", "malignant"])


def test_the_state_survives_a_file_and_refuses_what_does_not_fit():
    conformal = fit_conformal(*drawn(np.random.default_rng(9), 8), "classes", 0.8, by_class=True)
    state = json.loads(json.dumps(conformal.state()))
    assert Conformal.of_state(state, "classes", 4) == conformal
    assert Conformal.of_state({}, "classes", 4) is None
    for change in (
        {"coverage": 1.0}, {"coverage": "0.9"}, {"quantiles": [0.1]}, {"quantiles": [float("nan")] * 4}, {"num_bags": -1},
        {"kind": "numbers"}, {"by_class": 1}, {"num_groups": None}, {"quantiles": [[1]] * 4},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="in conformal of the card is .*, which is invalid here"):
            Conformal.of_state(state | change, "classes", 4)
    with pytest.raises(ValueError, match="kind in conformal"):
        Conformal.of_state(state, None, 4)


def test_the_measured_coverage_counts_each_patient_once_with_wilsons_interval():
    scipy = pytest.importorskip("scipy.stats")
    covered = np.array([True] * 18 + [False] * 2)
    interval = measured_coverage(covered)
    wanted = scipy.binomtest(18, 20).proportion_ci(method="wilson")
    np.testing.assert_allclose([interval.low, interval.high], [wanted.low, wanted.high], atol=1e-12)
    assert measured_coverage(np.array([True, True, True, False]), np.array(["a", "a", "a", "b"])).value == 0.5
    assert measured_coverage(covered[:0]).value is None


def test_metrics_name_coverage_size_and_sets_of_one_class():
    labels, probabilities = drawn(np.random.default_rng(10), 40, 2)
    conformal = fit_conformal(labels, probabilities, "classes", 0.8)
    values = set_metrics(measure_sets(conformal, labels, probabilities, ["benign", "malignant"]))
    sets = conformal.sets(probabilities)
    assert values["set_size"] == pytest.approx(sets.sum(axis=1).mean())
    assert values["sets_of_one_class"] == pytest.approx((sets.sum(axis=1) == 1).mean())
    assert values["set_coverage_of_malignant"] == pytest.approx(sets[labels == 1, 1].mean())
    named = set_metrics(measure_sets(conformal, labels, probabilities, ["low", "high"]))
    assert [named[f"set_coverage{end}"] for end in ("_low", "_high")] == [
        values[f"set_coverage{end}"] for end in ("_low", "_high")
    ]  # a class of the same name as an end of the interval
    numbers = fit_conformal(np.zeros((3, 1)), np.ones((3, 1)), "numbers", 0.9)
    values = set_metrics(measure_sets(numbers, np.zeros((2, 1)), np.ones((2, 1)), ["age"]))
    assert values["interval_width_of_age"] is None
    assert values["interval_coverage_of_age"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coverage": 1.0}, "a coverage must be in (0, 1), such as 0.9, got 1.0"),
        ({"labels": np.zeros(0, int), "answers": np.zeros((0, 2))}, "need a validation split"),
        ({"kind": "numbers", "by_class": True}, "a coverage by class needs classes"),
        ({"answers": np.full((2, 2), np.nan)}, "finite labels and predictions"),
    ],
)
def test_what_cannot_be_fitted_is_refused(arguments, message):
    given = {"labels": np.array([0, 1]), "answers": np.full((2, 2), 0.5), "kind": "classes", "coverage": 0.9}
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")) as caught:
        fit_conformal(**(given | arguments))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["classes", "ordered"])
@pytest.mark.parametrize("by_class", [False, True])
def test_rounding_does_not_move_a_validation_bag_out_of_its_own_set(kind, by_class):
    # A quantile is the score of a validation bag. Other batches, machines and nine digits in a table change it a little.
    generator = np.random.default_rng(3)
    labels, probabilities = drawn(generator, 60, 3)
    conformal = fit_conformal(labels, probabilities, kind, 0.8, by_class)
    exact = conformal.sets(probabilities)
    for _ in range(20):
        moved = probabilities + generator.uniform(-1e-7, 1e-7, probabilities.shape)
        np.testing.assert_array_equal(conformal.sets(moved), exact)
