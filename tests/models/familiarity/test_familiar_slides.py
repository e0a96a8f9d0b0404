"""Tests of the model of familiar slides: ranks among validation bags, the bound, and states from files."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from milpath.models.familiarity import LEAST_BAGS, Familiarity, FamiliarSlides, fit_gaussian, joined
from milpath.models.familiarity.familiar_slides import bound_of, calibrate


def _distances(count: int, seed: int = 0, factor: float = 1.0) -> np.ndarray:
    """Return both distances of bags that are alike, times a factor."""
    return factor * np.exp(np.random.default_rng(seed).normal(size=(count, 2)) * [0.2, 0.05])


def _model(count: int = 40, refer: float | None = 0.05, seed: int = 0) -> FamiliarSlides:
    rows = np.random.default_rng(3).normal(size=(50, 3))
    return calibrate(
        fit_gaussian(rows), fit_gaussian(rows), _distances(count, seed), np.linspace(0.5, 2, 500),
        refer=refer, num_bags=50, tiles_per_bag=8,
    )  # fmt: skip


def test_a_percent_says_how_many_validation_bags_are_less_unfamiliar() -> None:
    model = _model(40)
    validation = _distances(40)

    found = Familiarity([model]).judge(validation[:, None])

    less = np.array([sum(other < score - 1e-3 for other in found.score) for score in found.score])
    np.testing.assert_array_equal(found.percent, less * 100 / 40)
    assert len(set(less)) > 35
    assert Familiarity([model]).judge(_distances(5, 1, factor=9)[:, None]).percent.tolist() == [100] * 5


def test_a_bag_that_is_far_in_one_of_the_two_distances_is_unfamiliar() -> None:
    model = _model(40)
    middle = np.exp(model.centre.double().numpy())
    rows = np.stack([middle, middle * [4, 1], middle * [1, 2], middle / 5])

    found = Familiarity([model]).judge(rows[:, None])

    assert found.above.tolist() == [False, True, True, False]


@pytest.mark.parametrize(("count", "share"), [(19, 0.05), (19, 0.1), (40, 0.05), (200, 0.01), (200, 0.1), (50, 0.01)])
def test_bags_like_those_of_validation_are_referred_as_often_as_said(count: int, share: float) -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(4000):
        scores = np.sort(generator.normal(size=count))
        bound = bound_of(scores, share)
        assert bound is not None
        found.append(generator.normal() > bound)

    # Exactly k in n + 1, where k is at least one validation bag.
    expected = max(1, math.floor(share * (count + 1) + 1e-9)) / (count + 1)
    assert np.mean(found) == pytest.approx(expected, abs=4 * math.sqrt(expected / 4000))


def test_the_bound_is_the_conformal_p_value() -> None:
    scores = np.sort(np.random.default_rng(1).normal(size=199)).round(4)
    bound = bound_of(scores, 0.05)
    assert bound is not None
    for score in (bound - 1e-3, bound, bound + 1e-3):
        p_value = (1 + (scores >= score).sum()) / 200
        assert (score > bound) == (p_value <= 0.05)


def test_the_larger_of_two_distances_costs_at_most_twice_the_share() -> None:
    referred = [
        Familiarity([_model(99, 0.05, seed)]).judge(_distances(50, seed + 1000)[:, None]).above.mean()
        for seed in range(60)
    ]

    assert 0.03 < np.mean(referred) < 0.08


@pytest.mark.parametrize(("count", "refer"), [(LEAST_BAGS - 1, 0.05), (40, None)])
def test_without_a_share_or_with_too_few_bags_nothing_is_referred(count: int, refer: float | None) -> None:
    familiarity = Familiarity([_model(count, refer)])

    found = familiarity.judge(_distances(3, 5, factor=100)[:, None])

    assert familiarity.bound is None
    assert found.above is None
    assert np.isnan(found.table()[:, 0]).all()
    assert found.percent.tolist() == [100, 100, 100]
    assert "no bag is referred" in familiarity.say_bound()
    assert f"there are {count}" in familiarity.say_bound() or refer is None


def test_the_bound_is_said_in_words() -> None:
    assert "than all of the 40 validation bags" in Familiarity([_model(40, 0.01)]).say_bound()
    assert "about 1 in 41" in Familiarity([_model(40, 0.01)]).say_bound()
    assert "all but the 3 most unfamiliar of the 40" in Familiarity([_model(40, 0.1)]).say_bound()
    assert "about 4 in 41" in Familiarity([_model(40, 0.1)]).say_bound()


def test_bags_of_few_patients_are_said_instead_of_a_rate() -> None:
    said = Familiarity([replace(_model(40), num_groups=4)]).say_bound()

    assert "an unknown share: the validation bags are of only 4 groups" in said
    assert "about" not in said


def test_a_single_validation_bag_gives_finite_scores() -> None:
    model = _model(1)

    assert np.isfinite(model.score(_distances(5, 2))).all()
    assert model.scores.tolist() == [0.0]


def test_tiles_are_ranked_among_validation_tiles() -> None:
    found = _model().tile_percent(np.array([0.1, 0.5, 1.25, 2.0, 9.0]))

    assert found.tolist() == [0, 0, 50, 100, 100]


def test_folds_are_averaged_and_compared_with_the_validation_bags_of_all() -> None:
    one, two = _model(40, seed=0), _model(30, seed=1)
    distances = np.stack([_distances(6, 2), _distances(6, 3)], axis=1)

    familiarity = joined([one, two])
    assert familiarity is not None
    found = familiarity.judge(distances)

    np.testing.assert_allclose(found.score, (one.score(distances[:, 0]) + two.score(distances[:, 1])) / 2, atol=1e-4)
    assert len(familiarity.scores) == 70
    assert joined([one, None]) is None
    assert joined([]) is None


def test_a_state_gives_the_same_scores() -> None:
    model = _model()

    again = FamiliarSlides.of_state(model.state())

    np.testing.assert_array_equal(again.score(_distances(9, 4)), model.score(_distances(9, 4)))
    assert again.bound == model.bound
    assert (again.num_bags, again.tiles_per_bag, again.refer) == (50, 8, 0.05)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("scores", torch.zeros(0), "shape"),
        ("scores", torch.tensor([1.0, 0.0]), "ascending"),
        ("scores", torch.zeros(20_000), "at most"),
        ("scale", torch.zeros(2), "above 0"),
        ("centre", torch.zeros(3), "shape"),
        ("tile_distances", torch.zeros(7), "shape"),
        ("refer", 2.0, "share"),
        ("refer", "none", "share"),
        ("num_bags", -1, "number"),
        ("tiles_per_bag", True, "number"),
        ("num_groups", -1, "number"),
        ("bags", {}, "must have"),
        ("tiles", fit_gaussian(np.random.default_rng(0).normal(size=(9, 5))).state(), "embeddings of 3 and 5"),
        ("other", 1, "must have"),
    ],
)
def test_a_state_that_is_not_sound_is_refused_in_one_line(name: str, value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        FamiliarSlides.of_state(_model().state() | {name: value})

    assert "of the card" in str(caught.value)
    assert "\n" not in str(caught.value)
