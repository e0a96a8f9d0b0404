import numpy as np
import pytest
from scipy import stats

from milpath.metrics.comparison import corrected_resampled_t_test


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
