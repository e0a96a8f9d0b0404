"""Prediction sets of a run: fitted on its validation split, measured on the others."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from milpath.data.datamodule import BagDataModule
from milpath.inference.ensemble.fold_columns import fold_cells, fold_columns
from milpath.metrics.conformal import FITTED_ON, fit_conformal, measure_sets, set_metrics
from milpath.models.card import Card
from milpath.records.prediction_table import Predictions
from milpath.targets import target_of
from milpath.targets.set_parts import set_parts, state_of_sets
from milpath.targets.shown_sets import set_columns, set_rows, shown_parts
from milpath.targets.target import Target


def require_sets(config: DictConfig, datamodule: BagDataModule) -> None:
    """Refuse prediction sets that cannot be fitted, before the training rather than after it.

    Args:
        config: Root of the `train` command.
        datamodule: The data, after `setup`.

    Raises:
        ValueError: If the coverage is out of range, or the target or the data do not allow it.
    """
    wished = config.get("decision") or {}
    if (coverage := wished.get("coverage")) is None:
        return
    require_set_options(datamodule.fitted_target, coverage, bool(wished.get("coverage_by_class")))
    if "val" not in datamodule.splits:
        raise ValueError(
            "decision.coverage is fitted on the validation split, which is empty; set data.val_fraction, or remove it"
        )


def require_set_options(target: Target, coverage: float, by_class: bool) -> None:
    """Refuse a coverage out of range, or sets that a target does not have.

    Raises:
        ValueError: In one line, with what to type.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"decision.coverage={coverage:g} must be above 0 and below 1, such as 0.9")
    if not set_parts(target, ()):
        raise ValueError(
            f"prediction sets are not available for a {target.name} task: {target.without_sets}; remove decision.coverage"
        )
    if by_class and not any(part.target.has_classes for part in set_parts(target, ())):
        raise ValueError(f"a {target.name} task has no classes; remove decision.coverage_by_class")


def fitted_sets(
    predictions: Predictions,
    card: Card,
    groups: dict[str, str] | None,
    coverage: float,
    by_class: bool,
    aggregate: str | None = None,
) -> dict[str, Any]:
    """Return the state of prediction sets fitted on the validation split.

    Args:
        predictions: As the checkpoint shows them: with its temperature, or numbers.
        card: The card of the checkpoint.
        groups: Bag to group (patient), of which each counts once; `None` if all bags are independent.
        coverage: Wanted coverage in (0, 1).
        by_class: Whether it holds within each class.
        aggregate: How predictions of slides became those of these patients; `None` if they did not.
    """
    target = target_of(card)
    require_set_options(target, coverage, by_class)
    validation, of_bags = predictions.of_split("val"), {}
    answers, groups_of = validation.probabilities.astype(np.float64), _groups(validation, groups)
    for part in set_parts(target, card.class_names):
        rows, labels = part.known(validation.labels)
        if part.name and not len(rows):
            raise ValueError(
                f"prediction sets need validation bags with a label of the target {part.name!r}, but there are none; set "
                "data.val_fraction, or remove decision.coverage"
            )
        fitted = fit_conformal(
            labels, part.of(answers[rows]), str(part.target.set_kind), coverage, by_class and part.target.has_classes,
            None if groups_of is None else groups_of[rows],
        )  # fmt: skip
        of_bags[part.name] = replace(fitted, aggregate=aggregate)
    return state_of_sets(of_bags)


def measured_sets(
    predictions: Predictions, card: Card, groups: dict[str, str] | None, aggregate: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return split to coverage and size of the prediction sets; empty for a card without, or for the split of the fit."""
    parts, values = shown_parts(card, aggregate), dict[str, dict[str, Any]]()
    for split in dict.fromkeys(predictions.splits):
        if split in FITTED_ON or not parts:
            continue
        own, values[split] = predictions.of_split(split), {}
        answers, of_bags = own.probabilities.astype(np.float64), _groups(own, groups)
        for part in parts:
            assert part.sets is not None
            rows, labels = part.known(own.labels)
            each = None if own.each is None else part.of(own.each[rows])
            chosen = None if of_bags is None else of_bags[rows]
            found = set_metrics(measure_sets(part.sets, labels, part.of(answers[rows]), part.names, chosen, each))
            values[split] |= {f"{part.prefix}{name}": value for name, value in found.items()}
    return values


def with_set_columns(predictions: Predictions, card: Card, aggregate: str | None) -> Predictions:
    """Return the predictions with the columns of prediction sets, and of the folds of an average."""
    answers = predictions.probabilities.astype(np.float64)
    rows = set_rows(card, answers, aggregate, predictions.each)
    columns = set_columns(card, aggregate)
    if predictions.each is not None:
        columns = (*columns, *fold_columns(card))
        agreement = np.full(len(predictions), np.nan) if predictions.agreement is None else predictions.agreement
        for row, cells in enumerate(rows):
            called = list(predictions.calls[row][::2]) if predictions.call_columns else []
            if not predictions.answer_columns:
                called = [card.class_names[predictions.predicted_labels[row]]]
            cells += fold_cells(card, predictions.each[row], float(agreement[row]), called)
    return replace(predictions, further_columns=columns, further=rows) if columns else predictions


def _groups(part: Predictions, groups: dict[str, str] | None) -> NDArray[np.str_] | None:
    """Return the group of each bag."""
    return None if groups is None else np.array([str(groups[name]) for name in part.bag_ids])
