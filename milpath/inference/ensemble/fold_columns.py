"""Columns of `predictions.csv` on the folds of an average: how far they differ."""

import json
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from milpath.models.checkpoint import Card
from milpath.targets import NumericTarget, Target, target_of

SPREAD, AGREEMENT = "fold_spread", "attention_agreement"
# A JSON list for each fold with its predictions, in the order of the columns of the predictions.
EACH = "fold_predictions"


def fold_columns(card: Card) -> tuple[str, ...]:
    """Return the columns: `fold_spread` of classes or `fold_spread_<name>` of each number, and `attention_agreement`.

    Of several targets each has its name and a slash before its columns.
    """
    found = []
    for prefix, target, _, _ in _targets(card):
        own = [SPREAD] if target.has_classes else [f"{SPREAD}_{name}" for name in _numbers(target)]
        found += [f"{prefix}{name}" for name in own]
    return (*found, AGREEMENT)


def fold_cells(
    card: Card, each: NDArray[np.float64] | None, agreement: float | None, predicted: Sequence[str]
) -> list[str]:
    """Return the cells of `fold_columns`; none of one network.

    A spread is the standard deviation (n - 1) between the folds; that of a time which some fold does not reach is empty.

    Args:
        card: The card of the folds.
        each: `(folds, columns)` predictions of each fold; `None` of one network.
        agreement: Mean rank correlation of the attention of pairs of folds; `None` for a single tile.
        predicted: Name of the predicted class, of whose probability the spread is given, of each target with classes.
    """
    if each is None:
        return []
    spread, calls = each.std(axis=0, ddof=1), iter(predicted)
    cells = []
    for _, target, names, columns in _targets(card):
        own = spread[columns]
        chosen = [list(names).index(next(calls))] if target.has_classes else range(len(_numbers(target)))
        own = own[list(chosen)]
        cells += ["" if np.isnan(value) else f"{value:.9g}" for value in own]
    return [*cells, "" if agreement is None or np.isnan(agreement) else f"{agreement:.9g}"]


def _targets(card: Card) -> Iterator[tuple[str, Target, Sequence[str], slice]]:
    """Yield prefix, target, names and columns of the predictions of the only target, or of each of several."""
    target, start = target_of(card), 0
    members = getattr(target, "members", None)
    if members is None:
        yield "", target, card.class_names, slice(None)
        return
    for member in members:
        columns = slice(start, start + len(member.answer_columns))
        yield f"{member.name}/", member.target, member.class_names, columns
        start = columns.stop


def _numbers(target: Target) -> Sequence[str]:
    """Return the names of the numbers that have a spread."""
    assert isinstance(target, NumericTarget)
    return target.spread_names


def each_as_cell(each: NDArray[np.float64]) -> str:
    """Return the predictions of each fold, `(folds, columns)`, as a JSON list of lists; null where one is not defined."""
    return json.dumps([[None if np.isnan(value) else float(f"{value:.9g}") for value in row] for row in each.tolist()])


def each_of_cells(cells: Sequence[str]) -> NDArray[np.float64]:
    """Return `(bags, folds, columns)` of cells of `each_as_cell`."""
    return np.array([json.loads(cell) for cell in cells], dtype=np.float64)
