import numpy as np
import pytest
import torch

from milpath.inference.faithfulness import question_of
from milpath.models.checkpoint import Card
from milpath.targets import Multilabel, Regression, Several, Survival

LOGITS = torch.tensor([[2.0, -1.0, 0.5]])


def card_of(target, names):
    return Card({}, tuple(names), target.name, target_state=target.state())


def test_the_predicted_class_of_a_binary_target_follows_its_threshold():
    logits = torch.tensor([[-1.0]])
    assert question_of(Card({}, ("benign", "malignant"), "binary")).explained(logits).words == "benign"
    low = Card({}, ("benign", "malignant"), "binary", threshold=0.2)
    explained = question_of(low).explained(logits)
    assert (explained.words, explained.place, explained.towards_positive) == ("malignant", 1, 1.0)
    values = question_of(low).values(logits, explained)
    np.testing.assert_allclose(values, [[torch.sigmoid(logits).item(), -1.0]], rtol=1e-6)


@pytest.mark.parametrize("logit", [40.0, 300.0, -300.0])
def test_the_log_odds_of_a_saturated_probability_stay_exact(logit):
    question = question_of(Card({}, ("benign", "malignant"), "binary"), "malignant")
    logits = torch.tensor([[logit]])
    values = question.values(logits, question.explained(logits))
    assert float(values[0, 1]) == pytest.approx(logit)


@pytest.mark.parametrize(("task", "names"), [("nominal", "abc"), ("ordinal", "abcd")])
def test_log_odds_are_those_of_the_class_against_all_others(task, names):
    for temperature in (1.0, 2.0):
        card = Card({}, tuple(names), task, temperature=temperature)
        for name in names:
            question = question_of(card, name)
            values = question.values(LOGITS, question.explained(LOGITS))[0]
            p = float(question.target.answers(LOGITS.double(), temperature)[0, names.index(name)])
            if p > 0:  # the ordered probabilities of these logits have a class of 0
                np.testing.assert_allclose(values, [p, np.log(p / (1 - p))], rtol=1e-6)


def test_of_a_number_the_distance_from_the_mean_of_the_training_is_watched():
    target = Regression(["age"], ["years"], mean=[60.0], scale=[10.0])
    question = question_of(card_of(target, ["age"]))
    assert question.quantity == "distance of age from 60 [years]"
    for logit, words, sign in ((1.5, "age above 60", 1.0), (-0.5, "age below 60", -1.0)):
        logits = torch.tensor([[logit]])
        explained = question.explained(logits)
        assert (explained.words, explained.sign) == (words, sign)
        np.testing.assert_allclose(question.values(logits, explained), [[abs(10 * logit)] * 2], rtol=1e-6)


def test_of_survival_the_distance_of_the_risk_from_its_median_is_watched():
    labels = np.array([[5.0, 1.0], [3.0, 1.0], [4.0, 0.0], [2.0, 1.0]])
    target = Survival().fitted_on(labels)
    target = target.fitted_on_predictions(np.array([[0.3], [0.4], [0.5], [0.4]], np.float32), labels)
    question = question_of(card_of(target, ["risk"]))
    logits = torch.tensor([[1.0]], requires_grad=True)
    explained = question.explained(logits)
    assert explained.words == "risk above 0.4"
    values = question.values(logits, explained)
    np.testing.assert_allclose(values.detach(), [[0.6, 0.6]], rtol=1e-6)
    assert torch.autograd.grad(values[:, 1].sum(), logits)[0].item() == pytest.approx(1)


def test_one_of_several_targets_is_explained_by_its_own_logits():
    target = Several({"grade": {"task": "ordinal", "class_names": ["low", "mid", "high"]}, "her2": {"task": "binary", "class_names": ["no", "yes"]}})  # fmt: skip
    target = target.fitted_on(np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 0.0]]))
    card = card_of(target, target.names)
    first, second = question_of(card), question_of(card, "her2")
    assert (first.name, first.outputs, first.others) == ("grade", slice(0, 2), ("her2",))
    assert (second.position, second.outputs) == (1, slice(2, 3))
    assert second.explained(LOGITS).words == "yes"
    np.testing.assert_allclose(second.values(LOGITS, second.explained(LOGITS))[0, 1], 0.5)
    assert question_of(card, "grade/mid").explained(LOGITS).words == "mid"
    assert question_of(card, "her2").quantity == "her2: probability of the predicted class"


def test_multilabel_explains_the_column_that_is_asked_for():
    target = Multilabel(["egfr", "kras"], ["wild type", "mutated"]).fitted_on(np.array([[0.0, 1.0], [1.0, 0.0]]))
    question = question_of(card_of(target, target.names), "kras/mutated")
    assert question.outputs == slice(1, 2)
    assert question.explained(torch.tensor([[0.0, -3.0]])).words == "mutated"


@pytest.mark.parametrize(("task", "names", "explain"), [("binary", "ab", "c"), ("several", None, "stage")])
def test_a_name_that_is_none_is_refused_with_those_there_are(task, names, explain):
    if names:
        card, known = Card({}, tuple(names), task), "a, b"
    else:
        target = Several({"grade": {"task": "binary", "class_names": ["low", "high"]}}).fitted_on(
            np.array([[0.0], [1.0]])
        )
        card, known = card_of(target, target.names), "grade"
    with pytest.raises(ValueError, match=f"explain={explain} .*{known}"):
        question_of(card, explain)
