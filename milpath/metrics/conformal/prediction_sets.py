"""Split conformal prediction: sets of classes and intervals of numbers with a chosen coverage."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.conformal.conformity_scores import (
    NUMBERS,
    ORDERED,
    TIED,
    class_scores,
    ends_of,
    number_scores,
    ordered_ends,
    say_too_few,
    score_quantile,
)
from milpath.records.plain_values import brief

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
# A card is untrusted: longer lists of quantiles are refused.
MAX_QUANTILES = 10_000


@dataclass(frozen=True)
class Conformal:
    """Quantiles of the scores of the validation bags, which turn predictions into sets or intervals.

    The score of a class is large where the network finds it unlikely, and a set holds the classes whose score does not
    exceed the quantile:

    - "classes": `1 - p_y`;
    - "ordered": the probability of the classes that are added before `y` when a range grows from the most probable class
      by the more probable neighbour, so that a set is a range of classes;
    - "numbers": `|y - prediction|`, or `max(low - y, y - high)` of predicted quantiles, for each number on its own.

    A set always holds the most probable class. With `by_class` the coverage holds within each class.

    Attributes:
        kind: "classes", "ordered" or "numbers".
        coverage: Wanted share of sets with the truth, in (0, 1).
        by_class: Whether each class has a quantile of its own.
        quantiles: One, or one per class or number; `None` if there are too few patients for this coverage, and the set
            then holds everything.
        num_groups: Patients (or bags that are independent) behind each quantile.
        num_bags: Number of validation bags.
        aggregate: "mean" or "max" if these were patients, predicted from their slides in this way: the sets are then not
            those of a slide; `None` if they were bags.

    References:
        Vovk, Gammerman, Shafer. Algorithmic learning in a random world. 2005, section 4.5 (by class).
        Sadinle, Lei, Wasserman. Least ambiguous set-valued classifiers with bounded error levels. JASA 2019 (`1 - p_y`).
        Lu, Angelopoulos, Pomerantz. Improving trustworthiness of AI disease severity rating in medical imaging with
        ordinal conformal prediction sets. MICCAI 2022 (ranges of classes).
        Romano, Patterson, Candes. Conformalized quantile regression. NeurIPS 2019 (quantiles).
        Lee, Barber, Willett. Distribution-free inference with hierarchical data. 2023, eq. 5 (several bags of a patient).
    """

    kind: str
    coverage: float
    by_class: bool
    quantiles: tuple[float | None, ...]
    num_groups: tuple[int, ...]
    num_bags: int
    aggregate: str | None = None

    def sets(self, probabilities: Array, each: Array | None = None) -> Flags:
        """Return whether each class is in the set of each bag, `(bags, classes)`.

        Args:
            probabilities: `(bags, classes)`, with the temperature of the checkpoint.
            each: Of several networks, which these sets are not for.
        """
        bounds = np.array([np.inf if value is None else value for value in self.quantiles])
        return completed(class_scores(probabilities, self.kind) <= bounds + TIED, probabilities, self.kind)

    def intervals(self, answers: Array, each: Array | None = None) -> tuple[Array, Array]:
        """Return lower and upper ends, each `(bags, numbers)`; NaN if an interval has no end.

        Args:
            answers: `(bags, numbers)`, or `(bags, 2 numbers)` lower and upper quantiles.
            each: As in `sets`.
        """
        widths = np.array([np.nan if value is None else value for value in self.quantiles])
        low, high = ends_of(answers, len(widths))
        return ordered_ends(low - widths, high + widths)

    def covered(self, labels: NDArray[Any], answers: Array, each: Array | None = None) -> Flags:
        """Return whether each set holds the truth, `(bags,)`, or each interval, `(bags, numbers)`."""
        if self.kind != NUMBERS:
            return np.asarray(self.sets(answers)[np.arange(len(labels)), labels])
        bounds = np.array([np.inf if value is None else value for value in self.quantiles])
        low, high = self.intervals(answers)
        return np.asarray((number_scores(labels, answers) <= bounds) | ((low <= labels) & (labels <= high)))

    def state(self) -> dict[str, Any]:
        """Return plain values, which a checkpoint keeps."""
        state = asdict(self) | {"quantiles": list(self.quantiles), "num_groups": list(self.num_groups)}
        return {name: value for name, value in state.items() if name != "aggregate" or value is not None}

    @classmethod
    def of_state(cls, state: Mapping[str, Any], kind: str | None, num_columns: int) -> Self | None:
        """Return what a checkpoint keeps, which is untrusted; `None` if it keeps nothing.

        Args:
            state: Value of `state`, or empty.
            kind: Kind of sets that the target has; `None` if it has none.
            num_columns: Number of classes or numbers.

        Raises:
            ValueError: If a value is missing or invalid, or does not fit the target.
        """
        if not state:
            return None
        wanted = num_columns if kind == NUMBERS or state.get("by_class") is True else 1
        quantiles, groups = state.get("quantiles"), state.get("num_groups")
        for name, sound in {
            "kind": kind is not None and state.get("kind") == kind,
            "coverage": is_number(state.get("coverage")) and 0 < state["coverage"] < 1,
            "by_class": isinstance(state.get("by_class"), bool),
            "quantiles": _is_list(quantiles, wanted)
            and all(each is None or is_number(each) for each in quantiles or ()),
            "num_groups": _is_list(groups, wanted) and all(is_count(each) for each in groups or ()),
            "num_bags": is_count(state.get("num_bags")),
            "aggregate": state.get("aggregate") in (None, "mean", "max"),
        }.items():
            if not sound:
                raise ValueError(f"{name} in conformal of the card is {brief(state.get(name))}, which is invalid here")
        return cls(
            state["kind"], float(state["coverage"]), state["by_class"], tuple(quantiles or ()), tuple(groups or ()),
            state["num_bags"], state.get("aggregate"),
        )  # fmt: skip

    def too_small(self, names: Sequence[str]) -> str:
        """Return a sentence on the quantiles that too few validation bags define; empty if all are defined.

        Args:
            names: Names of the classes or numbers.
        """
        missing = [place for place, value in enumerate(self.quantiles) if value is None]
        return say_too_few(self.coverage, self.by_class, self.kind == NUMBERS, names, self.num_groups, missing)


def fit_conformal(
    labels: NDArray[Any],
    answers: Array,
    kind: str,
    coverage: float,
    by_class: bool = False,
    groups: NDArray[np.str_] | None = None,
) -> Conformal:
    """Fit sets or intervals on the validation split, never on the test split.

    Args:
        labels: `(bags,)` classes, or `(bags, numbers)`.
        answers: `(bags, classes)` probabilities as predictions show them, `(bags, numbers)`, or `(bags, 2 numbers)` of
            lower and upper quantiles.
        kind: "classes", "ordered" or "numbers".
        coverage: Wanted share of sets with the truth, in (0, 1).
        by_class: Whether the coverage is to hold within each class.
        groups: `(bags,)` patient of each bag; `None` if all bags are independent.

    Raises:
        ValueError: If the coverage is out of range, there are no bags, numbers are asked for by class, or a value is not
            finite.
    """
    parts = scores_by_part(labels, answers, kind, coverage, by_class)
    found = [score_quantile(scores, None if groups is None else groups[rows], coverage) for rows, scores in parts]
    quantiles, sizes = zip(*found, strict=True)
    return Conformal(kind, float(coverage), by_class, quantiles, sizes, len(labels))


def scores_by_part(
    labels: NDArray[Any], answers: Array, kind: str, coverage: float, by_class: bool
) -> list[tuple[NDArray[np.int64], Array]]:
    """Return rows and scores of the true labels for each quantile that is fitted: of each class or number, or of all.

    Raises:
        ValueError: As in `fit_conformal`.
    """
    if not is_number(coverage) or not 0 < coverage < 1:
        raise ValueError(f"a coverage must be in (0, 1), such as 0.9, got {coverage}")
    if not len(labels):
        raise ValueError("prediction sets need a validation split, but it has no bags; set data.val_fraction")
    if kind == NUMBERS and by_class:
        raise ValueError("a coverage by class needs classes; a number has none")
    if not np.isfinite(answers).all() or not np.isfinite(labels).all():
        raise ValueError("prediction sets need finite labels and predictions")
    everything = np.arange(len(labels))
    if kind == NUMBERS:
        return [(everything, column) for column in number_scores(labels, answers).T]
    scores = class_scores(answers, kind)[everything, labels]
    chosen = [np.flatnonzero(labels == k) for k in range(answers.shape[1])] if by_class else [everything]
    return [(rows, scores[rows]) for rows in chosen]


def completed(inside: Flags, probabilities: Array, kind: str) -> Flags:
    """Return sets that hold the most probable class, and of ordered classes are ranges."""
    inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
    if kind == ORDERED:  # quantiles by class, or several networks, may leave a gap, where the truth must not be
        before = np.maximum.accumulate(inside, axis=1)
        inside = before & np.maximum.accumulate(inside[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(inside)


def is_number(value: Any) -> bool:
    """Return whether a value of a card is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: Any) -> bool:
    """Return whether a value of a card is a whole number of 0 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list(value: Any, length: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == length <= MAX_QUANTILES
