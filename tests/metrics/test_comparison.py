import numpy as np
import pytest
from scipy import stats

from milpath.metrics.comparison import corrected_resampled_t_test, delong_test, paired_bootstrap_test
from milpath.targets.evaluation import make_outcomes


def test_corrected_t_test_follows_the_equation_of_the_paper():
    first, second = np.random.default_rng(0).normal([[0.85], [0.82]], 0.05, (2, 50))
    test = corrected_resampled_t_test(first, second, test_train_ratio=1 / 9)
    uncorrected = stats.ttest_rel(first, second)
    # Dividing by (1/n + ratio) in place of 1/n shrinks t by sqrt(1 + n ratio).
    shrunk = uncorrected.statistic / np.sqrt(1 + 50 / 9)
    assert test.p_value == pytest.approx(2 * stats.t.sf(abs(shrunk), 49))
    assert test.low < test.difference < test.high
    assert (test.low > 0) == (test.p_value < 0.05)


def test_equal_methods_differ_by_nothing(draw_outcomes):
    assert corrected_resampled_t_test([0.9, 0.8], [0.9, 0.8], 0.1).p_value == 1.0
    binary = draw_outcomes(100, 2, "binary")
    assert paired_bootstrap_test(binary, binary, "auroc").p_value == 1.0
    scores = binary.probabilities[:, 1]
    assert delong_test(binary.labels == 1, scores, scores).p_value == 1.0


def test_delong_equals_its_definition_by_pairs():
    generator = np.random.default_rng(2)
    positive = generator.random(70) < 0.4
    first = generator.integers(0, 12, 70) + 3.0 * positive
    second = generator.integers(0, 12, 70) + 1.0 * positive
    test = delong_test(positive, first, second)

    def wins(score):
        return np.sign(score[positive][:, None] - score[~positive][None, :]) / 2 + 0.5

    between = wins(first) - wins(second)
    variance = between.mean(axis=1).var(ddof=1) / positive.sum() + between.mean(axis=0).var(ddof=1) / (~positive).sum()
    assert test.difference == pytest.approx(between.mean())
    assert test.p_value == pytest.approx(2 * stats.norm.sf(abs(between.mean()) / np.sqrt(variance)))


def test_delong_and_paired_bootstrap_agree_on_many_bags():
    generator = np.random.default_rng(4)
    labels = generator.integers(2, size=1500)
    logits = [generator.normal(size=1500) + gain * labels for gain in (1.0, 0.9)]
    scores = [1 / (1 + np.exp(-values)) for values in logits]
    outcomes = [make_outcomes(labels, np.stack([1 - score, score], 1), "binary") for score in scores]
    by_delong = delong_test(labels == 1, *scores)
    by_bootstrap = paired_bootstrap_test(*outcomes, "auroc", num_resamples=2000)
    assert by_bootstrap.difference == pytest.approx(by_delong.difference)
    assert by_bootstrap.p_value == pytest.approx(by_delong.p_value, abs=0.05)
    assert by_bootstrap.low == pytest.approx(by_delong.low, abs=0.004)


def test_under_no_difference_few_tests_cry_out():
    generator = np.random.default_rng(0)
    small = 0
    for _ in range(300):
        positive = generator.random(60) < 0.5
        small += delong_test(positive, *generator.normal(size=(2, 60))).p_value < 0.05
    assert small / 300 < 0.09


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: corrected_resampled_t_test([0.9], [0.8], 0.1), "at least 2 pairs"),
        (lambda: corrected_resampled_t_test([0.9, float("nan")], [0.8, 0.8], 0.1), "finite"),
        (lambda: corrected_resampled_t_test([0.9, 0.8], [0.8, 0.8], 0.0), "must be positive"),
        (lambda: delong_test(np.array([True, False, False]), np.zeros(3), np.ones(3)), "2 bags of each class"),
    ],
)
def test_what_cannot_be_tested_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_other_bags_are_no_pairs(draw_outcomes):
    with pytest.raises(ValueError, match="same bags in the same order"):
        paired_bootstrap_test(draw_outcomes(9, 2, "binary"), draw_outcomes(9, 2, "binary", 1), "auroc")
