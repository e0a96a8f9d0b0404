"""Cases on which runs disagree: other predicted classes, or predicted numbers far apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.comparison import exact_mcnemar
from milpath.metrics.evaluated_bags import EvaluatedBags
from milpath.metrics.evaluated_numbers import EvaluatedNumbers
from milpath.metrics.survival.evaluated_times import EvaluatedTimes
from milpath.reports.compare.compared_runs import Part

MAX_CASES = 200
# Numbers differ on every bag; these are shown.
NUM_FURTHEST = 30


@dataclass(frozen=True)
class Answer:
    """What one run predicted of a case.

    Attributes:
        words: The prediction.
        right: Whether it is the true class; `None` for numbers.
    """

    words: str
    right: bool | None = None


@dataclass(frozen=True)
class Disagreement:
    """A case on which runs disagree.

    Attributes:
        bag_id: Name of the bag.
        label: The truth in words.
        answers: The prediction of each run.
        spread: How far they are apart: in probability of the true class, standard deviations, or ranks of risk.
    """

    bag_id: str
    label: str
    answers: tuple[Answer, ...]
    spread: float


@dataclass(frozen=True)
class Disagreements:
    """The disagreements on one target.

    Attributes:
        summary: How many there are, in words.
        cases: The cases, the largest spread first.
        spread_title: Meaning of the spread.
        num_all: Number of cases with another predicted class; of all bags for numbers.
    """

    summary: str
    cases: tuple[Disagreement, ...]
    spread_title: str
    num_all: int


def disagreements_of(part: Part, names: Sequence[str]) -> Disagreements | None:
    """Return the disagreements on one target; `None` for a target of your own whose predictions are no classes or numbers.

    Args:
        part: The target.
        names: Name of each run.
    """
    outcomes = part.outcomes
    if not part.bag_ids:
        return None
    if all(isinstance(each, EvaluatedBags) for each in outcomes):
        return _of_classes(part, outcomes, names)
    if all(isinstance(each, EvaluatedNumbers) for each in outcomes):
        return _of_numbers(part, outcomes)
    if all(isinstance(each, EvaluatedTimes) for each in outcomes):
        return _of_times(part, outcomes)
    return None


def _of_classes(part: Part, outcomes: Sequence[EvaluatedBags], names: Sequence[str]) -> Disagreements:
    """Return the bags with another predicted class."""
    predicted = np.stack([each.predicted for each in outcomes])
    rows = np.flatnonzero((predicted != predicted[0]).any(axis=0))
    labels, everything = outcomes[0].labels, np.arange(len(part.bag_ids))
    of_truth = np.stack([each.probabilities[everything, labels] for each in outcomes])
    spread = np.ptp(of_truth, axis=0)
    order = rows[np.argsort(-spread[rows], kind="stable")]
    cases = []
    for row in order[:MAX_CASES].tolist():
        answers = tuple(_class_in_words(part, each, row) for each in outcomes)
        cases.append(Disagreement(part.bag_ids[row], part.class_names[labels[row]], answers, float(spread[row])))
    summary = f"The predicted class differs between runs for {len(rows):,} of {len(part.bag_ids):,} bags"
    correct = [each.correct for each in outcomes]
    for name, right in zip(names[1:], correct[1:], strict=True):
        summary += f". {_counts_in_words(names[0], correct[0], name, right, outcomes[0].groups is None)}"
    return Disagreements(summary + ".", tuple(cases), "Spread of P(true class)", len(rows))


def _counts_in_words(
    first: str, right: NDArray[np.bool_], other: str, right_too: NDArray[np.bool_], independent: bool
) -> str:
    """Return on how many bags each of two runs is right, with McNemar's test if bags are independent."""
    words = (
        f"{first} and {other} are both correct on {int((right & right_too).sum()):,} bags and both wrong on "
        f"{int((~right & ~right_too).sum()):,}; only {first} is correct on {int((right & ~right_too).sum()):,}, only "
        f"{other} on {int((right_too & ~right).sum()):,}"
    )
    if not independent:
        return words
    p_value = exact_mcnemar(right, right_too)
    return f"{words} (McNemar's exact test, p {'< 0.001' if p_value < 0.001 else f'= {p_value:.3f}'})"


def _class_in_words(part: Part, outcomes: EvaluatedBags, row: int) -> Answer:
    """Return the predicted class of a bag with the probability by which a reader can judge it."""
    predicted, positive = int(outcomes.predicted[row]), outcomes.positive_class
    shown = predicted if positive is None else positive
    return Answer(
        f"{part.class_names[predicted]}, P({part.class_names[shown]}) {outcomes.probabilities[row, shown]:.3f}",
        bool(outcomes.correct[row]),
    )


def _of_numbers(part: Part, outcomes: Sequence[EvaluatedNumbers]) -> Disagreements:
    """Return the bags whose predicted numbers are furthest apart, in standard deviations of the true numbers."""
    answers, labels = np.stack([each.answers for each in outcomes]), outcomes[0].labels
    scale = labels.std(axis=0)
    scale[scale == 0] = 1.0
    spread = (np.ptp(answers, axis=0) / scale).max(axis=1)
    names = outcomes[0].names

    def in_words(values: NDArray[np.float64]) -> str:
        if len(names) == 1:
            return f"{values[0]:.4g}"
        return ", ".join(f"{name} {value:.4g}" for name, value in zip(names, values, strict=True))

    cases = [
        Disagreement(
            part.bag_ids[row],
            in_words(labels[row]),
            tuple(Answer(in_words(each[row])) for each in answers),
            float(spread[row]),
        )
        for row in _furthest(spread)
    ]  # fmt: skip
    return Disagreements(
        _median_in_words(spread, "standard deviations of the true numbers"), tuple(cases), "Spread [SD]", len(spread)
    )


def _of_times(part: Part, outcomes: Sequence[EvaluatedTimes]) -> Disagreements:
    """Return the bags whose ranks of risk are furthest apart: risks of two networks have no common unit."""
    ranks = np.stack([np.argsort(np.argsort(each.risk, kind="stable"), kind="stable") + 1.0 for each in outcomes])
    ranks /= len(part.bag_ids)
    spread = np.ptp(ranks, axis=0)
    first, unit = outcomes[0], getattr(part.targets[0], "unit", "")
    cases = [
        Disagreement(
            part.bag_ids[row],
            f"{'event' if first.event[row] else 'censored'} at {first.time[row]:.4g} {unit}".strip(),
            tuple(
                Answer(f"risk {each.risk[row]:.3f}, rank {rank[row]:.0%}")
                for each, rank in zip(outcomes, ranks, strict=True)
            ),
            float(spread[row]),
        )
        for row in _furthest(spread)
    ]  # fmt: skip
    words = "of the range of ranks; rank 100% has the highest risk"
    return Disagreements(_median_in_words(spread, words), tuple(cases), "Spread of ranks", len(spread))


def _furthest(spread: NDArray[np.float64]) -> list[int]:
    """Return the rows with the largest spread."""
    order = np.argsort(-spread, kind="stable")[:NUM_FURTHEST]
    return [int(row) for row in order if spread[row] > 0]


def _median_in_words(spread: NDArray[np.float64], unit: str) -> str:
    """Return how far predictions are apart over all bags."""
    middle, high = np.quantile(spread, [0.5, 0.9])
    return (
        f"For half of {len(spread):,} bags the predictions are at most {middle:.2g} apart, for nine in ten at most "
        f"{high:.2g}, {unit}."
    )
