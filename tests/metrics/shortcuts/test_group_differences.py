from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from milpath.metrics import subgroups
from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.shortcuts.group_differences import adjusted_together, group_differences, in_one_sentence
from milpath.metrics.subgroups import subgroup_tables
from milpath.metrics.survival.evaluated_times import EvaluatedTimes
from milpath.metrics.survival.survival_curves import kaplan_meier
from milpath.metrics.survival.survival_metrics import harrell_c
from milpath.reports.rendering import render


def outcomes_of(labels, scores, groups=None):
    probabilities = np.stack([1 - scores, scores], axis=1)
    return EvaluatedBags(labels, probabilities, (scores > 0.5).astype(np.int64), 1, groups)


def drawn(noise_of_b, seed=0, num_patients=100):
    """Two slides a patient; at hospital b the scores have more noise, and more slides are malignant."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(num_patients), 2)
    site = np.where(rng.random(num_patients) < 0.5, "a", "b")[groups]
    labels = (rng.random(num_patients)[groups] < np.where(site == "a", 0.3, 0.7)).astype(np.int64)
    noise = rng.normal(size=num_patients)[groups] + 0.3 * rng.normal(size=len(groups))
    logits = 2 * labels - 1 + noise * np.where(site == "b", noise_of_b, 1.0)
    return outcomes_of(labels, 1 / (1 + np.exp(-logits)), groups.astype(str)), site


def test_a_hospital_with_worse_results_is_found():
    outcomes, site = drawn(5.0)
    (found,) = group_differences(outcomes, "site", site, "auroc", 199, 199)
    own = site == "a"
    expected = [roc_auc_score(outcomes.labels[rows], outcomes.probabilities[rows, 1]) for rows in (own, ~own)]
    assert found.difference.value == pytest.approx(expected[0] - expected[1])
    assert found.difference.low > 0
    assert found.p_value < 0.05
    assert found.by_group
    assert in_one_sentence([found], "AUROC").startswith("AUROC by site: a differs from the others by +0.")


def test_equal_hospitals_with_another_share_of_malignant_slides_give_few_alarms():
    found = [group_differences(*_named(drawn(1.0, seed, 60)), "accuracy", 99, 2)[0].p_value for seed in range(60)]
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def _named(pair):
    return pair[0], "site", pair[1]


def drawn_of_both_classes(seed, num_patients=20, mixed="half", column="by patient", noise_of_b=1.0):
    """Ten slides a patient, of both classes; how well they are told apart depends on the patient, and on hospital b."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(num_patients), 10)
    at_b = rng.permutation(num_patients) < num_patients // 2
    share = rng.beta(np.where(at_b, 1, 2), np.where(at_b, 2, 1)) if mixed == "more at a" else np.full(num_patients, 0.5)
    labels = (rng.random(len(groups)) < share[groups]) if mixed == "more at a" else np.tile([0, 1], 5 * num_patients)
    labels = labels.astype(np.int64)
    own = at_b[groups]
    if column == "mostly by patient":
        own = np.where(rng.random(len(groups)) < 0.05, ~own, own)
    signal = rng.normal(1.5, 2, num_patients)[groups] * np.where(own, 1 / noise_of_b, 1)
    logits = signal * (labels - 0.5) + rng.normal(size=len(groups)) + 0.5
    return outcomes_of(labels, 1 / (1 + np.exp(-logits)), groups.astype(str)), np.where(own, "b", "a")


@pytest.mark.parametrize(
    ("metric", "drawn_as"),
    [
        ("auroc", {}),
        ("auroc", {"column": "mostly by patient"}),
        ("accuracy", {"mixed": "more at a", "num_patients": 40}),
    ],
    ids=["one hospital a patient", "some slides at another", "more malignant slides at one"],
)
def test_equal_hospitals_give_few_alarms_if_patients_have_slides_of_both_classes(metric, drawn_as):
    found = [
        group_differences(*_named(drawn_of_both_classes(seed, **drawn_as)), metric, 99, 2)[0].p_value
        for seed in range(200)
    ]
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert np.mean(np.array(found) <= 0.5) >= 0.4  # nor are they all large


@pytest.mark.parametrize("column", ["by patient", "mostly by patient"])
def test_a_worse_hospital_is_found_if_patients_have_slides_of_both_classes(column):
    found = [
        group_differences(*_named(drawn_of_both_classes(seed, 60, column=column, noise_of_b=10)), "auroc", 99, 2)[0]
        for seed in range(30)
    ]
    assert np.mean([each.p_value <= 0.05 for each in found]) >= 0.8


def test_values_that_no_two_bags_may_exchange_are_said_to_be_untested():
    outcomes, _ = drawn(1.0)
    bags = pd.DataFrame({"site": np.where(outcomes.labels == 1, "a", "b")})
    (table,) = subgroup_tables(outcomes, bags, ["accuracy"], ["site"], 99)
    assert table.differences[0].difference.value is not None
    assert table.differences[0].p_value is None
    assert table.verdict("Accuracy").startswith("Whether they differ by site cannot be tested by exchanging values")


def drawn_times(noise_of_b, seed=0, num_bags=120):
    """Times that follow a risk, which is measured with more noise at hospital b; b follows its patients half as long."""
    rng = np.random.default_rng(seed)
    site = np.where(rng.random(num_bags) < 0.5, "a", "b")
    risk = rng.normal(size=num_bags)
    times, last = rng.exponential(np.exp(-2 * risk)), rng.exponential(np.where(site == "b", 1.0, 2.0))
    time, event = np.minimum(times, last), times <= last
    measured = risk + rng.normal(size=num_bags) * np.where(site == "b", noise_of_b, 0.5)
    horizons = np.quantile(time, [0.25, 0.5])
    return EvaluatedTimes(time, event, measured, None, horizons, kaplan_meier(time, ~event)), site


def test_a_hospital_where_risks_are_ranked_worse_is_found_and_the_sentence_says_how_it_was_tested():
    outcomes, site = drawn_times(5.0, num_bags=300)
    (found,) = group_differences(outcomes, "site", site, "c_index", 199, 199)
    own = np.flatnonzero(site == "a")
    expected = harrell_c(outcomes.part(own)) - harrell_c(outcomes.part(np.flatnonzero(site != "a")))
    assert found.difference.value == pytest.approx(float(expected))
    assert found.difference.low > 0
    assert found.p_value < 0.05
    (table,) = subgroup_tables(outcomes, pd.DataFrame({"site": site}), ["c_index"], ["site"], 199)
    assert table.verdict("C-index").startswith("C-index by site: a differs from the others by +0.")
    assert table.verdict("C-index").endswith("(values permuted within events and censored times, Holm).")


def test_hospitals_that_follow_their_patients_for_different_times_give_few_alarms():
    found = [group_differences(*_named(drawn_times(0.5, seed, 60)), "c_index", 99, 2)[0].p_value for seed in range(60)]
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_a_cohort_whose_pairs_would_take_too_long_is_said_to_be_untested(monkeypatch):
    monkeypatch.setattr(subgroups, "MAX_TIMES", 100)
    outcomes, site = drawn_times(0.5)
    (table,) = subgroup_tables(outcomes, pd.DataFrame({"site": site}), ["c_index"], ["site"], 99)
    assert table.differences == ()
    words = render("subgroups.html.j2", plots=[], subgroups=[table], metric_names={})
    assert "Whether they differ by site is not tested with more than 100 bags." in words


def test_each_of_several_values_is_compared_with_the_others():
    outcomes, site = drawn(1.0)
    site = np.where(np.arange(200) % 4 < 2, site, "c")
    found = group_differences(outcomes, "site", site, "accuracy", 99, 20)
    assert [each.value for each in found] == ["a", "b", "c"]
    right = outcomes.predicted == outcomes.labels
    for each in found:
        own = site == each.value
        assert each.difference.value == pytest.approx(right[own].mean() - right[~own].mean())


def test_an_undefined_result_has_no_p_value_and_is_not_adjusted_for():
    outcomes, site = drawn(1.0)
    alone = np.where((outcomes.labels == 1) & (np.arange(200) < 30), "only malignant", site)
    found = adjusted_together(group_differences(outcomes, "site", alone, "auroc", 99, 20))
    by_value = {each.value: each for each in found}
    assert by_value["only malignant"].p_value is None
    assert by_value["a"].adjusted <= min(1, 2 * by_value["a"].p_value)
    assert in_one_sentence([by_value["only malignant"]], "AUROC") == ""


def test_tables_of_a_report_are_adjusted_together_and_say_it_in_words():
    outcomes, site = drawn(5.0)
    bags = pd.DataFrame({"scanner": np.where(np.arange(200) % 4 < 2, "x", "y"), "data_provider": site})
    provider, scanner = subgroup_tables(outcomes, bags, ["auroc"], num_resamples=99)
    assert provider.differences[0].adjusted == pytest.approx(2 * provider.differences[0].p_value)
    assert "differs from the others" in provider.verdict("AUROC")
    assert "values permuted within classes and by group, Holm" in provider.verdict("AUROC")
    assert "no difference beyond chance, smallest p = " in scanner.verdict("AUROC")
    single = subgroup_tables(replace(outcomes, groups=None), bags, ["auroc"], num_resamples=99)
    assert "by group" not in single[0].verdict("AUROC")
