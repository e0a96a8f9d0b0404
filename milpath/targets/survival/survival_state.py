"""State of a survival target in the card of a checkpoint, which is untrusted."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milpath.records.plain_values import MAX_NUMBER, brief
from milpath.targets.numeric_target import numbers_of_state

LOSSES = ("cox", "hazard")
_TEXTS = ("time_column", "event_column", "loss", "unit")
_STEPS = (("censoring_times", "censoring_values"), ("baseline_times", "baseline_hazard"))
FITTED = ("cuts", "times", "grid", "risk_cut", *(name for pair in _STEPS for name in pair))


def options_of_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a survival target from a card.

    Raises:
        ValueError: If a value is missing, or no sound step function can be made of the fitted values.
    """
    if missing := [name for name in (*_TEXTS, "num_intervals", "times", "censoring_times") if name not in state]:
        raise ValueError(f"target_state of the card lacks {', '.join(missing)}, which a survival task needs")
    if wrong := [name for name in _TEXTS if not isinstance(state[name], str)]:
        raise ValueError(f"{wrong[0]} in target_state of the card must be text, not {brief(state[wrong[0]])}")
    # The hazard is relative to a risk, which may be anywhere.
    largest = {"baseline_hazard": np.finfo(np.float64).max}
    fitted = {
        name: numbers_of_state(state, name, largest=largest.get(name, MAX_NUMBER)) for name in FITTED if name in state
    }
    for first, second in _STEPS:
        if len(fitted.get(first, ())) != len(fitted.get(second, ())):
            raise ValueError(f"{first} and {second} in target_state of the card must have the same length")
    if not is_ascending(fitted["times"]) or ("cuts" in fitted and not is_ascending(fitted["cuts"])):
        raise ValueError("times and cuts in target_state of the card must be ascending positive numbers")
    descending = ("censoring_times", "baseline_times", "baseline_hazard", "grid")
    if any(np.any(np.diff(fitted.get(name, [])) < 0) for name in descending):
        raise ValueError("times and baseline hazard in target_state of the card must not descend")
    if "grid" in fitted and not (fitted["grid"] and fitted["grid"][0] >= 0 and fitted["grid"][-1] > 0):
        raise ValueError("grid in target_state of the card must be times that end above 0")
    if state["loss"] == "hazard" and not {"cuts", "grid"} & set(fitted):
        raise ValueError("target_state of the card lacks cuts, which loss=hazard needs")
    return {name: state[name] for name in (*_TEXTS, "num_intervals")} | {"fitted": fitted}


def require_options(loss: Any, num_intervals: Any, times: Any) -> None:
    """Refuse options of a survival target that are unknown or out of range.

    Raises:
        ValueError: With the option and what it may be.
    """
    if loss not in LOSSES:
        raise ValueError(f"target.loss is {brief(loss)}; it must be one of {', '.join(LOSSES)}")
    if isinstance(num_intervals, bool) or not isinstance(num_intervals, int) or not 2 <= num_intervals <= 1000:
        raise ValueError(f"target.num_intervals is {brief(num_intervals)}; it must be a whole number from 2 to 1000")
    if times is not None and not is_ascending(times):
        raise ValueError(f"target.times is {brief(times)}; it must be a list of ascending positive numbers")


def is_ascending(values: Any) -> bool:
    """Return whether values are ascending positive finite numbers that differ in their first nine digits.

    Columns are named after them.

    Example:
        >>> is_ascending([12, 24.0]), is_ascending([24, 12]), is_ascending([])
        (True, False, False)
    """
    if not isinstance(values, Sequence) or isinstance(values, str):
        return False
    if not values or not all(isinstance(value, int | float) and 0 < value < np.inf for value in values):
        return False
    return all(float(f"{first:.9g}") < float(f"{second:.9g}") for first, second in pairwise(values))


def quartiles_in_short(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distinct quartiles of event times, rounded to three digits unless that leads out of their range.

    Before the first event no metric at a time is defined, and after the last one no survival is known.

    Example:
        >>> [quartiles_in_short(np.array(times)).tolist() for times in ([12.34, 20.0, 31.06], [1004.0, 1006.0])]
        [[16.2, 20.0, 25.5], [1004.5, 1005.0, 1005.5]]
    """
    found = []
    for moment in np.quantile(times, [0.25, 0.5, 0.75]):
        short = float(f"{moment:.3g}")
        found.append(short if times.min() <= short <= times.max() else float(f"{moment:.9g}"))
    return np.unique(found)
