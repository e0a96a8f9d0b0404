import numpy as np
import pytest

from milpath.metrics.survival.evaluated_times import EvaluatedTimes
from milpath.metrics.survival.survival_curves import kaplan_meier
from milpath.reports.plots.survival_figures import survival_plots


@pytest.mark.parametrize("num_slides", [1, 3])
def test_the_caption_says_whether_risk_groups_were_tested_by_patient(num_slides):
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), num_slides)
    time, event, risk = rng.exponential(size=40)[patients], rng.random(40)[patients] < 0.7, rng.random(40)[patients]
    outcomes = EvaluatedTimes(
        time, event, risk, None, np.array([0.5]), kaplan_meier(time, ~event), patients.astype(str)
    )
    (plot,) = survival_plots(outcomes, 0.5, "days")
    assert "Log-rank test p = 0." in plot.words
    assert ("(by group, since bags of one group are not independent)" in plot.words) == (num_slides > 1)
