"""Coverage of prediction sets on bags that they were not fitted on."""

import math

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.intervals import Interval

# Two-sided 95% of a normal distribution.
_Z = 1.959963984540054


def measured_coverage(covered: NDArray[np.bool_], groups: NDArray[np.str_] | None = None) -> Interval:
    """Return the share of sets with the truth and its 95% interval; each patient counts once.

    The interval is Wilson's for as many trials as there are patients. The share of covered bags of a patient varies no
    more than a single trial does, so that the interval is wide enough with several bags a patient.

    Args:
        covered: `(bags,)`.
        groups: `(bags,)` patient of each bag; `None` if all bags are independent.

    References:
        Wilson. Probable inference, the law of succession, and statistical inference. JASA 1927.
    """
    if not len(covered):
        return Interval(None, None, None)
    of_bag = np.arange(len(covered)) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    counts = np.bincount(of_bag)
    share, size = float((np.bincount(of_bag, covered) / counts).mean()), len(counts)
    centre = (share + _Z**2 / (2 * size)) / (1 + _Z**2 / size)
    half = _Z / (1 + _Z**2 / size) * math.sqrt(share * (1 - share) / size + _Z**2 / (4 * size**2))
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))
