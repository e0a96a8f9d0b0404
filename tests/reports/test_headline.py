from dataclasses import replace

import numpy as np

from milpath.metrics.weighted_metrics import METRICS
from milpath.reports.headline import few_in_words, in_words, metric_rows
from milpath.targets import target_named
from milpath.targets.evaluation import evaluate_bags


def test_the_sentence_counts_what_was_found_and_what_was_called_in_vain():
    labels, positive = np.array([1] * 10 + [0] * 20), np.array([0.9] * 8 + [0.2] * 2 + [0.7] * 3 + [0.1] * 17)
    outcomes = evaluate_bags(labels, np.stack([1 - positive, positive], 1), "binary")
    rows = {row.name: row.intervals["test"] for row in metric_rows({"test": outcomes}, target_named("binary"))}
    sentence = in_words(outcomes, target_named("binary"), "test", ["benign", "malignant"], rows)
    assert sentence.startswith("Of 30 test bags, 10 are malignant: the network finds 8 of them (80%, 95% interval ")
    assert sentence.endswith("3 of 20 benign bags are predicted malignant.")
    assert few_in_words(outcomes) == ""
    grouped = replace(outcomes, groups=np.repeat(list("abc"), 10))
    assert in_words(grouped, target_named("binary"), "test", ["benign", "malignant"], rows).startswith(
        "Of 30 test bags of 3 groups, 10 are malignant"
    )
    assert few_in_words(grouped) == "Intervals over 3 groups are rough, and often too narrow."


def test_grades_count_those_beside_the_truth(ordinal):
    rows = {
        row.name: row.intervals["val"]
        for row in metric_rows({"val": ordinal}, target_named("ordinal"), num_resamples=50)
    }
    sentence = in_words(ordinal, target_named("ordinal"), "val", list("012345"), rows)
    assert f"Of 400 validation bags, {ordinal.correct.sum()} are classified correctly (" in sentence
    assert f"{(abs(ordinal.labels - ordinal.predicted) <= 1).sum()} at most one class off." in sentence


def test_every_metric_of_the_task_is_there_the_headline_first(binary, ordinal):
    names = [row.name for row in metric_rows({"test": binary}, target_named("binary"), num_resamples=20)]
    assert names[:4] == ["auroc", "sensitivity", "specificity", "average_precision"]
    assert set(names) == set(METRICS) - {"quadratic_kappa"}
    rows = metric_rows({"test": ordinal, "val": ordinal}, target_named("ordinal"), num_resamples=20)
    assert rows[0].name == "quadratic_kappa"
    assert {row.name for row in rows} == set(METRICS)
    assert rows[0].intervals["test"] == rows[0].intervals["val"]


def test_classes_without_an_order_show_no_kappa(nominal):
    target = target_named("nominal")
    names = {row.name for row in metric_rows({"test": nominal}, target, num_resamples=20)}
    assert names == set(METRICS) - {"quadratic_kappa"}
    assert "quadratic_kappa" not in target.headline
    assert "quadratic_kappa" in target.metric_names, "metrics.json keeps it"
