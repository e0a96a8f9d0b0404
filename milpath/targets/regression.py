"""Regression target: one or more numbers, such as an age, a score or an expression level."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from milpath.metrics.conformal import NUMBERS
from milpath.metrics.evaluated_numbers import EvaluatedNumbers, evaluated_numbers
from milpath.metrics.intervals import Interval
from milpath.metrics.number_metrics import NUMBER_METRICS, WITHOUT_UNIT
from milpath.metrics.quantile_metrics import QUANTILE_METRICS
from milpath.records.plain_values import brief
from milpath.targets.numeric_target import NumericTarget, numbers_of_state
from milpath.targets.quantiles import (
    coverage_in_words,
    logits_of_quantiles,
    outer_quantiles,
    pinball_losses,
    quantiles_of,
    require_levels,
)
from milpath.targets.target import Array

LOSSES = ("huber", "squared")
NUM_STRATA = 4


class Regression(NumericTarget):
    """One logit `z` per number; the prediction is `mean + scale * z` with mean and scale of the training split.

    Loss of a bag, with `r = z - (y - mean) / scale` for each number, averaged over the numbers:

    - squared: `r^2 / 2`;
    - Huber: `r^2 / 2` if `|r| <= delta`, otherwise `delta (|r| - delta / 2)`, which outliers affect less.

    With quantiles each number has one more logit per level, and the pinball loss of the quantiles, a mean over them in
    standard deviations, is added. Quantiles cannot cross (`milpath.targets.quantiles`).

    Args:
        columns: Columns of the label table; `None` means `data.label_column`.
        units: Unit of each column, shown with the predictions; `None` if unknown.
        loss: "huber" or "squared".
        delta: Where the Huber loss becomes linear, in standard deviations of the training labels; > 0.
        mean: Mean of each column over the training split; `None` until it is fitted.
        scale: Standard deviation of each column over the training split; `None` until it is fitted.
        quantiles: Levels of the predicted quantiles, ascending, between 0 and 1; `None` predicts none.

    Raises:
        ValueError: If an option is unknown or out of range.

    References:
        Huber. Robust estimation of a location parameter. Annals of Mathematical Statistics 35, 1964.

    Example:
        >>> import torch
        >>> target = Regression(["age"]).fitted_on(np.array([[50.0], [70.0]]))
        >>> target.answers(torch.tensor([[0.5]])).tolist()
        [[65.0]]
    """

    name = "regression"
    wrongness_title = "Error"
    set_kind = NUMBERS
    fitted_names = ("mean", "scale")

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        units: Sequence[str] | None = None,
        loss: str = "huber",
        delta: float = 1.0,
        mean: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        quantiles: Sequence[float] | None = None,
    ) -> None:
        self.columns = tuple(map(str, columns or ()))
        self._units = tuple(map(str, units or ()))
        self.loss, self.delta, self.mean, self.scale = loss, delta, mean, scale
        self.levels = require_levels(quantiles)
        if loss not in LOSSES:
            raise ValueError(f"target.loss is {brief(loss)}; it must be one of {', '.join(LOSSES)}")
        if isinstance(delta, bool) or not isinstance(delta, int | float) or not 0 < delta < np.inf:
            raise ValueError(f"target.delta is {brief(delta)}; it must be a positive number")
        if len(set(self.columns)) < len(self.columns) or not all(name.strip() for name in self.columns):
            raise ValueError(f"target.columns is {list(self.columns)}; give each column once")
        if self._units and len(self._units) != max(len(self.columns), 1):
            raise ValueError(f"target.units has {len(self._units)} units for {max(len(self.columns), 1)} columns")

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics; with several columns, means of those without a unit and all metrics of each column."""
        each = (*NUMBER_METRICS, *(QUANTILE_METRICS if self.levels else ()))
        if len(self.names) == 1:
            return each
        return (*WITHOUT_UNIT, *(f"{metric}_{name}" for name in self.names for metric in each))

    @property
    def headline(self) -> tuple[str, ...]:
        if len(self.names) > 1:
            return WITHOUT_UNIT
        return ("mae", "r2", "coverage" if self.levels else "pearson", "spearman")

    @property
    def subgroup_metrics(self) -> tuple[str, ...]:
        return ("mae", "r2", "spearman") if len(self.names) == 1 else WITHOUT_UNIT

    @property
    def names(self) -> tuple[str, ...]:
        return self.columns or ("value",)

    @property
    def label_columns(self) -> tuple[str, ...]:
        return self.names

    @property
    def answer_columns(self) -> tuple[str, ...]:
        quantiles = (f"predicted_{name}_q{level:g}" for name in self.names for level in self.levels)
        return (*(f"predicted_{name}" for name in self.names), *quantiles)

    @property
    def units(self) -> tuple[str, ...]:
        units = self._units or ("",) * len(self.names)
        return (*units, *(unit for unit in units for _ in self.levels))

    def columns_of_table(self, column: str | None, default: str) -> tuple[str, ...]:
        if len(self.columns) > 1 and column is not None:
            raise ValueError(
                f"data.label_column={column} is one column, but the target has {', '.join(self.columns)}; set "
                "data.label_column=null, and name the columns of the table as the target does"
            )
        return self.columns if len(self.columns) > 1 or (self.columns and column is None) else (column or default,)

    def named_after(self, columns: Sequence[str]) -> Self:
        return self if self.columns else type(self)(columns, self._units, self.loss, self.delta, quantiles=self.levels)

    @property
    def label_kinds(self) -> tuple[str, ...]:
        return ("number",) * len(self.names)

    def strata(self, labels: Array) -> NDArray[np.int64]:
        """Return the quarter of the first column to which each bag belongs."""
        ranks = np.argsort(np.argsort(labels[:, 0], kind="stable"), kind="stable")
        return np.asarray(ranks * NUM_STRATA // max(len(ranks), 1), dtype=np.int64)

    @property
    def strata_names(self) -> tuple[str, ...]:
        return tuple(f"quarter {number + 1} of {self.names[0]}" for number in range(NUM_STRATA))

    def require_trainable(self, labels: Array) -> None:
        for name, values in zip(self.names, labels.T, strict=True):
            if len(values) and np.ptp(values) <= 1e-12 * np.abs(values).max():
                raise ValueError(
                    f"all {len(values):,} training bags have {name} = {values[0]:g}: a constant cannot be learnt; choose "
                    "another column with data.label_column=NAME or target.columns=[NAME]"
                )

    def fitted_on(self, labels: NDArray[Any]) -> Self:
        self.require_trainable(labels)
        mean, scale = labels.mean(axis=0).tolist(), labels.std(axis=0).tolist()
        return type(self)(self.columns, self._units, self.loss, self.delta, mean, scale, self.levels)

    def state(self) -> dict[str, Any]:
        quantiles = {"quantiles": list(self.levels)} if self.levels else {}
        return quantiles | {
            "columns": list(self.names),
            "units": list(self._units),
            "loss": self.loss,
            "delta": float(self.delta),
            "mean": list(self.mean or ()),
            "scale": list(self.scale or ()),
        }

    def with_state(self, state: Mapping[str, Any]) -> Self:
        if missing := [name for name in ("columns", "units", "loss", "delta", "mean", "scale") if name not in state]:
            raise ValueError(f"target_state of the card lacks {', '.join(missing)}, which a regression task needs")
        for name in ("columns", "units"):
            if not isinstance(state[name], list | tuple) or not all(isinstance(each, str) for each in state[name]):
                raise ValueError(
                    f"{name} in target_state of the card must be a list of names, not {brief(state[name])}"
                )
        count = len(state["columns"])
        mean = numbers_of_state(state, "mean", count)
        scale = numbers_of_state(state, "scale", count, positive=True)
        quantiles = state.get("quantiles", ())
        if quantiles is None:
            raise ValueError("quantiles in target_state of the card must be a list of levels, not None")
        return type(self)(state["columns"], state["units"], state["loss"], state["delta"], mean, scale, quantiles)

    def num_outputs(self, num_classes: int) -> int:
        if num_classes != len(self.names):
            raise ValueError(
                f"a regression of {', '.join(self.names)} has {len(self.names)} numbers, not {num_classes}"
            )
        return num_classes * (1 + len(self.levels))

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        mean, scale = self._statistics(logits)
        wanted = ((labels.double() - mean) / scale).to(logits.dtype)
        centre, quantiles = self._split(logits)
        if self.loss == "squared":
            losses = F.mse_loss(centre, wanted, reduction="none") / 2
        else:
            losses = F.huber_loss(centre, wanted, reduction="none", delta=float(self.delta))
        if self.levels:
            losses = losses + pinball_losses(quantiles, wanted, self.levels).mean(2)
        return losses.mean(1)

    def answers(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        mean, scale = self._statistics(logits)
        centre, quantiles = self._split(logits.double())
        numbers = [mean + scale * centre]
        if self.levels:
            numbers.append((mean[:, None] + scale[:, None] * quantiles).flatten(1))
        return torch.cat(numbers, 1).to(logits.dtype)

    def map_names(self, class_names: Sequence[str]) -> Sequence[str]:
        """Return the names of the maps of a network that has one per logit."""
        return (*self.names, *(f"{name}_q{level:g}" for name in self.names for level in self.levels))

    def _split(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return standardised numbers `(bags, numbers)` and their quantiles `(bags, numbers, levels)`."""
        count = len(self.names)
        if not self.levels:
            return logits, logits[:, :0]
        return logits[:, :count], quantiles_of(logits[:, count:].unflatten(1, (count, len(self.levels))), self.levels)

    def logits_of(self, answers: Tensor) -> Tensor:
        (mean, scale), count, wide = self._statistics(answers), len(self.names), answers.double()
        centre = (wide[:, :count] - mean) / scale
        if not self.levels:
            return centre
        quantiles = (wide[:, count:].unflatten(1, (count, -1)) - mean[:, None]) / scale[:, None]
        return torch.cat([centre, logits_of_quantiles(quantiles, self.levels).flatten(1)], 1)

    def set_answers(self, answers: Array) -> Array:
        """Return the numbers, or all lowest and then all highest quantiles, `(..., numbers)` or `(..., 2 numbers)`."""
        return outer_quantiles(answers, len(self.names), len(self.levels)) if self.levels else answers

    def evaluate(
        self, labels: NDArray[Any], answers: Array, threshold: float = 0.5, groups: NDArray[np.str_] | None = None
    ) -> EvaluatedNumbers:
        count = len(self.names)
        if not self.levels:
            return evaluated_numbers(labels, answers, self.names, groups)
        answers = np.asarray(answers, dtype=np.float64)
        if answers.ndim != 2 or answers.shape[1] != len(self.answer_columns):
            raise ValueError(
                f"expected predictions (bags, {len(self.answer_columns)}) of {', '.join(self.answer_columns)}, got "
                f"{answers.shape}"
            )
        quantiles = answers[:, count:].reshape(len(answers), count, len(self.levels))
        if not np.isfinite(quantiles).all():
            raise ValueError("predicted quantiles must be finite")
        known = evaluated_numbers(labels, answers[:, :count], self.names, groups)
        return replace(known, quantiles=quantiles, levels=self.levels)

    def wrongness(self, outcomes: EvaluatedNumbers) -> Array:
        """Return the largest absolute error over the numbers of a bag, in the units of the labels if there is one."""
        scale = np.ones(len(self.names)) if len(self.names) == 1 or self.scale is None else np.asarray(self.scale)
        return np.asarray(np.abs(outcomes.residuals / scale).max(axis=1))

    def sentence(
        self, outcomes: EvaluatedNumbers, where: str, class_names: Sequence[str], intervals: Mapping[str, Interval]
    ) -> str:
        errors = np.abs(outcomes.residuals)
        parts = []
        for place, name in enumerate(self.names):
            low, high = np.quantile(errors[:, place], [0.5, 0.9])
            unit = f" {self.units[place]}" if self.units[place] else ""
            parts.append(
                f"half have a predicted {name} within {low:.3g}{unit} of the truth, and 90% within {high:.3g}{unit}"
            )
        return f"{where}, {'; '.join(parts)}.{coverage_in_words(outcomes, self.names, self.levels, intervals)}"

    def defined_metrics(self, labels: Array) -> tuple[str, ...]:
        quantiles = np.repeat(labels, len(self.levels), axis=1)
        outcomes = self.evaluate(labels, np.concatenate([labels, quantiles], axis=1))
        return tuple(name for name, value in self.metrics(outcomes).items() if value is not None)

    def say(self, answers: Array) -> list[tuple[str, str]]:
        quantiles = (f"{name}, quantile {level:g}" for name in self.names for level in self.levels)
        rows = zip((*self.names, *quantiles), np.ravel(answers).tolist(), self.units, strict=True)
        return [(name, f"{value:.4g} {unit}".strip()) for name, value, unit in rows]

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and scale in float64 on the device of a tensor."""
        if self.mean is None or self.scale is None:
            raise RuntimeError("call fitted_on with the labels of the training split first")
        device = like.device
        mean, scale = (
            torch.tensor(list(values), dtype=torch.float64, device=device) for values in (self.mean, self.scale)
        )
        return mean, scale
