"""Prediction sets and intervals of a checkpoint, as columns of a table and as text."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.conformal import Conformal
from milpath.targets.registry import CardOfTarget, target_of

SET = "set"
_BETWEEN = ";"


class CardOfSets(CardOfTarget, Protocol):
    """The fields of a checkpoint's card that define its prediction sets."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes or numbers."""

    @property
    def conformal(self) -> Any:
        """State of the prediction sets."""


def sets_of(card: CardOfSets) -> Conformal | None:
    """Return the prediction sets of a checkpoint; `None` if it was trained without.

    Raises:
        ValueError: If a value of the card is invalid.
    """
    return Conformal.of_state(card.conformal, target_of(card).set_kind, len(card.class_names))


def shown_sets(card: CardOfSets, aggregate: str | None = None) -> Conformal | None:
    """Return the prediction sets of what is predicted; `None` without, or if they were fitted on something else.

    Args:
        card: The card.
        aggregate: How the predictions of slides became those of patients; `None` for bags as they are.
    """
    sets = sets_of(card)
    return sets if sets is not None and sets.aggregate == aggregate else None


def say_other_sets(card: CardOfSets, aggregate: str | None = None) -> str:
    """Return why there are no sets for what is predicted, although the checkpoint has some; empty otherwise.

    Args:
        card: As in `shown_sets`.
        aggregate: As in `shown_sets`.
    """
    if (sets := sets_of(card)) is None or sets.aggregate == aggregate:
        return ""
    made = f"patients from their slides with aggregate={sets.aggregate}" if sets.aggregate else "single bags"
    here = f"patients from their slides with aggregate={aggregate}" if aggregate else "single slides"
    return f"the prediction sets of this checkpoint were fitted on {made}: there are none for {here}"


def set_columns(card: CardOfSets, aggregate: str | None = None) -> tuple[str, ...]:
    """Return the columns of `set_cells`: `set`, or `low_<name>` and `high_<name>` of each number; empty without sets.

    Args:
        card: As in `shown_sets`.
        aggregate: As in `shown_sets`.
    """
    if shown_sets(card, aggregate) is None:
        return ()
    if target_of(card).has_classes:
        return (SET,)
    return tuple(f"{end}_{name}" for name in card.class_names for end in ("low", "high"))


def class_set(card: CardOfSets, probabilities: NDArray[np.floating], aggregate: str | None = None) -> list[str]:
    """Return the names of the classes in the set of one bag; empty without sets, or for a target without classes.

    Args:
        card: The card.
        probabilities: `(classes,)`, with the temperature of the card.
        aggregate: As in `shown_sets`.
    """
    if (conformal := shown_sets(card, aggregate)) is None or not target_of(card).has_classes:
        return []
    (inside,) = conformal.sets(np.asarray(probabilities, dtype=np.float64)[None])
    return [name for name, chosen in zip(card.class_names, inside, strict=True) if chosen]


def number_intervals(
    card: CardOfSets, answers: NDArray[np.floating], aggregate: str | None = None
) -> dict[str, tuple[float | None, float | None]]:
    """Return name to lower and upper end of each number of one bag, `None` without an end; empty without intervals.

    Args:
        card: The card.
        answers: `(numbers,)`.
        aggregate: As in `shown_sets`.
    """
    if (conformal := shown_sets(card, aggregate)) is None or target_of(card).has_classes:
        return {}
    low, high = conformal.intervals(np.asarray(answers, dtype=np.float64)[None])
    pairs = zip(card.class_names, low[0].tolist(), high[0].tolist(), strict=True)
    return {name: (None, None) if np.isnan(start) else (start, end) for name, start, end in pairs}


def set_cells(card: CardOfSets, answers: NDArray[np.floating], aggregate: str | None = None) -> list[str]:
    """Return the cells of `set_columns` of one bag or patient; an interval without an end has empty cells."""
    if names := class_set(card, answers, aggregate):
        return [_BETWEEN.join(names)]
    ends = [end for pair in number_intervals(card, answers, aggregate).values() for end in pair]
    return ["" if end is None else f"{end:.9g}" for end in ends]


def say_set(card: CardOfSets, answers: NDArray[np.floating]) -> str:
    """Return the set or the intervals of one bag as sentences for people; empty without sets, or why there is none.

    Args:
        card: The card.
        answers: `(classes,)` probabilities with the temperature of the card, or `(numbers,)`.
    """
    if (conformal := shown_sets(card)) is None:
        return f"{other[:1].upper()}{other[1:]}." if (other := say_other_sets(card)) else ""
    small = conformal.too_small(card.class_names)
    note = f" {small[:1].upper()}{small[1:]}." if small else ""
    share = f"{100 * conformal.coverage:.3g}%"
    within = " within each class" if conformal.by_class else ""
    if names := class_set(card, answers):
        return (
            f"Prediction set: {', '.join(names)}. On slides like those of the validation split, at least {share} of the "
            f"sets hold the true class{within}.{note}"
        )
    parts = [
        f"{name} without limits" if low is None else f"{name} from {low:.4g} to {high:.4g}"
        for name, (low, high) in number_intervals(card, answers).items()
    ]
    return (
        f"Prediction interval: {'; '.join(parts)}. On slides like those of the validation split, at least {share} of the "
        f"intervals of a number hold its true value.{note}"
    )
