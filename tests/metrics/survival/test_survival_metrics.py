"""Survival metrics against scikit-survival and lifelines, on their real data sets."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from milpath.metrics.intervals import metric_intervals
from milpath.metrics.survival.evaluated_times import EvaluatedTimes
from milpath.metrics.survival.risk_groups import compare_groups
from milpath.metrics.survival.survival_curves import censoring_curve, kaplan_meier, numbers_at_risk
from milpath.metrics.survival.survival_metrics import (
    SURVIVAL_METRICS,
    brier_at,
    calibration_at,
    harrell_c,
    integrated_brier,
    metric_at_time,
    name_at,
    time_auc,
    uno_c,
)

pytestmark = pytest.mark.filterwarnings("ignore")
sets = pytest.importorskip("sksurv.datasets", reason="needs scikit-survival (uv pip install -e '.[dev]')")


def whas500():
    """Time, event and a risk with ties: age in decades of the WHAS500 study, 500 patients."""
    frame, outcome = sets.load_whas500()
    return outcome["lenfol"].astype(float), outcome["fstat"].astype(bool), np.round(frame["age"].to_numpy(float), -1)


def evaluated(seed: int = 0) -> tuple[EvaluatedTimes, np.ndarray, np.ndarray]:
    """The second half of the patients with predictions of a made-up survival, and both halves for scikit-survival."""
    time, event, risk = whas500()
    order = np.random.default_rng(seed).permutation(len(time))
    train, test = order[:250], order[250:]
    test = test[time[test] <= time[train].max()]  # scikit-survival refuses times beyond the training split
    both = np.array(list(zip(event, time, strict=True)), dtype=[("event", bool), ("time", float)])
    times = np.array([100.0, 365.0, 900.0, 1500.0])
    hazard = np.exp((risk - risk.mean()) / 20)[:, None] * times[None, :] / 3000
    outcomes = EvaluatedTimes(
        time[test], event[test], risk[test], np.exp(-hazard[test]), times, censoring_curve(time[train], event[train])
    )
    return outcomes, both[train], both[test]


def test_concordance_equals_scikit_survival():
    from sksurv.metrics import concordance_index_censored, concordance_index_ipcw

    outcomes, train, test = evaluated()
    expected = concordance_index_censored(test["event"], test["time"], outcomes.risk)[0]
    assert float(harrell_c(outcomes)) == pytest.approx(expected, abs=1e-9)
    expected = concordance_index_ipcw(train, test, outcomes.risk, tau=outcomes.times[-1])[0]
    assert float(uno_c(outcomes)) == pytest.approx(expected, abs=1e-9)


def test_concordance_equals_lifelines():
    from lifelines.utils import concordance_index

    time, event, risk = whas500()
    outcomes = EvaluatedTimes(time, event, risk, None, np.array([900.0]), censoring_curve(time, event))
    assert float(harrell_c(outcomes)) == pytest.approx(concordance_index(time, -risk, event), abs=1e-9)


def test_auroc_and_brier_score_over_time_equal_scikit_survival():
    from sksurv.metrics import brier_score, cumulative_dynamic_auc, integrated_brier_score

    outcomes, train, test = evaluated()
    areas, _ = cumulative_dynamic_auc(train, test, outcomes.risk, outcomes.times)
    _, scores = brier_score(train, test, outcomes.survival, outcomes.times)
    for time, area, score in zip(outcomes.times, areas, scores, strict=True):
        assert float(time_auc(outcomes, time=time)) == pytest.approx(area, abs=1e-9)
        assert float(brier_at(outcomes, time=time)) == pytest.approx(score, abs=1e-9)
    expected = integrated_brier_score(train, test, outcomes.survival, outcomes.times)
    assert float(integrated_brier(outcomes)) == pytest.approx(expected, abs=1e-9)


def test_kaplan_meier_equals_lifelines_and_censoring_equals_scikit_survival():
    from lifelines import KaplanMeierFitter
    from sksurv.nonparametric import CensoringDistributionEstimator

    time, event, _ = whas500()
    times = np.quantile(time, [0.1, 0.3, 0.5, 0.7, 0.95])
    fitted = KaplanMeierFitter().fit(time, event)
    np.testing.assert_allclose(kaplan_meier(time, event).at(times), fitted.predict(times), atol=1e-9)
    both = np.array(list(zip(event, time, strict=True)), dtype=[("event", bool), ("time", float)])
    expected = CensoringDistributionEstimator().fit(both).predict_proba(times)
    np.testing.assert_allclose(censoring_curve(time, event).at(times), expected, atol=1e-9)
    assert numbers_at_risk(np.array([1.0, 2.0, 2.0, 5.0]), np.array([0.0, 2.0, 3.0])).tolist() == [4, 3, 1]


def test_log_rank_test_and_hazard_ratio_equal_lifelines():
    from lifelines import CoxPHFitter
    from lifelines.datasets import load_rossi
    from lifelines.statistics import logrank_test

    rossi = load_rossi()
    time, event, group = rossi["week"].to_numpy(float), rossi["arrest"].to_numpy(bool), rossi["fin"].to_numpy() == 0
    found = compare_groups(time, event, group)
    expected = logrank_test(time[group], time[~group], event[group], event[~group])
    assert found.statistic == pytest.approx(expected.test_statistic, abs=1e-8)
    assert found.p_value == pytest.approx(expected.p_value, abs=1e-8)
    cox = CoxPHFitter().fit(rossi.assign(group=group.astype(float))[["week", "arrest", "group"]], "week", "arrest")
    row = cox.summary.loc["group"]
    assert found.hazard_ratio == pytest.approx(row["exp(coef)"], abs=1e-5)
    assert found.low == pytest.approx(row["exp(coef) lower 95%"], abs=1e-5)
    assert found.high == pytest.approx(row["exp(coef) upper 95%"], abs=1e-5)


def test_several_slides_of_a_patient_do_not_count_as_several_events():
    from lifelines import CoxPHFitter

    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), rng.integers(1, 4, 60))
    time, event = rng.exponential(size=60)[patients], rng.random(60)[patients] < 0.7
    time = time + 1e-6 * np.arange(len(time))  # no ties, of which there are several robust variances
    high = rng.random(60)[patients] + 0.2 * rng.random(len(patients)) > 0.6
    found = compare_groups(time, event, high, patients.astype(str))
    table = pd.DataFrame({"time": time, "event": event, "high": high.astype(float), "patient": patients})
    row = CoxPHFitter().fit(table, "time", "event", cluster_col="patient").summary.loc["high"]
    reach = stats.t.ppf(0.975, 59) * np.sqrt(60 / 59) * row["se(coef)"]
    ends = np.exp(row["coef"] + np.array([-reach, reach]))
    assert (found.hazard_ratio, found.low, found.high) == pytest.approx((row["exp(coef)"], *ends), abs=1e-4)
    one = np.unique(patients, return_index=True)[1]
    assert compare_groups(time[one], event[one], high[one], patients[one]) == compare_groups(
        time[one], event[one], high[one]
    )


def test_risk_groups_of_patients_with_several_slides_differ_by_chance_as_often_as_promised():
    patients, found = np.repeat(np.arange(30), 4), []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        time, event, high = rng.exponential(size=30), rng.random(30) < 0.7, rng.random(30) < 0.5
        data = time[patients], event[patients], high[patients]
        found.append([compare_groups(*data, known).p_value for known in (patients, None)])
    by_patient, by_slide = (np.array(found) <= 0.05).mean(axis=0)
    assert by_patient <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
    assert by_slide > 0.2


@pytest.mark.parametrize("name", [*SURVIVAL_METRICS, "time_auc_at_365", "brier_at_365", "calibration_at_365"])
def test_a_weight_of_two_equals_two_bags(name):
    outcomes, _, _ = evaluated()
    function = SURVIVAL_METRICS.get(name) or metric_at_time(name)
    counts = np.random.default_rng(1).integers(0, 3, (3, outcomes.num_bags))
    found = function(outcomes, counts.astype(float))
    for row, value in zip(counts, found, strict=True):
        drawn = outcomes.part(np.repeat(np.arange(outcomes.num_bags), row))
        assert value == pytest.approx(float(function(drawn)), abs=1e-12)


def test_calibration_compares_the_mean_prediction_with_kaplan_meier():
    outcomes, _, _ = evaluated()
    observed = 1 - kaplan_meier(outcomes.time, outcomes.event).at(365.0)[0]
    expected = (1 - outcomes.survival[:, 1]).mean() - observed
    assert float(calibration_at(outcomes, time=365.0)) == pytest.approx(expected, abs=1e-12)


def test_metrics_are_undefined_without_events_or_survival():
    outcomes, _, _ = evaluated()
    censored = EvaluatedTimes(
        outcomes.time, np.zeros(outcomes.num_bags, bool), outcomes.risk, None, outcomes.times, outcomes.censoring
    )
    for name in SURVIVAL_METRICS:
        assert np.isnan(SURVIVAL_METRICS[name](censored)), name
    assert compare_groups(censored.time, censored.event, censored.risk > 70).p_value is None


def test_intervals_draw_patients_as_a_whole():
    outcomes, _, _ = evaluated()
    patients = np.array([f"p{row // 5}" for row in range(outcomes.num_bags)])
    grouped = EvaluatedTimes(**{**vars(outcomes), "groups": patients})
    single = metric_intervals(outcomes, ["c_index"], 200)["c_index"]
    together = metric_intervals(grouped, ["c_index"], 200)["c_index"]
    assert single.low < single.value < single.high
    assert (together.low, together.high) != (single.low, single.high)


def test_a_metric_at_a_time_is_found_by_its_name():
    assert name_at("brier", 12.5) == "brier_at_12.5"
    assert metric_at_time("brier_at_12.5").keywords == {"time": 12.5}
    assert metric_at_time("brier_at_noon") is None
    assert metric_at_time("auroc_at_12") is None
