"""Prediction sets of a card as cells, text and responses of an endpoint."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from milpath.metrics.conformal import fit_conformal
from milpath.models.card import Card, card_from_dict, card_to_dict
from milpath.runs.fitted_sets import require_set_options
from milpath.sagemaker.endpoint.input_spec import TileBag
from milpath.sagemaker.endpoint.response import JSON, NPZ, Answer, write_answers
from milpath.targets import Regression, Survival, target_named
from milpath.targets.shown_sets import say_set, set_cells, set_columns, sets_of

AGE = Regression(["age"], mean=[60.0], scale=[10.0])
PLAIN = Card(network={}, class_names=("benign", "malignant"), task="binary")


def class_card(num_bags=40, **options):
    draw = np.random.default_rng(0)
    positive = draw.random(num_bags)
    labels = (draw.random(num_bags) < positive).astype(int)
    state = fit_conformal(labels, np.stack([1 - positive, positive], axis=1), "classes", 0.8, **options).state()
    return replace(PLAIN, conformal=state)


def number_card(num_bags=19):
    state = fit_conformal(np.zeros((num_bags, 1)), np.arange(num_bags, dtype=float)[:, None], "numbers", 0.9).state()
    return Card(network={}, class_names=("age",), task="regression", target_state=AGE.state(), conformal=state)


def test_a_card_keeps_its_sets_and_a_card_without_is_written_as_before():
    card = class_card(by_class=True)
    again = card_from_dict(json.loads(json.dumps(card_to_dict(card))))
    assert sets_of(again) == sets_of(card)
    assert "conformal" not in card_to_dict(PLAIN)
    assert set_columns(PLAIN) == ()
    assert set_cells(PLAIN, np.array([0.5, 0.5])) == []
    assert say_set(PLAIN, np.array([0.5, 0.5])) == ""
    with pytest.raises(ValueError, match="coverage in conformal of the card is 2"):
        card_from_dict(card_to_dict(card) | {"conformal": dict(card.conformal) | {"coverage": 2}})


def test_cells_and_words_of_a_set_of_classes():
    card = class_card()
    assert set_columns(card) == ("set",)
    assert set_cells(card, np.array([0.5, 0.5])) == ["benign;malignant"]
    assert set_cells(card, np.array([0.01, 0.99], dtype=np.float32)) == ["malignant"]
    assert say_set(card, np.array([0.01, 0.99])) == (
        "Prediction set: malignant. On slides like those of the validation split, at least 80% of the sets hold the true class."
    )
    assert "needs at least 4 independent validation bags" in say_set(class_card(3), np.array([0.01, 0.99]))


def test_cells_and_words_of_an_interval_and_of_one_without_ends():
    card = number_card()
    assert set_columns(card) == ("low_age", "high_age")
    assert set_cells(card, np.array([60.0])) == ["43", "77"]
    assert say_set(card, np.array([60.0])).startswith("Prediction interval: age from 43 to 77. ")
    assert set_cells(number_card(3), np.array([60.0])) == ["", ""]
    assert "age without limits" in say_set(number_card(3), np.array([60.0]))


def test_an_endpoint_gives_sets_and_intervals():
    bag = TileBag(tiles=np.zeros((1, 4), np.float32))
    for card, row, expected in (
        (class_card(), [0.5, 0.5], {"set": ["benign", "malignant"]}),
        (number_card(), [60.0], {"intervals": {"age": [43.0, 77.0]}}),
        (number_card(3), [60.0], {"intervals": {"age": [None, None]}}),
    ):
        answers = [Answer(np.array(row, dtype=np.float32), np.ones(1, np.float32), bag)]
        content = json.loads(write_answers(answers, card, JSON))
        assert content["predictions"][0].items() >= expected.items()
        assert content["coverage"] == card.conformal["coverage"]
        assert ("note" in content) == (card.conformal["quantiles"] == [None])
        arrays = np.load(io.BytesIO(write_answers(answers, card, NPZ)))
        assert {"sets"} <= set(arrays) or {"low", "high"} <= set(arrays)


def test_targets_without_sets_are_refused_in_words():
    with pytest.raises(ValueError, match="not available for a survival task: a censored time has no error"):
        require_set_options(Survival(), 0.9, False)
    with pytest.raises(ValueError, match="has no classes; remove decision.coverage_by_class"):
        require_set_options(AGE, 0.9, True)
    with pytest.raises(ValueError, match="must be above 0 and below 1"):
        require_set_options(target_named("binary"), 1.0, False)
