"""Paired test of two methods on the same folds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class PairedTest:
    """The difference between two methods and the result of a paired test.

    Attributes:
        difference: First minus second.
        p_value: Two-sided.
        low: Lower end of the 95% interval of the difference.
        high: Upper end.
        name: Name of the test.
    """

    difference: float
    p_value: float
    low: float
    high: float
    name: str


def corrected_resampled_t_test(first: Sequence[float], second: Sequence[float], test_train_ratio: float) -> PairedTest:
    """Compare two methods on the folds of repeated cross-validation.

    t = mean(d) / sqrt((1 / n + test_train_ratio) var(d)),  n - 1 degrees of freedom

    The plain paired t-test treats folds as independent, but their training sets overlap, so that it finds differences
    where there are none. The second term corrects for that.

    Args:
        first: The first method's value on each fold of each repeat.
        second: The second method's values, on the same folds in the same order.
        test_train_ratio: Number of test bags divided by the number of training bags of a fold: 1 / (folds - 1) for
            plain k-fold.

    Raises:
        ValueError: If there are fewer than two pairs or the ratio is not positive.

    References:
        Nadeau and Bengio. Inference for the generalization error. Machine Learning 52, 2003, eq. 9.
        Bouckaert and Frank. Evaluating the replicability of significance tests for comparing learning algorithms.
        PAKDD 2004, section 3.2 (repeated cross-validation).

    Example:
        >>> test = corrected_resampled_t_test([0.9, 0.8, 0.95, 0.9], [0.8, 0.75, 0.8, 0.85], test_train_ratio=1 / 3)
        >>> round(test.difference, 4), round(test.p_value, 3)
        (0.0875, 0.096)
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    count = len(differences)
    if count < 2 or not np.isfinite(differences).all():
        raise ValueError(f"a paired test over folds needs at least 2 pairs of finite values, got {count}")
    if test_train_ratio <= 0:
        raise ValueError(f"test_train_ratio must be positive, got {test_train_ratio}")
    mean = float(differences.mean())
    error = float(np.sqrt((1 / count + test_train_ratio) * differences.var(ddof=1)))
    name = "corrected resampled t-test"
    if error == 0:
        return PairedTest(mean, 1.0 if mean == 0 else 0.0, mean, mean, name)
    reach = float(stats.t.ppf(0.975, count - 1)) * error
    p_value = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    return PairedTest(mean, p_value, mean - reach, mean + reach, name)
