"""Weights against censoring of a cohort that a network was not trained on."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milpath.models.checkpoint import Card
from milpath.targets import NumericTarget, Survival, target_of
from milpath.targets.columns.number_columns import units_of

_log = logging.getLogger(__name__)


def card_in_cohort(card: Card, labels: NDArray[Any]) -> tuple[Card, str]:
    """Return the card with which another cohort is evaluated, and a note on what differs; empty if nothing does.

    The weights of Uno's index, of the AUROC over time and of the Brier score stand for the bags that are censored. How long
    bags are followed is a fact of a cohort: with the weights of the training split, those of a cohort with a longer
    follow-up are too large, and the Brier score of true probabilities may exceed 1.

    Args:
        card: Card of the network.
        labels: `(bags, label columns)` of the tested bags, or patients.

    References:
        Gerds and Schumacher. Consistent estimation of the expected Brier score in general survival models with
        right-censored event times. Biometrical Journal 48, 2006.
    """
    target = target_of(card)
    if not isinstance(target, NumericTarget):
        return card, ""
    state = target.in_cohort(np.asarray(labels, dtype=np.float64)).state()
    if state == target.state():
        return card, ""
    if isinstance(target, Survival):
        _warn_of_units(target, labels)
    return replace(card, target_state=state), "weights against censoring are those of the tested bags"


def _warn_of_units(target: Survival, labels: NDArray[Any]) -> None:
    """Warn if the times of a cohort differ from those of the training by about the factor between two units of time."""
    before, tested = (float(np.median(times)) for times in (target.fitted["censoring_times"], labels[:, 0]))
    if before > 0 and tested > 0 and (units := units_of(tested / before)):
        _log.warning(
            "the median time of the tested bags is %.4g, and was %.4g in the training%s: are they in %s? Use the unit of "
            "the training", tested, before, f" (in {target.unit})" * bool(target.unit), units,
        )  # fmt: skip
