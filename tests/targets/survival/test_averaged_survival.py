"""Survival of several folds as one: the mean of the curves, and ranks that no scale of a fold changes."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from milpath.metrics.survival.survival_metrics import brier_at, harrell_c
from milpath.targets import Survival
from milpath.targets.survival.averaged_survival import AveragedSurvival

NUM_BAGS = 80


def cohort(seed=0):
    """Times of which the hazard depends on a covariate, and the covariate."""
    draw = np.random.default_rng(seed)
    covariate = draw.normal(size=NUM_BAGS)
    time, end = draw.exponential(np.exp(-covariate) * 10), draw.uniform(2, 25, NUM_BAGS)
    return np.column_stack([np.minimum(time, end), time <= end]).astype(float), covariate


def folds_of(loss, count=3, **options):
    """Targets of folds with their fitted values, and the logits of new bags by each."""
    labels, covariate = cohort()
    draw, targets, logits = np.random.default_rng(1), [], []
    for fold in range(count):
        rows = (np.arange(NUM_BAGS) % count != fold) | (count == 1)
        target = Survival(loss=loss, num_intervals=5, **options).fitted_on(labels[rows])
        outputs = target.num_outputs(1)
        slope, offset = draw.normal(1, 0.3, outputs), draw.normal(0, 1, outputs)
        own = (covariate[:, None] * slope + offset - (0 if loss == "cox" else 1)).astype(np.float32)
        targets.append(target.fitted_on_predictions(own[rows], labels[rows]))
        logits.append(torch.from_numpy(own).double())
    return targets, logits


def by_name(target, answers):
    return dict(zip(target.answer_columns, np.asarray(answers).T, strict=True))


def curve_of(targets, logits, bag):
    """The mean over the folds of survival of one bag at any time, written without the library's average."""

    def of_fold(target, z, time):
        if target.loss == "cox":
            steps, hazard = target.fitted["baseline_times"], target.fitted["baseline_hazard"]
            known = np.flatnonzero(steps <= time)
            return np.exp(-(hazard[known[-1]] if len(known) else 0.0) * np.exp(z[0]))
        cuts, survival, start = target.fitted["cuts"], 1.0, 0.0
        for cut, logit in zip(cuts, z, strict=True):
            hazard = 1 / (1 + np.exp(-logit))
            survival *= (1 - hazard) ** np.clip((time - start) / (cut - start), 0, 1)
            start = cut
        return survival

    return lambda time: np.mean([of_fold(t, z[bag].numpy(), time) for t, z in zip(targets, logits, strict=True)])


@pytest.mark.parametrize("loss", ["cox", "hazard"])
def test_the_average_is_the_mean_curve_and_all_else_follows_from_it(loss):
    targets, logits = folds_of(loss, times=[3.0, 6.0])
    average = targets[0].average_of(targets)
    found, each = average.averaged(targets, logits, [1.0] * 3)
    answers = by_name(average, average.answers(found))
    horizon = average.last_time
    assert horizon == min(target.last_time for target in targets)
    for bag in range(0, NUM_BAGS, 16):
        curve = curve_of(targets, logits, bag)
        assert answers["survival_at_3"][bag] == pytest.approx(curve(3.0), abs=1e-12)
        assert answers["survival_at_6"][bag] == pytest.approx(curve(6.0), abs=1e-12)
        steps = average.fitted["grid"]
        area = quad(curve, 0, horizon, points=steps, limit=500)[0]
        # Exact for steps; the trapezoidal rule of "hazard" is off by the curvature within an interval.
        assert answers["risk"][bag] == pytest.approx(-area / horizon, abs=1e-6 if loss == "cox" else 0.01)
        median, moments = answers["median_time"][bag], np.linspace(0, horizon, 401)
        below = moments[np.array([curve(moment) for moment in moments]) <= 0.5]
        if np.isnan(median):
            assert not len(below)
        else:
            # Between two steps of "hazard" the mean of exponentials is taken for an exponential.
            assert median == pytest.approx(below[0], abs=horizon / 400 + (0.01 * horizon if loss == "hazard" else 0))
    # The predictions of a fold at the times of the average.
    for fold, (target, z) in enumerate(zip(targets, logits, strict=True)):
        own = by_name(target, target.answers(z))
        np.testing.assert_allclose(by_name(average, each[:, fold])["survival_at_6"], own["survival_at_6"], atol=1e-12)


def test_ranks_do_not_depend_on_the_scale_of_a_fold():
    """A log hazard is relative to its baseline: any constant may move between the two, and nothing changes."""
    targets, logits = folds_of("cox")
    shifted = [*targets]
    shifted[1] = targets[1]._with(
        targets[1].fitted | {"baseline_hazard": targets[1].fitted["baseline_hazard"] * np.exp(5)}
    )
    moved = [logits[0], logits[1] - 5, logits[2]]
    average = targets[0].average_of(targets)
    first = average.answers(average.averaged(targets, logits, [1.0] * 3)[0])
    second = average.answers(average.averaged(shifted, moved, [1.0] * 3)[0])
    torch.testing.assert_close(first, second, equal_nan=True)
    # While the mean of the log hazards is that of another model: here it would follow the fold with the wider scale.
    assert not torch.equal(torch.stack(logits).mean(0), torch.stack(moved).mean(0))


def test_one_network_twice_ranks_as_it_does_alone():
    for loss in ("cox", "hazard"):
        targets, logits = folds_of(loss, 1)
        average = targets[0].average_of(targets * 2)
        found = average.answers(average.averaged(targets * 2, logits * 2, [1.0] * 2)[0]).numpy()
        alone = targets[0].answers(logits[0]).numpy()
        assert (np.argsort(found[:, 0], kind="stable") == np.argsort(alone[:, 0], kind="stable")).all()
        np.testing.assert_allclose(found[:, 1:], alone[:, 1:], rtol=1e-9)
        if loss == "hazard":
            np.testing.assert_allclose(found[:, 0], alone[:, 0], rtol=1e-12)
        risks = by_name(targets[0], targets[0].answers(logits[0]))["risk"]
        low = (risks <= targets[0].risk_cut).mean()
        assert (found[:, 0] <= average.risk_cut).mean() == pytest.approx(low)


@pytest.mark.parametrize("loss", ["cox", "hazard"])
def test_the_brier_score_of_the_mean_curve_is_not_above_that_of_the_folds(loss):
    targets, logits = folds_of(loss, times=[2.0, 5.0])
    average, (labels, _) = targets[0].average_of(targets), cohort()
    found, each = average.averaged(targets, logits, [1.0] * 3)
    together = average.evaluate(labels, average.answers(found).numpy())
    alone = [average.evaluate(labels, each[:, fold].numpy()) for fold in range(3)]
    for time in (2.0, 5.0):
        assert brier_at(together, time=time) <= np.mean([brier_at(fold, time=time) for fold in alone]) + 1e-12
    # The concordance reaches that of the true risk, the covariate, within its standard error.
    truth, draw = average.evaluate(labels, np.column_stack([cohort()[1]] * 4)), np.random.default_rng(2)
    weights = draw.multinomial(NUM_BAGS, np.full(NUM_BAGS, 1 / NUM_BAGS), 200).astype(float)
    assert harrell_c(together) > harrell_c(truth) - np.std(harrell_c(truth, weights))
    assert harrell_c(truth) > 0.7


def test_times_and_horizon_of_folds_that_differ():
    targets, _ = folds_of("cox")
    average = targets[0].average_of(targets)
    assert len({target.times.tolist()[0] for target in targets}) > 1
    np.testing.assert_allclose(average.times, np.mean([target.times for target in targets], axis=0), rtol=5e-3)
    assert average.fitted["grid"][-1] == min(target.last_time for target in targets)


def test_stored_predictions_are_read_at_the_times_of_the_average():
    targets, logits = folds_of("cox")
    average = targets[0].average_of(targets)
    wanted = average.averaged(targets, logits, [1.0] * 3)[1][:, 2].numpy()
    np.testing.assert_allclose(average.as_average(targets[2], targets[2].answers(logits[2]).numpy()), wanted, rtol=1e-9)
    targets, logits = folds_of("hazard")
    stored = targets[0].average_of(targets).as_average(targets[2], targets[2].answers(logits[2]).numpy())
    assert np.isnan(stored[:, 1:]).all()  # a curve that the file does not hold is not made up
    assert np.isfinite(stored[:, 0]).all()


def test_the_state_of_an_average_is_read_again_and_a_wrong_one_is_refused():
    targets, logits = folds_of("hazard")
    average = targets[0].average_of(targets)
    again = Survival().with_state(average.state())
    assert isinstance(again, AveragedSurvival)
    z = average.averaged(targets, logits, [1.0] * 3)[0]
    torch.testing.assert_close(again.answers(z), average.answers(z), equal_nan=True)
    assert again.say(average.answers(z)[0].numpy())[0][0] == "risk"
    for grid in ([], [3.0, 1.0], [-1.0, 2.0], [0.0], ["a"], [float("nan")]):
        with pytest.raises(ValueError, match="in target_state of the card must"):
            Survival().with_state(average.state() | {"grid": grid})


def test_certain_folds_stay_finite():
    targets, logits = folds_of("cox")
    for value in (60.0, -60.0):
        extreme = [torch.full_like(z, value) for z in logits]
        average = targets[0].average_of(targets)
        found = average.averaged(targets, extreme, [1.0] * 3)[0].float()
        assert torch.isfinite(found).all()
        risk = average.answers(found)[0, 0].item()
        first = np.mean([target.fitted["baseline_times"][0] for target in targets]) / average.last_time
        assert risk == pytest.approx(-first if value > 0 else -1.0, abs=1e-5)
