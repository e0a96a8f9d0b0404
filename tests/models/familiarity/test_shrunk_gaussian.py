"""Tests of the Gaussian of embeddings: against sklearn, and on states from files."""

import math

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from milpath.models.familiarity import ShrunkGaussian, fit_gaussian
from milpath.models.familiarity.shrunk_gaussian import FARTHEST, MOST_DIRECTIONS


def _rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Return correlated rows whose variances fall over three orders of magnitude."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(width, width)) * np.geomspace(1, 0.03, width)
    return (generator.normal(size=(count, width)) @ mixing.T + generator.normal(size=width)).astype(np.float32)


@pytest.mark.parametrize(("count", "width"), [(200, 20), (30, 20), (12, 40), (40, 40), (3, 8), (500, 1)])
def test_distances_are_those_of_ledoit_and_wolf_in_sklearn(count: int, width: int) -> None:
    rows, others = _rows(count, width), _rows(50, width, seed=1)

    found = fit_gaussian(rows).distances(torch.from_numpy(others)).numpy()

    expected = np.sqrt(LedoitWolf().fit(rows.astype(np.float64)).mahalanobis(others.astype(np.float64)) / width)
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_beyond_64_directions_the_smallest_variances_are_replaced_by_their_mean() -> None:
    rows, others = _rows(400, 100), _rows(50, 100, seed=1)
    covariance = LedoitWolf().fit(rows.astype(np.float64)).covariance_
    variances, vectors = np.linalg.eigh(covariance)
    variances[: 100 - MOST_DIRECTIONS] = variances[: 100 - MOST_DIRECTIONS].mean()
    centred = (others - rows.mean(axis=0, dtype=np.float64)) @ vectors
    expected = np.sqrt((centred**2 / variances).sum(axis=1) / 100)

    gaussian = fit_gaussian(rows)

    np.testing.assert_allclose(gaussian.distances(torch.from_numpy(others)).numpy(), expected, rtol=2e-4)
    assert gaussian.directions.shape == (MOST_DIRECTIONS, 100)
    trace = float(gaussian.variances.sum() + (100 - MOST_DIRECTIONS) * gaussian.rest)
    assert trace == pytest.approx(np.trace(covariance), rel=1e-5)


def test_a_wide_embedding_of_few_bags_is_bounded_in_size() -> None:
    state = fit_gaussian(_rows(20, 1500)).state()

    assert all(value.dtype == torch.float32 for value in state.values())
    assert sum(value.nbytes for value in state.values()) < 4 * 1500 * (MOST_DIRECTIONS + 2)
    assert state["directions"].shape == (19, 1500)


def test_a_dimension_that_is_constant_in_training_counts_when_it_changes() -> None:
    rows = _rows(200, 10)
    rows[:, 3] = 0
    other = rows[:1].copy()
    gaussian = fit_gaussian(rows)
    before = float(gaussian.distances(torch.from_numpy(other))[0])
    other[0, 3] = 5

    assert float(gaussian.distances(torch.from_numpy(other))[0]) > 3 * before


@pytest.mark.parametrize("width", [5, 30, 90])
def test_the_distance_of_training_rows_is_one_or_somewhat_less(width: int) -> None:
    rows = _rows(2000, width)

    assert 0.7 < float(fit_gaussian(rows).distances(torch.from_numpy(rows)).square().mean()) < 1.05


@pytest.mark.parametrize("value", [math.inf, math.nan, 1e30])
def test_a_distance_is_always_a_finite_number(value: float) -> None:
    found = fit_gaussian(_rows(50, 4)).distances(torch.full((2, 4), value))

    assert found.tolist() == [FARTHEST, FARTHEST]


@pytest.mark.parametrize("rows", [np.ones((5, 3)), np.ones((1, 3)), np.ones(3)])
def test_rows_without_variance_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="covariance"):
        fit_gaussian(rows)


def test_a_state_gives_the_same_distances() -> None:
    gaussian, rows = fit_gaussian(_rows(50, 4)), torch.from_numpy(_rows(5, 4, seed=2))

    again = ShrunkGaussian.of_state(gaussian.state(), "bags")

    assert torch.equal(again.distances(rows), gaussian.distances(rows))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("mean", torch.zeros(3), "do not fit"),
        ("mean", torch.zeros(4, dtype=torch.float64), "float32"),
        ("mean", [0.0] * 4, "float32"),
        ("directions", torch.zeros(4, 3), "do not fit"),
        ("directions", torch.full((4, 4), math.nan), "finite"),
        ("variances", torch.zeros(4), "above 0"),
        ("rest", torch.tensor(-1.0), "above 0"),
        ("rest", torch.ones(1), "do not fit"),
        ("other", torch.ones(1), "must have"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_in_one_line(name: str, value: object, reason: str) -> None:
    state = fit_gaussian(_rows(50, 4)).state() | {name: value}

    with pytest.raises(ValueError, match=reason) as caught:
        ShrunkGaussian.of_state(state, "bags of the card")

    assert "bags of the card" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_huge_state_is_refused_without_being_used() -> None:
    huge = torch.zeros(1).expand(10**12)

    with pytest.raises(ValueError, match="at most"):
        ShrunkGaussian.of_state(fit_gaussian(_rows(50, 4)).state() | {"mean": huge}, "bags")
