"""Prediction sets of a card as cells, text and responses of an endpoint."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from milpath.metrics.conformal import fit_conformal
from milpath.models.card import Card, card_from_dict, card_to_dict
from milpath.records.prediction_table import Predictions
from milpath.runs.fitted_sets import fitted_sets, require_set_options
from milpath.sagemaker.endpoint.input_spec import TileBag
from milpath.sagemaker.endpoint.response import JSON, NPZ, Answer, write_answers
from milpath.targets import Regression, Several, Survival, target_named, target_of
from milpath.targets.set_parts import fitted_parts
from milpath.targets.shown_sets import say_about_sets, say_set, set_cells, set_columns, sets_of

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


def several_card() -> Card:
    """A grade, an age with quantiles and survival, of which only the first two have sets."""
    draw = np.random.default_rng(3)
    target = Several(
        {"grade": {"task": "ordinal", "class_names": ["low", "mid", "high"]},
         "age": {"task": "regression", "quantiles": [0.1, 0.9]}, "os": "survival"}
    )  # fmt: skip
    labels = np.column_stack(
        [draw.integers(0, 3, 40), draw.normal(60, 10, 40), draw.exponential(3, 40), np.ones(40)]
    ).astype(float)
    labels[:5, 0] = np.nan
    logits = draw.normal(size=(40, 6)).astype(np.float32)
    target = target.fitted_on(labels).fitted_on_predictions(logits, labels)
    predictions = Predictions(
        [f"s{row}" for row in range(40)], ["val"] * 40, labels, target.answers(torch.from_numpy(logits)).numpy(),
        [np.ones(1)] * 40, target.names, label_columns=target.label_columns, answer_columns=target.answer_columns,
    )  # fmt: skip
    card = Card(network={}, class_names=target.names, task="several", target_state=target.state())
    return replace(card, conformal=fitted_sets(predictions, card, None, 0.8, False))


def test_each_of_several_targets_has_its_own_sets_and_one_without_says_why():
    card = card_from_dict(json.loads(json.dumps(card_to_dict(several_card()))))
    assert set_columns(card) == ("grade/set", "age/low_age", "age/high_age")
    grade, age = fitted_parts(card)
    assert (grade.sets.kind, grade.sets.num_bags, age.sets.num_bags) == (
        "ordered",
        35,
        40,
    )  # without the missing labels
    answers = target_of(card).answers(torch.tensor([[3.0, 2.0, 0.1, 0.0, 0.0, 0.0]])).numpy()[0]
    cells = dict(zip(set_columns(card), set_cells(card, answers), strict=True))
    inside = grade.sets.sets(answers[None, :3].astype(float))[0]
    assert cells["grade/set"] == ";".join(np.array(["low", "mid", "high"])[inside])
    quantiles = answers[4:6].astype(float)  # after the classes and the number itself
    assert float(cells["age/low_age"]) == pytest.approx(quantiles[0] - age.sets.quantiles[0], rel=1e-6)
    assert float(cells["age/high_age"]) == pytest.approx(quantiles[1] + age.sets.quantiles[0], rel=1e-6)
    said = say_set(card, answers)
    assert said.startswith("Prediction set of grade: ")
    assert "Prediction interval of age: age from " in said
    assert say_about_sets(card) == "no prediction sets for os: a censored time has no error to fit them on"
    for wrong in ({"targets": {"os": age.sets.state()}}, {"targets": 3}, {"targets": {"grade": 3}}, age.sets.state()):
        with pytest.raises(ValueError, match="conformal of the card is"):
            card_from_dict(card_to_dict(card) | {"conformal": wrong})


def test_an_endpoint_answers_the_sets_of_several_targets():
    card = several_card()
    rows = target_of(card).answers(torch.randn(2, 6, generator=torch.Generator().manual_seed(0))).numpy()
    bag = TileBag(tiles=np.zeros((2, 3, 8, 8), np.uint8))
    answers = [Answer(bag=bag, probabilities=row, attention=np.full(2, 0.5, np.float32)) for row in rows]
    content = json.loads(write_answers(answers, card, JSON))
    assert content["coverage"] == 0.8
    assert content["note"].startswith("no prediction sets for os")
    (grade, age), arrays = fitted_parts(card), np.load(io.BytesIO(write_answers(answers, card, NPZ)))
    assert arrays["grade/sets"].tolist() == grade.sets.sets(grade.of(rows)).tolist()
    for row, found in enumerate(content["predictions"]):
        assert set(found["sets"]["grade"]) == set(np.array(["low", "mid", "high"])[arrays["grade/sets"][row]])
        assert found["intervals"]["age/age"] == pytest.approx([arrays["age/low"][row, 0], arrays["age/high"][row, 0]])
    assert age.sets.coverage == 0.8
