"""Tests of the familiarity of a run as its report shows it."""

import numpy as np
import pandas as pd
import pytest

from milpath.inference.prediction_patients import most_unfamiliar
from milpath.models.familiarity import Familiarity, fit_gaussian
from milpath.models.familiarity.familiar_slides import calibrate
from milpath.records.prediction_table import Predictions
from milpath.reports.familiarity_results import familiarity_results, places_among
from milpath.reports.run_folder import read_run


def _familiarity(refer: float | None = 0.05) -> Familiarity:
    rows = np.random.default_rng(3).normal(size=(50, 3))
    distances = np.exp(np.random.default_rng(0).normal(size=(40, 2)))
    model = calibrate(
        fit_gaussian(rows), fit_gaussian(rows), distances, np.linspace(0.5, 2, 500), refer=refer, num_bags=50,
        tiles_per_bag=8,
    )  # fmt: skip
    return Familiarity([model])


def _run(tmp_path, familiarity: Familiarity, shift: float):
    """Return a run whose test bags have the scores of the validation bags, shifted."""
    scores = np.concatenate([familiarity.scores, familiarity.scores + shift])
    above = np.nan if familiarity.bound is None else scores > familiarity.bound
    strange = np.stack([above * np.ones(80), np.full(80, 50.0), scores], axis=1)
    Predictions(
        [str(number) for number in range(80)], ["val"] * 40 + ["test"] * 40, np.zeros(80, np.int64),
        np.full((80, 2), 0.5), [np.ones(1)] * 80, ["a", "b"], unfamiliarity=strange,
    ).write_csv(tmp_path / "predictions.csv")  # fmt: skip
    return read_run(tmp_path)


def test_a_score_among_known_ones_counts_equal_ones_half():
    assert places_among(np.array([-1.0, 0.0, 0.5, 9.0]), np.array([0.0, 1.0])).tolist() == [0, 0.25, 0.5, 1]


@pytest.mark.parametrize(("shift", "share", "place"), [(0.0, 0.025, 0.5), (100.0, 1.0, 1.0)])
def test_the_share_above_the_bound_and_the_comparison_with_validation(tmp_path, shift, share, place):
    familiarity = _familiarity()
    results, plots = familiarity_results(_run(tmp_path, familiarity, shift), familiarity, None)
    test, validation = results.rows
    assert (test.name, test.num_bags, validation.name) == ("test", 40, "validation")
    assert test.share.value == pytest.approx(share, abs=0.001) == test.num_above / 40
    assert test.share.low <= share <= test.share.high
    assert test.shift.value == pytest.approx(place, abs=0.001)
    assert (results.num_training, results.num_validation, results.with_training) == (50, 40, False)
    assert "dashed line" in plots[0].words
    # Validation bags of the training are drawn once.
    assert len(plots[0].figure.data) == (1 if shift == 0 else 2)


def test_without_a_bound_there_is_no_share_and_without_a_model_no_section(tmp_path):
    familiarity = _familiarity(None)
    run = _run(tmp_path, familiarity, 1.0)
    results, plots = familiarity_results(run, familiarity, None)
    assert results.rows[0].share.value is None
    assert "no bag is referred" in results.bound_in_words
    assert "dashed line" not in plots[0].words
    assert familiarity_results(run, None, None) == (None, [])


def test_a_patient_is_as_unfamiliar_as_the_most_unfamiliar_slide():
    table = pd.DataFrame(
        {"unfamiliar": [0, 1, 0], "unfamiliarity": [10.0, 99.0, 50.0], "unfamiliarity_score": [0, 4, 1]}
    )
    found = most_unfamiliar(table, np.array([1, 1, 0]), 2)
    assert found.tolist() == [[0, 50, 1], [1, 99, 4]]
    assert most_unfamiliar(table.drop(columns="unfamiliarity"), np.array([1, 1, 0]), 2) is None
