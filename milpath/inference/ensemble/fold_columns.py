"""Columns of `predictions.csv` on the folds of an average: how far they differ."""

from milpath.inference.predict_bags import BagPrediction
from milpath.models.checkpoint import Card
from milpath.targets import target_of

SPREAD, AGREEMENT = "fold_spread", "attention_agreement"


def fold_columns(card: Card) -> tuple[str, ...]:
    """Return the columns: `fold_spread` (or `fold_spread_<name>` of each number) and `attention_agreement`."""
    if target_of(card).has_classes:
        return SPREAD, AGREEMENT
    return (*(f"{SPREAD}_{name}" for name in card.class_names), AGREEMENT)


def fold_cells(card: Card, bag: BagPrediction, predicted: str) -> list[str]:
    """Return the cells of `fold_columns`; none of one network.

    Args:
        card: The card of the folds.
        bag: The prediction.
        predicted: Name of the predicted class, of whose probability the spread is given; empty without classes.
    """
    if bag.spread is None:
        return []
    chosen = bag.spread if not predicted else bag.spread[[card.class_names.index(predicted)]]
    return [*(f"{value:.9g}" for value in chosen), "" if bag.agreement is None else f"{bag.agreement:.9g}"]
