"""Prediction sets and intervals of a checkpoint, as columns of a table and as text."""

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.conformal import CrossConformal
from milpath.targets.registry import target_of
from milpath.targets.set_parts import CardOfSets, SetPart, Sets, fitted_parts, set_parts
from milpath.targets.target import Array

SET = "set"
_BETWEEN = ";"
Numbers = NDArray[np.floating]


def sets_of(card: CardOfSets) -> Sets | None:
    """Return the prediction sets of a checkpoint with one target; `None` if it was trained without, or has several.

    Raises:
        ValueError: If a value of the card is invalid.
    """
    return next((part.sets for part in fitted_parts(card) if not part.name), None)


def shown_parts(card: CardOfSets, aggregate: str | None = None) -> list[SetPart]:
    """Return the targets with the sets of what is predicted; empty without, or if they were fitted on something else.

    Args:
        card: The card.
        aggregate: How the predictions of slides became those of patients; `None` for bags as they are.
    """
    return [part for part in fitted_parts(card) if part.sets is not None and part.sets.aggregate == aggregate]


def say_about_sets(card: CardOfSets, aggregate: str | None = None) -> str:
    """Return what to know of the sets of a checkpoint in one line: why there are none, or why they hold everything.

    Args:
        card: As in `shown_parts`.
        aggregate: As in `shown_parts`.
    """
    if not (fitted := fitted_parts(card)):
        return ""
    said = [say_other_sets(card, aggregate)]
    for part in shown_parts(card, aggregate):
        if part.sets is not None and (small := part.sets.too_small(part.names)):
            said.append(f"{part.name}: {small}" if part.name else small)
    if without := set(getattr(target_of(card), "names", ())) - {part.name for part in fitted} if fitted[0].name else ():
        said.append(f"no prediction sets for {', '.join(sorted(without))}: a censored time has no error to fit them on")
    return "; ".join(filter(None, said))


def say_other_sets(card: CardOfSets, aggregate: str | None = None) -> str:
    """Return why there are no sets for what is predicted, although the checkpoint has some; empty otherwise.

    Args:
        card: As in `shown_parts`.
        aggregate: As in `shown_parts`.
    """
    if not (parts := fitted_parts(card)) or (sets := parts[0].sets) is None or sets.aggregate == aggregate:
        return ""
    made = f"patients from their slides with aggregate={sets.aggregate}" if sets.aggregate else "single bags"
    here = f"patients from their slides with aggregate={aggregate}" if aggregate else "single slides"
    return f"the prediction sets of this checkpoint were fitted on {made}: there are none for {here}"


def set_columns(card: CardOfSets, aggregate: str | None = None) -> tuple[str, ...]:
    """Return the columns of `set_cells`: `set`, or `low_<name>` and `high_<name>` of each number; empty without sets.

    Of several targets each has its name and a slash before them.

    Args:
        card: As in `shown_parts`.
        aggregate: As in `shown_parts`.
    """
    columns: list[str] = []
    for part in shown_parts(card, aggregate):
        own = [SET] if part.target.has_classes else [f"{end}_{name}" for name in part.names for end in ("low", "high")]
        columns += [f"{part.prefix}{name}" for name in own]
    return tuple(columns)


def class_sets(
    card: CardOfSets, answers: Numbers, aggregate: str | None = None, each: Array | None = None
) -> dict[str, list[str]]:
    """Return the names of the classes in the set of one bag, by target (empty for the only one); empty without sets.

    Args:
        card: The card.
        answers: `(columns,)`, all predictions, with the temperature of the card.
        aggregate: As in `shown_parts`.
        each: `(networks, columns)` of each network of an average.
    """
    found = {}
    for part in shown_parts(card, aggregate):
        if part.target.has_classes and part.sets is not None:
            (inside,) = part.sets.sets(part.of(answers[None]), None if each is None else part.of(each[None]))
            found[part.name] = [name for name, chosen in zip(part.names, inside, strict=True) if chosen]
    return found


def number_intervals(
    card: CardOfSets, answers: Numbers, aggregate: str | None = None, each: Array | None = None
) -> dict[str, tuple[float | None, float | None]]:
    """Return name to lower and upper end of each number of one bag, `None` without an end; empty without intervals.

    Args:
        card: The card.
        answers: As in `class_sets`.
        aggregate: As in `shown_parts`.
        each: As in `class_sets`.
    """
    found: dict[str, tuple[float | None, float | None]] = {}
    for part in shown_parts(card, aggregate):
        if not part.target.has_classes and part.sets is not None:
            low, high = part.sets.intervals(part.of(answers[None]), None if each is None else part.of(each[None]))
            pairs = zip(part.names, low[0].tolist(), high[0].tolist(), strict=True)
            found |= {
                f"{part.prefix}{name}": (None, None) if np.isnan(start) else (start, end) for name, start, end in pairs
            }
    return found


def set_cells(card: CardOfSets, answers: Numbers, aggregate: str | None = None, each: Array | None = None) -> list[str]:
    """Return the cells of `set_columns` of one bag or patient; an interval without an end has empty cells."""
    return set_rows(card, answers[None], aggregate, None if each is None else each[None])[0]


def set_rows(
    card: CardOfSets, answers: Numbers, aggregate: str | None = None, each: Array | None = None
) -> list[list[str]]:
    """Return the cells of `set_columns` of many bags.

    Args:
        card: The card.
        answers: `(bags, columns)`.
        aggregate: As in `shown_parts`.
        each: `(bags, networks, columns)` of each network of an average.
    """
    rows: list[list[str]] = [[] for _ in answers]
    for part in shown_parts(card, aggregate):
        assert part.sets is not None
        own, of_each = part.of(answers), None if each is None else part.of(each)
        if part.target.has_classes:
            for cells, inside in zip(rows, part.sets.sets(own, of_each), strict=True):
                cells.append(_BETWEEN.join(name for name, chosen in zip(part.names, inside, strict=True) if chosen))
            continue
        ends = np.stack(part.sets.intervals(own, of_each), axis=2).reshape(len(answers), -1)
        for cells, values in zip(rows, ends.tolist(), strict=True):
            cells += ["" if np.isnan(value) else f"{value:.9g}" for value in values]
    return rows


def say_set(card: CardOfSets, answers: Numbers, each: Array | None = None) -> str:
    """Return the set or the intervals of one bag as sentences for people; empty without sets, or why there is none.

    Args:
        card: The card.
        answers: As in `class_sets`.
        each: As in `class_sets`.
    """
    if not (parts := shown_parts(card)):
        return f"{other[:1].upper()}{other[1:]}." if (other := say_other_sets(card)) else ""
    classes, intervals = class_sets(card, answers, each=each), number_intervals(card, answers, each=each)
    said = []
    for part in parts:
        assert part.sets is not None
        small, of = part.sets.too_small(part.names), f" of {part.name}" if part.name else ""
        note = f" {small[:1].upper()}{small[1:]}." if small else ""
        within = " within each class" if part.sets.by_class else ""
        if part.target.has_classes:
            said.append(
                f"Prediction set{of}: {', '.join(classes[part.name])}. {_promise(part.sets)} of the sets hold the true "
                f"class{within}.{note}"
            )
            continue
        ends = [(name, intervals[f"{part.prefix}{name}"]) for name in part.names]
        shown = "; ".join(
            f"{name} without limits" if low is None else f"{name} from {low:.4g} to {high:.4g}"
            for name, (low, high) in ends
        )
        said.append(
            f"Prediction interval{of}: {shown}. {_promise(part.sets)} of the intervals of a number hold its true "
            f"value.{note}"
        )
    return " ".join(said)


def _promise(sets: Sets) -> str:
    """Return the start of a sentence on how many sets hold the truth."""
    start = "On slides like those of the validation split, "
    if not isinstance(sets, CrossConformal):
        return f"{start}at least {100 * sets.coverage:.3g}%"
    return f"{start}about {100 * sets.coverage:.3g}% (at least {100 * sets.promise:.2g}% in theory, for an average of folds)"


__all__ = [
    "SET", "CardOfSets", "class_sets", "number_intervals", "say_about_sets", "say_other_sets", "say_set", "set_cells",
    "set_columns", "set_parts", "set_rows", "sets_of", "shown_parts",
]  # fmt: skip
