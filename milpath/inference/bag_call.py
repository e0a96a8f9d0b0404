"""What is decided on a bag, and the cells that say it beside its probabilities: once for tables, pictures and arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from torch import nn

from milpath.inference.ensemble import Predictor
from milpath.inference.ensemble.fold_columns import EACH, each_as_cell, fold_cells, fold_columns
from milpath.inference.predict_bags import BagPrediction
from milpath.models.card import Card
from milpath.models.familiarity import joined, say_unknown
from milpath.models.stains import unchanged_note
from milpath.records.data_warning import UNFAMILIAR_COLUMNS, unfamiliar_cells
from milpath.targets import NumericTarget, Target, target_of
from milpath.targets.decision import Decision, decide, deferred_cells, say_other_decision
from milpath.targets.shown_sets import say_about_sets, set_cells, set_columns


class BagCall(NamedTuple):
    """The call of a bag.

    Attributes:
        predicted: Name of the predicted class; empty without classes.
        defer: Whether the bag is referred to a person.
        calls: Cells of `BagCaller.call_columns`.
        further: Cells of `BagCaller.further_columns`.
    """

    predicted: str
    defer: bool
    calls: Sequence[str]
    further: Sequence[str]


@dataclass(frozen=True)
class BagCaller:
    """The operating point of a network, its prediction sets, and what its folds and familiar slides say of a bag.

    Attributes:
        predictor: The network, or the folds of a cross-validation.
    """

    predictor: Predictor

    @classmethod
    def of_card(cls, card: Card) -> Self:
        """Return what calls the answers of a network that is elsewhere, such as in a container."""
        return cls(Predictor(nn.Identity(), card, "", "", familiarity=joined([card.familiar])))

    @cached_property
    def target(self) -> Target:
        """The target of the network."""
        return target_of(self.predictor.card)

    @cached_property
    def answer_columns(self) -> Sequence[str]:
        """Names of the predicted numbers of a target without classes; empty with classes."""
        return self.target.answer_columns if isinstance(self.target, NumericTarget) else ()

    @cached_property
    def call_columns(self) -> Sequence[str]:
        """Columns of predicted classes and deferrals of several targets; empty for a target alone."""
        return self.target.call_columns if isinstance(self.target, NumericTarget) else ()

    @cached_property
    def further_columns(self) -> Sequence[str]:
        """Columns of prediction sets, of the spread of folds and of unfamiliar slides."""
        predictor = self.predictor
        return (
            *set_columns(predictor.card),
            *((*fold_columns(predictor.card), EACH) if predictor.folds else ()),
            *(UNFAMILIAR_COLUMNS if predictor.familiarity else ()),
        )

    def cells(self, call: BagCall) -> dict[str, str]:
        """Return the further columns of `predictions.csv` and their cells: all but probabilities, class and deferral."""
        return dict(zip((*self.call_columns, *self.further_columns), (*call.calls, *call.further), strict=True))

    def notes(self, aggregate: str | None = None) -> list[str]:
        """Return what a reader of the predictions has to know, in lines, once all bags are predicted.

        Args:
            aggregate: How the predictions of slides became those of patients; `None` for bags as they are.
        """
        card, network = self.predictor.card, self.predictor.network
        lines = (
            say_other_decision(card, card.data.get("aggregate"), aggregate),
            say_about_sets(card, aggregate),
            unchanged_note(network),
            say_unknown() if self.predictor.familiarity is None else "",
        )
        return [line for line in lines if line]

    @cached_property
    def _decision(self) -> Decision:
        return Decision.of_card(self.predictor.card)

    def __call__(self, bag: BagPrediction) -> BagCall:
        """Return the call of a bag; one that is unfamiliar is referred, however certain the network is."""
        card, target = self.predictor.card, self.target
        predicted, defer, calls = "", bag.unfamiliar or self._decision.defer_all, self.call_columns
        if isinstance(target, NumericTarget):
            calls = deferred_cells(calls, target.calls(bag.probabilities), bag.unfamiliar)
        else:
            decided = decide(bag.probabilities[None].astype(np.float64), card.task, self._decision, bag.unfamiliar)
            predicted, defer = card.class_names[decided.predicted[0]], bool(decided.deferred[0])
        further = [
            *set_cells(card, bag.probabilities, each=bag.each),
            *fold_cells(card, bag.each, bag.agreement, [predicted] if target.has_classes else calls[::2]),
            *([] if bag.each is None else [each_as_cell(bag.each)]),
            *([] if bag.unfamiliarity is None else unfamiliar_cells(bag.unfamiliarity)),
        ]
        return BagCall(predicted, defer, calls, further)
