"""Sets of an average of folds: against the definition written another way, and their coverage over many cohorts."""

import json

import numpy as np
import pytest

from milpath.metrics.conformal import CrossConformal, FoldScores, fit_conformal, fit_cross_conformal

NUM_FOLDS, NUM_COHORTS = 5, 200


def probabilities_of(features, labels, new, num_classes=3):
    """Class probabilities of new bags by nearest means, a network that is trained in no time."""
    means = np.stack(
        [
            features[labels == k].mean(0) if (labels == k).any() else np.zeros(features.shape[1])
            for k in range(num_classes)
        ]
    )
    logits = new @ means.T - (means**2).sum(1) / 2
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def drawn(draw, num_bags, shares=(0.6, 0.3, 0.1)):
    labels = draw.choice(3, num_bags, p=shares)
    return draw.normal(size=(num_bags, 6)) + np.eye(6)[labels] * 1.2, labels


def cross_validated(draw, num_bags=60, num_new=60):
    """The validation bags of each fold, and new bags with the predictions of each fold."""
    features, labels = drawn(draw, num_bags + num_new)
    fold_of = np.arange(num_bags) % NUM_FOLDS
    folds, each = [], []
    for fold in range(NUM_FOLDS):
        train, held = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        folds.append(FoldScores(labels[held], probabilities_of(features[train], labels[train], features[held])))
        each.append(probabilities_of(features[train], labels[train], features[num_bags:]))
    return folds, labels[num_bags:], np.stack(each, axis=1)


@pytest.mark.parametrize("kind", ["classes", "ordered"])
@pytest.mark.parametrize("by_class", [False, True])
def test_one_network_is_split_conformal_prediction(kind, by_class):
    draw = np.random.default_rng(0)
    (labels, answers, _), *_ = cross_validated(draw, 200)[0]
    new = cross_validated(draw)[2][:, 0]
    wanted = fit_conformal(labels, answers, kind, 0.8, by_class).sets(new)
    cross = fit_cross_conformal([FoldScores(labels, answers)], kind, 0.8, by_class, 3)
    assert (cross.sets(new, new[:, None]) == wanted).all()
    assert cross.promise == 0.8
    numbers = draw.normal(size=(2, 30, 2))
    one = fit_cross_conformal([FoldScores(numbers[0], numbers[1])], "numbers", 0.9, num_parts=2)
    for found, end in zip(
        one.intervals(numbers[1], numbers[1][:, None]),
        fit_conformal(numbers[0], numbers[1], "numbers", 0.9).intervals(numbers[1]),
        strict=True,
    ):
        np.testing.assert_allclose(found, end, rtol=1e-12)


def test_sets_are_those_of_the_definition_bag_by_bag():
    """Romano, Sesia, Candes 2020: y is in the set if fewer than coverage (n + 1) scores of the folds are below its own."""
    folds, _, each = cross_validated(np.random.default_rng(1), 40)
    cross = fit_cross_conformal(folds, "classes", 0.8)
    mean = each.mean(1)
    for bag, inside in enumerate(cross.sets(mean, each)):
        for k in range(3):
            below = sum(
                1 - answers[row, label] < 1 - each[bag, fold, k]
                for fold, (labels, answers, _) in enumerate(folds)
                for row, label in enumerate(labels)
            )
            assert inside[k] == (below < 0.8 * 41 - 1e-9 or k == mean[bag].argmax())


def test_intervals_are_those_of_cv_plus():
    """Barber et al. 2021, eq. 11: the floor(alpha (n + 1))-th smallest and the ceil((1 - alpha)(n + 1))-th smallest end."""
    draw = np.random.default_rng(2)
    folds = [FoldScores(draw.normal(size=(size, 1)), draw.normal(size=(size, 1))) for size in (7, 9, 0, 8)]
    each = draw.normal(size=(20, 4, 1))
    low, high = fit_cross_conformal(folds, "numbers", 0.85).intervals(each.mean(1), each)
    n = 24
    for bag in range(20):
        ends = [
            (each[bag, fold, 0] - abs(y - p), each[bag, fold, 0] + abs(y - p))
            for fold, (labels, answers, _) in enumerate(folds) for y, p in zip(labels[:, 0], answers[:, 0], strict=True)
        ]  # fmt: skip
        lowest = sorted(end for end, _ in ends)[int(np.floor(0.15 * (n + 1) + 1e-9)) - 1]
        highest = sorted(end for _, end in ends)[int(np.ceil(0.85 * (n + 1) - 1e-9)) - 1]
        assert low[bag, 0] == pytest.approx(min(lowest, each[bag].mean()), abs=1e-12)
        assert high[bag, 0] == pytest.approx(max(highest, each[bag].mean()), abs=1e-12)


@pytest.mark.parametrize("by_class", [False, True])
def test_coverage_over_many_cohorts_is_about_what_was_asked_and_above_what_is_promised(by_class):
    draw, coverage = np.random.default_rng(3), 0.8
    shares, of_rarest, promises, sizes = [], [], [], []
    for _ in range(NUM_COHORTS):
        folds, labels, each = cross_validated(draw)
        cross = fit_cross_conformal(folds, "classes", coverage, by_class, 3)
        inside = cross.sets(each.mean(1), each)
        covered = inside[np.arange(len(labels)), labels]
        shares.append(covered.mean())
        of_rarest.append(covered[labels == 2].mean() if (labels == 2).any() else np.nan)
        promises.append(cross.promise)
        sizes.append(inside.sum(1).mean())
    error = np.std(shares) / np.sqrt(NUM_COHORTS)
    assert np.mean(shares) > np.mean(promises)
    assert np.mean(sizes) < 2.6
    if by_class:
        # A class with fewer bags than the coverage needs is in every set, which adds to it.
        assert np.nanmean(of_rarest) > coverage - 3 * np.nanstd(of_rarest) / np.sqrt(np.isfinite(of_rarest).sum())
    else:
        assert abs(np.mean(shares) - coverage) < 3 * error + 0.02
        assert np.nanmean(of_rarest) < coverage


def test_coverage_of_cv_plus_for_quantiles_and_for_a_bag_that_several_folds_did_not_see():
    """Overlapping validation splits, as random ones are, and unequal noise, which quantiles follow and one width does not."""
    draw, shares, near, far = np.random.default_rng(4), [], [], []
    for _ in range(NUM_COHORTS):
        x = draw.uniform(0, 1, 150)
        y = draw.normal(size=150) * (0.2 + x)
        folds, each = [], []
        for _fold in range(4):
            held = draw.choice(100, 30, replace=False)
            scale = np.std(np.delete(y[:100], held)) * 1.1
            ends = np.stack([-scale * (0.3 + x), scale * (0.3 + x)], axis=1)
            folds.append(FoldScores(y[held, None], ends[held]))
            each.append(ends[100:])
        each = np.stack(each, axis=1)
        cross = fit_cross_conformal(folds, "numbers", 0.9)
        low, high = cross.intervals(each.mean(1), each)
        shares.append(cross.covered(y[100:, None], each.mean(1), each).mean())
        near.append((high - low)[x[100:] < 0.3].mean())
        far.append((high - low)[x[100:] > 0.7].mean())
    error = np.std(shares) / np.sqrt(NUM_COHORTS)
    assert abs(np.mean(shares) - 0.9) < 3 * error + 0.01
    assert np.mean(far) > 1.5 * np.mean(near)


def test_patients_and_not_their_bags_decide():
    """A fold with a patient of 100 bags: they weigh as much as the only bag of each of the others."""
    labels = np.zeros((109, 1))
    answers = np.concatenate([np.full(100, 9.0), np.arange(9.0)])[:, None]
    groups = np.array(["many"] * 100 + [f"p{number}" for number in range(9)])
    cross = fit_cross_conformal([FoldScores(labels, answers, groups)], "numbers", 0.8)
    assert cross.num_groups == (10,)
    new = np.zeros((1, 1, 1))
    assert cross.intervals(new[:, 0], new)[1][0, 0] == 8.0  # the 9th of 10 patients
    by_bag = fit_cross_conformal([FoldScores(labels, answers)], "numbers", 0.8)
    assert by_bag.intervals(new[:, 0], new)[1][0, 0] == 9.0
    # The same patient in the validation split of two folds counts in each.
    assert fit_cross_conformal([FoldScores(labels, answers, groups)] * 2, "numbers", 0.8).num_groups == (20,)


def test_too_few_bags_empty_folds_and_absent_classes_say_so():
    labels, answers = np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    empty = FoldScores(labels[:0], answers[:0])
    cross = fit_cross_conformal([FoldScores(labels, answers), empty], "classes", 0.9)
    each = np.array([[[0.99, 0.01], [0.99, 0.01]]])
    assert cross.sets(each.mean(1), each).all()
    assert "needs at least 9 independent validation bags or patients, but there are 3" in cross.too_small(["a", "b"])
    absent = fit_cross_conformal([FoldScores(labels[:2], answers[:2])] * 5, "classes", 0.9, by_class=True, num_parts=2)
    assert absent.num_groups == (10, 0)
    each = np.repeat(each, 5, axis=1)[:, :5]
    assert absent.sets(each.mean(1), each).tolist() == [[True, True]]
    assert absent.too_small(["a", "b"]).endswith("the classes b (0) have fewer: every set holds these classes")
    assert absent.promise == 0
    numbers = fit_cross_conformal([FoldScores(np.zeros((3, 1)), np.ones((3, 1)))], "numbers", 0.9)
    assert np.isnan(numbers.intervals(np.ones((2, 1)), np.ones((2, 1, 1)))).all()
    assert numbers.covered(np.zeros((2, 1)), np.ones((2, 1)), np.ones((2, 1, 1))).all()
    with pytest.raises(ValueError, match="need a validation split"):
        fit_cross_conformal([empty, empty], "classes", 0.9, num_parts=2)
    with pytest.raises(ValueError, match=r"need predictions \(bags, 2, columns\) of each network, got None"):
        cross.sets(each.mean(1))


def test_ties_only_add_to_a_set():
    """Equal scores are not below each other: networks that always say the same keep the coverage."""
    labels, answers = np.array([0, 1] * 10), np.full((20, 2), 0.5)
    cross = fit_cross_conformal([FoldScores(labels, answers)] * 2, "classes", 0.6)
    each = np.full((3, 2, 2), 0.5)
    assert cross.sets(each.mean(1), each).all()


def test_rounding_does_not_move_a_validation_bag_out_of_its_own_set():
    draw = np.random.default_rng(1)
    folds, _, _ = cross_validated(draw, 60)
    cross = fit_cross_conformal(folds, "classes", 0.6)
    each = np.concatenate([fold.answers for fold in folds])[:, None].repeat(NUM_FOLDS, axis=1)
    exact = cross.sets(each.mean(1), each)
    for _ in range(20):
        moved = each + draw.uniform(-1e-7, 1e-7, each.shape)
        np.testing.assert_array_equal(cross.sets(each.mean(1), moved), exact)


def test_the_state_survives_a_file_and_refuses_what_does_not_fit():
    folds, *_ = cross_validated(np.random.default_rng(5))
    cross = fit_cross_conformal(folds, "classes", 0.8, True, 3)
    state = json.loads(json.dumps(cross.state()))
    assert CrossConformal.of_state(state, "classes", 3) == cross
    for change in (
        {"coverage": 1.0}, {"scores": [0.1]}, {"folds": [9] * 60}, {"parts": [3] * 60}, {"weights": ["a"] * 60},
        {"num_folds": 0}, {"num_folds": True}, {"num_groups": [1]}, {"kind": "numbers"}, {"scores": None},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="in conformal of the card is .*, which is invalid here"):
            CrossConformal.of_state(state | change, "classes", 3)
