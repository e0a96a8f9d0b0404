"""Cross-conformal prediction: sets and intervals of the average of several networks, from the bags that each did not see."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from milpath.metrics.conformal.conformity_scores import (
    NUMBERS,
    ROUNDING,
    TIED,
    class_scores,
    ends_of,
    fewest_groups,
    ordered_ends,
    say_too_few,
    share_weights,
    weighted_quantile,
)
from milpath.metrics.conformal.prediction_sets import Array, Flags, completed, is_count, is_number, scores_by_part
from milpath.records.plain_values import brief

# A state is untrusted: longer lists of scores are refused.
MAX_SCORES = 10_000_000


class FoldScores(NamedTuple):
    """Validation bags of one network, which it was not trained on.

    Attributes:
        labels: `(bags,)` classes, or `(bags, numbers)`.
        answers: `(bags, classes)` probabilities of this network, `(bags, numbers)`, or `(bags, 2 numbers)` quantiles.
        groups: `(bags,)` patient of each bag; `None` if all bags are independent.
    """

    labels: NDArray[Any]
    answers: Array
    groups: NDArray[Any] | None = None


@dataclass(frozen=True)
class CrossConformal:
    """Scores of the validation bags of each of several networks, which turn their predictions into sets or intervals.

    A bag is compared with the validation bags of each network by the prediction of that network, which saw neither. With
    weights `w_i = 1 / (n + 1)` for n validation bags of all networks, a class y is in the set if
    `sum_i w_i 1[s_i < s_k(i)(x, y)]` is below the coverage, `s_k` the score by network k and k(i) the network that bag i
    validated. An interval goes from the weighted quantile of `low_k(i)(x) - s_i` to that of `high_k(i)(x) + s_i` (CV+). With
    one network both are split conformal prediction (`Conformal`). Several bags of a patient share one weight in each
    network; a bag that several networks did not see counts for each of them.

    The coverage is at least `promise`, whatever the networks and however the validation splits overlap: the set leaves the
    truth out if a weighted mean of K valid p-values is at most alpha', and twice such a mean is a p-value. In practice it is
    about the coverage that was asked for.

    Attributes:
        kind: As in `Conformal`.
        coverage: As in `Conformal`.
        by_class: As in `Conformal`.
        scores: Score of the truth of each validation bag by the network that did not see it.
        folds: Network of each score, from 0.
        parts: Class (with `by_class`) or number of each score; 0 otherwise.
        weights: Weight of each score.
        num_folds: Number of networks.
        num_groups: Independent validation bags, or patients, over all networks: of each class or number, or of all.
        num_bags: Number of validation bags, one in several networks counting for each.
        aggregate: As in `Conformal`.

    References:
        Barber, Candes, Ramdas, Tibshirani. Predictive inference with the jackknife+. Annals of Statistics 2021, theorem 4.
        Romano, Sesia, Candes. Classification with valid and adaptive coverage. NeurIPS 2020, section 2.4 (classes).
        Vovk. Cross-conformal predictors. Annals of Mathematics and Artificial Intelligence 74, 2015.
        Vovk, Wang. Combining p-values via averaging. Biometrika 107, 2020.
    """

    kind: str
    coverage: float
    by_class: bool
    scores: tuple[float, ...]
    folds: tuple[int, ...]
    parts: tuple[int, ...]
    weights: tuple[float, ...]
    num_folds: int
    num_groups: tuple[int, ...]
    num_bags: int
    aggregate: str | None = None

    @property
    def promise(self) -> float:
        """The coverage that holds in theory, `1 - 2 alpha - 2 (1 - alpha) (K - 1) / (n + K)` or 0, of the smallest part."""
        alpha, folds = 1 - self.coverage, self.num_folds
        slack = 2 * (1 - alpha) * (folds - 1) / (min(self.num_groups) + folds)
        return max(0.0, 1 - 2 * alpha - slack) if folds > 1 else self.coverage

    def sets(self, probabilities: Array, each: Array | None = None) -> Flags:
        """Return whether each class is in the set of each bag, `(bags, classes)`.

        Args:
            probabilities: `(bags, classes)` of the average; a set always holds its most probable class.
            each: `(bags, networks, classes)`.
        """
        each = self._required(each)
        wanted = np.stack([class_scores(each[:, fold], self.kind) for fold in range(self.num_folds)], axis=1)
        below = np.zeros(probabilities.shape)
        for part in range(probabilities.shape[1]):
            for fold, own in self._of_part(part if self.by_class else 0):
                order = np.argsort(own.scores)
                reached = np.concatenate([[0.0], np.cumsum(own.weights[order])])
                below[:, part] += reached[np.searchsorted(own.scores[order], wanted[:, fold, part] - TIED, side="left")]
        return completed(below < self.coverage - ROUNDING, probabilities, self.kind)

    def intervals(self, answers: Array, each: Array | None = None) -> tuple[Array, Array]:
        """Return lower and upper ends, each `(bags, numbers)`; NaN if an interval has no end.

        Args:
            answers: `(bags, numbers)` or `(bags, 2 numbers)` of the average; an interval holds the middle of its ends.
            each: `(bags, networks, numbers)` or `(bags, networks, 2 numbers)`.
        """
        each, count = self._required(each), len(self.num_groups)
        lows, highs = ends_of(each, count)
        found = np.full((2, len(answers), count), np.nan)
        for part in range(count):
            parts = list(self._of_part(part))
            weights = np.concatenate([own.weights for _, own in parts])
            for bag in range(len(answers)):
                low = np.concatenate([own.scores - lows[bag, fold, part] for fold, own in parts])
                high = np.concatenate([own.scores + highs[bag, fold, part] for fold, own in parts])
                ends = weighted_quantile(low, weights, self.coverage), weighted_quantile(high, weights, self.coverage)
                if None not in ends:
                    found[:, bag, part] = -float(ends[0] or 0), float(ends[1] or 0)
        low, high = ordered_ends(found[0], found[1])
        middle = sum(ends_of(answers, count)) / 2
        return np.minimum(low, middle), np.maximum(high, middle)

    def covered(self, labels: NDArray[Any], answers: Array, each: Array | None = None) -> Flags:
        """Return whether each set holds the truth, `(bags,)`, or each interval, `(bags, numbers)`."""
        if self.kind != NUMBERS:
            return np.asarray(self.sets(answers, each)[np.arange(len(labels)), labels])
        low, high = self.intervals(answers, each)
        return np.asarray(np.isnan(low) | ((low <= labels) & (labels <= high)))

    def state(self) -> dict[str, Any]:
        """Return plain values."""
        state = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in state.items() if name != "aggregate" or value is not None}

    @classmethod
    def of_state(cls, state: Mapping[str, Any], kind: str | None, num_columns: int) -> Self:
        """Return the sets of a state; arguments as in `Conformal.of_state`.

        Raises:
            ValueError: If a value is missing or invalid, or does not fit the target.
        """
        num_parts = num_columns if kind == NUMBERS or state.get("by_class") is True else 1
        names = ("scores", "folds", "parts", "weights", "num_groups")
        lists: dict[str, Any] = {name: state.get(name) for name in names}
        num_folds: Any = state.get("num_folds")
        length = len(lists["scores"]) if isinstance(lists["scores"], list | tuple) else 0
        sound = {
            "kind": kind is not None and state.get("kind") == kind,
            "coverage": is_number(state.get("coverage")) and 0 < state["coverage"] < 1,
            "by_class": isinstance(state.get("by_class"), bool),
            "num_folds": is_count(num_folds) and num_folds > 0,
            "num_bags": is_count(state.get("num_bags")),
            "aggregate": state.get("aggregate") in (None, "mean", "max"),
        }
        for name, values in lists.items():
            wanted = num_parts if name == "num_groups" else length
            sound[name] = isinstance(values, list | tuple) and len(values) == wanted <= MAX_SCORES
            sound[name] = sound[name] and all(map(is_number if name in ("scores", "weights") else is_count, values))
        for name, bound in (("folds", num_folds), ("parts", num_parts)):
            sound[name] = bool(sound[name] and sound["num_folds"] and max(lists[name], default=0) < bound)
        if wrong := next((name for name, good in sound.items() if not good), None):
            raise ValueError(f"{wrong} in conformal of the card is {brief(state.get(wrong))}, which is invalid here")
        scores, folds, parts, weights, num_groups = (tuple(lists[name]) for name in names)
        return cls(
            state["kind"], float(state["coverage"]), state["by_class"], scores, folds, parts, weights, num_folds,
            num_groups, state["num_bags"], state.get("aggregate"),
        )  # fmt: skip

    def too_small(self, names: Sequence[str]) -> str:
        """Return a sentence on sets that hold everything, for too few validation bags; empty if there are none.

        Args:
            names: Names of the classes or numbers.
        """
        missing = [place for place, count in enumerate(self.num_groups) if count < fewest_groups(self.coverage)]
        return say_too_few(self.coverage, self.by_class, self.kind == NUMBERS, names, self.num_groups, missing)

    def _required(self, each: Array | None) -> Array:
        """Refuse predictions of another number of networks."""
        if each is None or each.ndim != 3 or each.shape[1] != self.num_folds:
            found = None if each is None else each.shape
            raise ValueError(
                f"these sets need predictions (bags, {self.num_folds}, columns) of each network, got {found}"
            )
        return each

    def _of_part(self, part: int) -> list[tuple[int, "_Own"]]:
        """Return the scores of a class or number by network."""
        scores, weights = np.asarray(self.scores), np.asarray(self.weights)
        chosen = np.asarray(self.parts) == part
        folds = np.asarray(self.folds)
        rows = [(fold, chosen & (folds == fold)) for fold in range(self.num_folds)]
        return [(fold, _Own(scores[own], weights[own])) for fold, own in rows]


class _Own(NamedTuple):
    scores: Array
    weights: Array


def fit_cross_conformal(
    folds: Sequence[FoldScores], kind: str, coverage: float, by_class: bool = False, num_parts: int = 1
) -> CrossConformal:
    """Fit the sets or intervals of several networks on their validation bags, never on a test split.

    Args:
        folds: Validation bags of each network, as many or few as it has.
        kind: As in `fit_conformal`.
        coverage: As in `fit_conformal`.
        by_class: As in `fit_conformal`.
        num_parts: Number of classes or numbers.

    Raises:
        ValueError: As in `fit_conformal`.
    """
    if not any(len(fold.labels) for fold in folds):
        scores_by_part(np.zeros(0, np.int64), np.zeros((0, num_parts)), kind, coverage, by_class)  # raises
    num_parts = num_parts if by_class or kind == NUMBERS else 1
    found: list[list[Any]] = [[] for _ in range(num_parts)]
    for number, fold in enumerate(folds):
        if not len(fold.labels):
            continue
        names = np.arange(len(fold.labels)) if fold.groups is None else np.unique(fold.groups, return_inverse=True)[1]
        parts = scores_by_part(fold.labels, fold.answers, kind, coverage, by_class)
        for part, (rows, scores) in enumerate(parts):
            found[part] += [
                (score, number, part, name) for score, name in zip(scores, names.reshape(-1)[rows], strict=True)
            ]
    weights, sizes = [], []
    for rows_of_part in found:
        patients = np.array([f"{number}/{name}" for _, number, _, name in rows_of_part], dtype=np.str_)
        own, size = share_weights(patients) if len(patients) else (np.zeros(0), 0)
        weights += own.tolist()
        sizes.append(size)
    everything = [row for rows_of_part in found for row in rows_of_part]
    return CrossConformal(
        kind, float(coverage), by_class, tuple(float(row[0]) for row in everything), tuple(row[1] for row in everything),
        tuple(row[2] for row in everything), tuple(weights), len(folds), tuple(sizes),
        sum(len(fold.labels) for fold in folds),
    )  # fmt: skip
