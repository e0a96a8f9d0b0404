"""The calibration error of perfect probabilities in a small sample: what noise alone gives."""

from functools import cache

import numpy as np

from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.ranking import auroc
from milpath.metrics.weighted_metrics import expected_calibration_error

NUM_DRAWS = 500


@cache
def of_calibrated(spread: float, num_bags: int) -> dict[str, float]:
    """Return AUROC and expected calibration error of labels that are drawn with the probabilities that are judged.

    Args:
        spread: Standard deviation of the logits, which are normal around 0.
        num_bags: Bags per sample; both are means over `NUM_DRAWS` samples, without those of one class.
    """
    rng = np.random.default_rng(0)
    areas, errors = [], []
    for _ in range(NUM_DRAWS):
        positive = 1 / (1 + np.exp(-spread * rng.standard_normal(num_bags)))
        labels = rng.random(num_bags) < positive
        if 0 < labels.sum() < num_bags:
            areas.append(float(auroc(labels, positive)))
            probabilities = np.stack([1 - positive, positive], 1)
            bags = EvaluatedBags(labels.astype(np.int64), probabilities, (positive >= 0.5).astype(np.int64), 1)
            errors.append(float(expected_calibration_error(bags)))
    return {"auroc": float(np.mean(areas)), "ece": float(np.mean(errors))}
