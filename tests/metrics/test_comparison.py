import numpy as np
import pytest
from scipy import stats

from milpath.metrics.comparison import corrected_resampled_t_test, exact_mcnemar, paired_metrics
from milpath.metrics.intervals import metric_intervals, resample_weights
from milpath.metrics.ranking import auroc
from milpath.targets.evaluation import evaluate_bags


def test_corrected_t_test_follows_the_equation_of_the_paper():
    first, second = np.random.default_rng(0).normal([[0.85], [0.82]], 0.05, (2, 50))
    test = corrected_resampled_t_test(first, second, test_train_ratio=1 / 9)
    uncorrected = stats.ttest_rel(first, second)
    # Dividing by (1/n + ratio) in place of 1/n shrinks t by sqrt(1 + n ratio).
    shrunk = uncorrected.statistic / np.sqrt(1 + 50 / 9)
    assert test.p_value == pytest.approx(2 * stats.t.sf(abs(shrunk), 49))
    assert test.low < test.difference < test.high
    assert (test.low > 0) == (test.p_value < 0.05)


def test_equal_methods_differ_by_nothing():
    assert corrected_resampled_t_test([0.9, 0.8], [0.9, 0.8], 0.1).p_value == 1.0


def test_the_same_difference_in_every_fold_is_no_evidence():
    """Accuracies of small test splits often differ alike; without a spread p was 0."""
    test = corrected_resampled_t_test([0.9, 0.7], [0.8, 0.6], 0.5)
    assert test.difference == pytest.approx(0.1)
    assert (test.p_value, test.low, test.high) == (None, None, None)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: corrected_resampled_t_test([0.9], [0.8], 0.1), "at least 2 pairs"),
        (lambda: corrected_resampled_t_test([0.9, float("nan")], [0.8, 0.8], 0.1), "finite"),
        (lambda: corrected_resampled_t_test([0.9, 0.8], [0.8, 0.8], 0.0), "must be positive"),
    ],
)
def test_what_cannot_be_tested_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def two_networks(groups=None):
    """Two networks that err on the same difficult bags."""
    generator = np.random.default_rng(3)
    labels = np.arange(120) % 2
    difficulty = generator.normal(size=120) * 1.5
    scores = [1 / (1 + np.exp(-(2 * labels - 1 + difficulty + 0.3 * generator.normal(size=120)))) for _ in range(2)]
    return [evaluate_bags(labels, np.stack([1 - each, each], 1), "binary", groups=groups) for each in scores]


def test_a_difference_is_taken_on_the_same_resamples():
    first, second = two_networks()
    (row,) = paired_metrics([first, second], ["auroc"], num_resamples=400, seed=2)
    differences = np.concatenate(
        [
            auroc(second.labels == 1, second.probabilities[:, 1], weights)
            - auroc(first.labels == 1, first.probabilities[:, 1], weights)
            for weights in resample_weights(120, None, 400, 2)
        ]
    )
    assert [row.differences[1].low, row.differences[1].high] == pytest.approx(np.quantile(differences, [0.025, 0.975]))
    assert row.differences[0] is None
    assert row.intervals[1] == metric_intervals(second, ["auroc"], 400, seed=2)["auroc"]
    assert row.differences[1].value == pytest.approx(row.intervals[1].value - row.intervals[0].value)
    # Networks that err on the same bags differ by less than their intervals suggest.
    widths = [each.high - each.low for each in (row.differences[1], *row.intervals)]
    assert widths[0] < 0.6 * min(widths[1:])


def test_groups_are_drawn_as_a_whole_and_widen_a_difference():
    independent, grouped = (
        paired_metrics(two_networks(groups), ["auroc"], 400)[0].differences[1]
        for groups in (None, np.arange(120) // 2 % 8)
    )
    assert grouped.value == independent.value
    assert (grouped.low, grouped.high) != (independent.low, independent.high)


def test_a_network_does_not_differ_from_itself():
    first, _ = two_networks()
    for row in paired_metrics([first, first], ["auroc", "accuracy"], 50):
        assert (row.differences[1].value, row.differences[1].low) == (0.0, None)


def test_networks_with_other_bags_or_groups_are_refused():
    first, second = two_networks()
    for other in (second.part(np.arange(60)), two_networks(np.arange(120) % 8)[1]):
        with pytest.raises(ValueError, match="the same bags, in the same groups"):
            paired_metrics([first, other], ["auroc"], 10)


def test_mcnemar_is_the_sign_test_of_bags_on_which_one_network_is_right():
    first, second = np.array([1, 1, 1, 1, 0, 0, 1, 1], bool), np.array([0, 0, 0, 1, 1, 0, 1, 1], bool)
    assert exact_mcnemar(first, second) == pytest.approx(stats.binomtest(3, 4).pvalue)
    assert exact_mcnemar(first, first) == 1.0
