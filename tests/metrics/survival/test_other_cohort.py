"""Survival in a cohort that is followed for longer, or for less, than the training split."""

import numpy as np
import pytest
import torch

from milpath.metrics.cohort_shift import survival_shift
from milpath.metrics.survival.survival_metrics import brier_at
from milpath.models.checkpoint import Card
from milpath.runs.evaluation.cohort_weights import card_in_cohort
from milpath.targets import Several, Survival

TIMES = [5.0, 10.0]


def drawn(count: int, follow_up: float, seed: int):
    """Return log hazards, and exponential times censored uniformly up to an end."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=count)
    event_time, last = rng.exponential(10 * np.exp(-risk)), rng.uniform(0, follow_up, count)
    return risk, np.stack([np.minimum(event_time, last), event_time <= last], 1).astype(float)


def trained(times=TIMES) -> Survival:
    risk, labels = drawn(2000, 12.0, 0)
    target = Survival(times=times).fitted_on(labels)
    return target.fitted_on_predictions(risk[:, None].astype(np.float32), labels)


def cohort_of(target: Survival, follow_up: float):
    """Return labels and predictions of a cohort in which the model is true."""
    risk, labels = drawn(4000, follow_up, 1)
    return labels, target.answers(torch.from_numpy(risk[:, None])).numpy()


def test_true_probabilities_have_their_own_brier_score_however_long_a_cohort_is_followed():
    target = trained()
    for follow_up in (12.0, 60.0):
        labels, answers = cohort_of(target, follow_up)
        own = target.in_cohort(labels)
        for place, time in enumerate(TIMES):
            true = float((answers[:, 1 + place] * (1 - answers[:, 1 + place])).mean())
            assert float(brier_at(own.evaluate(labels, answers), time=time)) == pytest.approx(true, abs=0.015)
    assert brier_at(target.evaluate(labels, answers), time=10.0) > 0.25  # with the weights of the training split


def test_of_several_targets_each_has_the_weights_of_the_bags_with_its_label():
    labels, _ = cohort_of(trained(), 60.0)
    several = Several(targets={"grade": {"task": "regression"}, "os": {"task": "survival"}})
    cells = np.column_stack([np.arange(len(labels), dtype=float), labels])
    cells[::2, 1:] = np.nan
    several = several.fitted_on(cells[:400])
    own, wanted = several.in_cohort(cells).members, Survival().fitted_on(labels).in_cohort(labels[1::2])
    assert own[0].target.state() == several.members[0].target.state()
    for name in ("censoring_times", "censoring_values"):
        assert np.array_equal(own[1].target.fitted[name], wanted.fitted[name])


def test_a_time_beyond_the_follow_up_of_the_training_split_has_no_brier_score():
    """Every bag without an event would count as predicted rightly."""
    target = trained([5.0, 10.0, 40.0])
    assert target.fitted["censoring_values"][-1] == 0
    labels, answers = cohort_of(target, 60.0)
    found = target.metrics(target.evaluate(labels[:500], answers[:500]))
    assert found["brier_at_40"] is None
    assert found["integrated_brier"] is None
    assert found["brier_at_5"] is not None


def test_beyond_the_follow_up_of_a_cohort_no_survival_is_observed():
    target = trained()
    labels, answers = cohort_of(target, 60.0)
    short = np.stack([np.minimum(labels[:, 0], 7), labels[:, 1] * (labels[:, 0] <= 7)], 1)
    bags = [(each[:, 0], each[:, 1] == 1, answers[:, 1:3]) for each in (short, labels)]
    early, late = survival_shift(np.array(TIMES), *bags, ["5", "10"], num_resamples=20)
    assert early.observed == pytest.approx(early.observed_before)
    assert (late.observed, late.calibration.value, late.calibration.low) == (None, None, None)
    assert late.observed_before is not None
    back = survival_shift(np.array(TIMES), *bags[::-1], ["5", "10"], num_resamples=20)[1]
    assert back.observed_before is None
    assert back.calibration.low is not None


@pytest.mark.parametrize(("factor", "said"), [(30.4, "days and months"), (1 / 365.25, "days and years"), (2.0, "")])
def test_a_cohort_in_another_unit_of_time_is_warned_of(factor, said, caplog):
    target = trained()
    labels, _ = cohort_of(target, 12.0)
    card = Card({}, target.names, "survival", target_state=target.state() | {"unit": "months"})
    assert card_in_cohort(card, labels * [factor, 1])[1] == "weights against censoring are those of the tested bags"
    assert [record.message.partition("training (in months): ")[2] for record in caplog.records] == (
        [f"are they in {said}? Use the unit of the training"] if said else []
    )
