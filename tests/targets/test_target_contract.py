"""What every target must do, whatever it predicts."""

import numpy as np
import pytest
import torch

from milpath.metrics.intervals import metric_intervals
from milpath.models.card import Card, card_from_dict, card_to_dict
from milpath.models.finite import finite_bags
from milpath.models.output import MILOutput
from milpath.targets import Multilabel, NumericTarget, Regression, Several, Survival, target_of
from milpath.targets.binary import Binary
from milpath.targets.nominal import Nominal
from milpath.targets.ordinal import Ordinal

NUM_BAGS = 60


def labels_of(target) -> np.ndarray:
    """Labels of the training split, drawn with ties and, for survival, censoring."""
    draw = np.random.default_rng(0)
    if isinstance(target, Several):
        labels = np.concatenate([np.atleast_2d(labels_of(member.target).T).T for member in target.members], axis=1)
        labels = labels.astype(np.float64)
        for column in range(2):  # every seventh label of the first targets is missing
            labels[column::7, column] = np.nan
        return labels
    if isinstance(target, Survival):
        return np.stack([draw.integers(1, 40, NUM_BAGS).astype(float), draw.integers(0, 2, NUM_BAGS)], axis=1)
    if isinstance(target, Regression):
        return draw.normal(60, 12, (NUM_BAGS, len(target.names)))
    return draw.integers(0, 2 if target.name == "binary" else 3, NUM_BAGS)


def case(target, names):
    """A target fitted on drawn labels, the names in its card, the labels, and logits of a network."""
    labels = labels_of(target)
    target = target.fitted_on(labels)
    logits = torch.randn(NUM_BAGS, target.num_outputs(len(names)), generator=torch.Generator().manual_seed(0))
    target = target.fitted_on_predictions(logits.numpy(), labels) if isinstance(target, NumericTarget) else target
    return target, names, labels, logits


def several() -> Several:
    """One target of each kind, with the classes that a table would give."""
    classes = {"task": "ordinal", "class_names": ["a", "b", "c"]}
    return Several(
        {
            "mutated": {"task": "binary", "class_names": ["no", "yes"]}, "grade": classes,
            "type": classes | {"task": "nominal"}, "age": {"task": "regression", "quantiles": [0.1, 0.9]},
            "os": {"task": "survival"}, "pfs": {"task": "survival", "loss": "hazard", "num_intervals": 4},
        },
        {"age": 0.5},
    )  # fmt: skip


CASES = {
    "binary": lambda: case(Binary(), ("benign", "malignant")),
    "nominal": lambda: case(Nominal(), ("a", "b", "c")),
    "ordinal": lambda: case(Ordinal(), ("a", "b", "c")),
    "regression": lambda: case(Regression(["age"], ["years"]), ("age",)),
    "regression of two": lambda: case(Regression(["age", "psa"], loss="squared"), ("age", "psa")),
    "quantiles": lambda: case(Regression(["age", "psa"], quantiles=[0.1, 0.5, 0.9]), ("age", "psa")),
    "cox": lambda: case(Survival(unit="months"), ("risk",)),
    "hazard": lambda: case(Survival(loss="hazard", num_intervals=5, times=[6, 12, 24]), ("risk",)),
    "several": lambda: case(several(), several().names),
    "multilabel": lambda: case(Multilabel(["egfr", "kras"], ["wild type", "mutated"]), ("egfr", "kras")),
}


@pytest.fixture(params=CASES)
def each(request):
    return CASES[request.param]()


def as_tensor(labels: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(labels, dtype=torch.float32 if labels.ndim == 2 else torch.int64)


def test_each_bag_has_a_finite_loss_whose_gradient_lowers_it(each):
    target, _, labels, logits = each
    logits = logits.clone().requires_grad_()
    losses = target.losses(logits, as_tensor(labels))
    assert losses.shape == (NUM_BAGS,)
    assert torch.isfinite(losses).all()
    (slope,) = torch.autograd.grad(losses.sum(), logits)
    lower = target.losses(logits - 1e-2 * slope, as_tensor(labels))
    assert lower.sum() < losses.sum()


def test_no_bag_has_no_loss_and_no_prediction(each):
    target, _, labels, logits = each
    assert target.losses(logits[:0], as_tensor(labels)[:0]).shape == (0,)
    assert target.answers(logits[:0]).shape == (0, target.answers(logits).shape[1])


def test_the_prediction_of_a_bag_does_not_depend_on_the_others(each):
    target, _, _, logits = each
    alone = torch.cat([target.answers(row[None]) for row in logits])
    torch.testing.assert_close(target.answers(logits), alone, rtol=1e-6, atol=1e-6, equal_nan=True)


def test_every_reported_metric_has_a_value_and_an_interval_around_it(each):
    target, _, labels, logits = each
    outcomes = target.evaluate(labels, target.answers(logits).numpy().astype(np.float64))
    values = target.metrics(outcomes)
    assert tuple(values) == target.reported_metrics
    assert {*target.headline, *target.subgroup_metrics} <= set(values)
    intervals = metric_intervals(outcomes, values, num_resamples=200)
    for name, value in values.items():
        assert value is not None, name
        assert intervals[name].value == pytest.approx(value), name
        assert intervals[name].low <= intervals[name].high, name
    assert target.wrongness(outcomes).shape == (NUM_BAGS,)
    assert target.sentence(outcomes, "Of 60 test bags", each[1], intervals).startswith("Of 60 test bags, ")


def test_groups_are_drawn_as_a_whole(each):
    target, _, labels, logits = each
    answers = target.answers(logits).numpy().astype(np.float64)
    patients = np.array([f"p{row // 6}" for row in range(NUM_BAGS)])
    name = target.headline[0]
    single, grouped = (
        metric_intervals(target.evaluate(labels, answers, groups=groups), [name], 200)[name]
        for groups in (None, patients)
    )
    assert single.value == grouped.value
    assert (single.low, single.high) != (grouped.low, grouped.high)


def test_the_card_keeps_the_target_and_gives_the_same_predictions(each):
    target, names, _, logits = each
    card = Card(network={"name": "AttentionMIL"}, class_names=names, task=target.name, target_state=target.state())
    again = target_of(card_from_dict(card_to_dict(card)))
    torch.testing.assert_close(again.answers(logits), target.answers(logits), rtol=0, atol=0, equal_nan=True)
    assert again.reported_metrics == target.reported_metrics


def test_targets_with_classes_leave_the_card_as_it_was(each):
    target, names, _, _ = each
    card = Card(network={"name": "AttentionMIL"}, class_names=names, task=target.name, target_state=target.state())
    assert ("target_state" in card_to_dict(card)) == (not target.has_classes)


@pytest.mark.parametrize("kind", ["regression", "quantiles", "cox", "hazard", "several", "multilabel"])
def test_a_state_that_was_tampered_with_is_refused(kind):
    target, names, _, _ = CASES[kind]()
    state = target.state()
    assert state
    for name, value in state.items():
        for bad in (None, [float("nan")], {"_target_": "os.system"}, "x" if not isinstance(value, str) else 3):
            if bad is None and name == "risk_cut":
                continue
            content = card_to_dict(Card({"name": "A"}, names, target.name, target_state=state))
            content["target_state"] = {**state, name: bad}
            if name == "units" and bad == "x":
                continue
            with pytest.raises(ValueError, match=r"card|target\."):
                card_from_dict(content)


@pytest.mark.parametrize("huge", [1e31, 1e308])
def test_a_state_beyond_what_a_prediction_can_hold_is_refused(huge):
    for kind in ("regression", "cox", "hazard"):
        target, names, _, _ = CASES[kind]()
        for name, value in target.state().items():
            if isinstance(value, list) and value and isinstance(value[0], float) and name != "baseline_hazard":
                content = card_to_dict(Card({"name": "A"}, names, target.name, target_state=target.state()))
                content["target_state"] = {**target.state(), name: [*value[:-1], huge]}
                with pytest.raises(
                    ValueError, match=f"{name} in target_state of the card must be a list of .* up to 1e"
                ):
                    card_from_dict(content)


@pytest.mark.parametrize("kind", ["regression", "cox", "hazard"])
def test_an_extreme_output_is_a_number_or_no_prediction(kind):
    target, _, _, logits = CASES[kind]()
    for value in (-3e38, -1e4, 1e4, 3e38):
        extreme = torch.full_like(logits[:2], value)
        answers = target.answers(extreme)
        fine = finite_bags(MILOutput(extreme, torch.ones(2, 1)), answers)
        assert not (fine & torch.isinf(answers).any(1)).any()
        known = answers if kind == "regression" else answers[:, :-1]  # the median time may not be reached
        assert not torch.isnan(known).any()


@pytest.mark.parametrize("kind", [name for name in CASES if name not in ("binary", "nominal", "ordinal")])
def test_the_columns_of_numbers_fit_the_predictions(kind):
    target, _, labels, logits = CASES[kind]()
    answers = target.answers(logits)
    assert len(target.answer_columns) == len(target.units) == answers.shape[1]
    assert len(target.label_columns) == labels.shape[1]
    said = target.say(answers[0].numpy())
    assert len(said) == answers.shape[1] + len(target.call_columns) // 2  # and a call of each target with classes
    assert len(target.calls(answers[0].numpy())) == len(target.call_columns)
    assert all(title and text for title, text in said)
