"""Median times of patients whose slides are predicted one by one."""

import numpy as np
import pytest
import torch

from milpath.targets import Survival
from milpath.targets.aggregation import aggregated_answers
from milpath.targets.survival.averaged_survival import AveragedSurvival

PATIENTS = np.array([0, 0, 1])


def cohort(seed: int = 0, count: int = 300):
    """Return log hazards, and times with censoring up to 15."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=count)
    event_time, last = rng.exponential(10 * np.exp(-risk)), rng.uniform(0, 15, count)
    return risk, np.stack([np.minimum(event_time, last), event_time <= last], 1).astype(float)


def fitted(seed: int = 0) -> Survival:
    risk, labels = cohort(seed)
    target = Survival(times=[1, 5, 10]).fitted_on(labels)
    return target.fitted_on_predictions(risk[:, None].astype(np.float32), labels)


def test_the_median_of_a_patient_is_where_the_mean_curve_of_the_slides_falls_to_one_half():
    target, logits = fitted(), torch.tensor([[-1.0], [2.0], [0.3]], dtype=torch.float64)
    slides = target.answers(logits).numpy()
    assert np.isnan(slides[0, -1])
    assert np.isfinite(slides[1:, -1]).all()
    found = aggregated_answers(target, slides, PATIENTS, "mean").answers
    steps = target.fitted["baseline_times"]
    curve = np.exp(-target.cumulative_hazard(logits[:2], torch.from_numpy(steps)).numpy()).mean(0)
    assert found[0, -1] == steps[np.flatnonzero(curve <= 0.5)[0]]
    assert found[1, -1] == slides[2, -1]
    assert np.array_equal(found[0, :-1], slides[:2, :-1].mean(0))


@pytest.mark.parametrize("kind", ["hazard", "folds"])
def test_without_a_baseline_the_median_agrees_with_the_survival_that_is_shown(kind):
    _, labels = cohort()
    if kind == "hazard":
        target = Survival(loss="hazard", num_intervals=4, times=[1, 5, 10]).fitted_on(labels)
        logits = torch.tensor([[-3.0] * 4, [1.0] * 4, [-0.5] * 4])
    else:
        folds = [fitted(seed) for seed in (0, 1)]
        target = AveragedSurvival.of_folds(folds)
        own = torch.tensor([[-1.0], [2.0], [0.3]])
        logits = target.averaged(folds, [own, own], [1.0, 1.0])[0]
    slides = target.answers(logits).double().numpy()
    assert np.isnan(slides[0, -1])
    found = aggregated_answers(target, slides, PATIENTS, "mean").answers
    known, curve = np.r_[0, target.times], np.r_[1, found[0, 1:-1]]
    place = np.flatnonzero(curve <= 0.5)[0]
    assert known[place - 1] < found[0, -1] <= known[place]
    assert found[1, -1] == slides[2, -1]
    late = aggregated_answers(target, slides[[0, 0, 0]], PATIENTS, "mean").answers
    assert np.isnan(late[:, -1]).all()
