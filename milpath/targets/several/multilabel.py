"""Multilabel target: several yes/no columns, of which any number may be yes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from milpath.metrics.evaluated_several import MACRO
from milpath.targets.several.several import Several
from milpath.targets.target import Array

_MEANS = ("auroc", "average_precision", "brier", "balanced_accuracy", "f1")


class Multilabel(Several):
    """One logit and one sigmoid for each of several columns; the loss is the sum of their binary cross-entropies.

    All that holds for `Several` holds for it. `macro_auroc` and so on are means over the columns; they are undefined if
    one of them is.

    Args:
        columns: Columns of the label table, each with two classes or empty cells.
        class_names: Names of the two classes of all columns, the second being the one to detect; `None` uses the numbers 0
            and 1, or the sorted words of each column.
        weights: Column to the weight of its loss, > 0; 1 where there is none.

    Raises:
        ValueError: If there are no columns or an option is invalid.

    Example:
        >>> Multilabel(["egfr", "kras"], ["wild type", "mutated"]).answer_columns
        ('egfr/probability_wild type', 'egfr/probability_mutated', 'kras/probability_wild type', 'kras/probability_mutated')
    """

    name = "multilabel"

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        given = [str(column) for column in columns or ()]
        if len(set(given)) < len(given):
            raise ValueError(f"target.columns is {given}; give each column once")
        super().__init__({name: {"task": "binary", "class_names": class_names} for name in given}, weights)
        self.members = tuple(replace(member, option="target.class_names") for member in self.members)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The means over the columns, then the metrics of each."""
        return (*(MACRO + name for name in _MEANS), *super().metric_names)

    @property
    def headline(self) -> tuple[str, ...]:
        """The means over the columns."""
        return tuple(MACRO + name for name in _MEANS[:4])

    @property
    def subgroup_metrics(self) -> tuple[str, ...]:
        """The mean AUROC, and that of each column."""
        return (f"{MACRO}auroc", *super().subgroup_metrics)

    def _over_members(self, values: Mapping[str, float | None]) -> dict[str, float | None]:
        means: dict[str, float | None] = {}
        for name in _MEANS:
            known = [value for each in self.names if (value := values[f"{each}/{name}"]) is not None]
            means[MACRO + name] = float(np.mean(known)) if known and len(known) == len(self.names) else None
        return means

    def defined_metrics(self, labels: Array) -> tuple[str, ...]:
        defined = super().defined_metrics(labels)
        means = [MACRO + name for name in _MEANS if all(f"{each}/{name}" in defined for each in self.names)]
        return (*means, *defined)
