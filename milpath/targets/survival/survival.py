"""Survival target: the time to an event, of which only a lower bound is known for censored bags."""

from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milpath.metrics.intervals import Interval
from milpath.metrics.survival.evaluated_times import EvaluatedTimes
from milpath.metrics.survival.survival_curves import Curve, censoring_curve
from milpath.metrics.survival.survival_metrics import name_at
from milpath.targets.numeric_target import NumericTarget
from milpath.targets.survival.patient_curves import medians_of_patients
from milpath.targets.survival.survival_losses import (
    breslow,
    cox_hazard,
    cox_losses,
    cox_median,
    hazard_losses,
    hazard_mean,
    hazard_median,
    interval_hazard,
)
from milpath.targets.survival.survival_state import FITTED, options_of_state, quartiles_in_short, require_options
from milpath.targets.survival.survival_words import answers_of_survival_in_words, sentence_of_survival
from milpath.targets.target import Array

_BASELINE = ("baseline_times", "baseline_hazard")


class Survival(NumericTarget):
    """Time to an event with censoring; a higher risk means an earlier event, which the loss fixes.

    - cox: one logit, the log of the relative hazard. The loss is the partial likelihood over the bags of a step (of all
      processes); after training, Breslow's baseline hazard on the training split turns risks into survival.
    - hazard: one logit per interval of time; the intervals end at quantiles of the event times of the training split.
      The risk is minus the mean of survival over the time up to the last of them, from -1 to 0.

    Args:
        time_column: Column of the time of the event or of censoring.
        event_column: Column of the event: 1, true, yes or dead; 0, false, no or alive.
        loss: "cox" or "hazard".
        num_intervals: Number of intervals of "hazard", >= 2.
        times: Times at which survival is predicted and evaluated; `None` takes the quartiles of the event times of the
            training split, rounded to three digits unless that leads out of their range.
        unit: Unit of the times, shown with predictions.
        fitted: Values fitted on the training split.

    Raises:
        ValueError: If an option is unknown or out of range.
    """

    name = "survival"
    wrongness_title = "Risk"
    without_sets = "a censored time has no error to fit them on"
    headline = ("c_index", "uno_c_index", "time_auc", "integrated_brier")
    subgroup_metrics = ("c_index", "time_auc")
    fitted_names = FITTED

    def __init__(
        self,
        time_column: str = "time",
        event_column: str = "event",
        loss: str = "cox",
        num_intervals: int = 8,
        times: Sequence[float] | None = None,
        unit: str = "",
        fitted: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.time_column, self.event_column = str(time_column), str(event_column)
        self.loss, self.num_intervals, self.wished_times, self.unit = loss, num_intervals, times, str(unit or "")
        self.fitted: dict[str, Array] = {name: np.asarray(values, float) for name, values in (fitted or {}).items()}
        require_options(loss, num_intervals, times)

    @property
    def over_batch(self) -> bool:
        """Whether the loss compares bags with each other."""
        return self.loss == "cox"

    @property
    def times(self) -> Array:
        """Times at which survival is predicted."""
        return self.fitted.get("times", np.empty(0))

    @property
    def predicts_survival(self) -> bool:
        """Whether survival is known besides the risk; with "cox" only after training."""
        return self.loss == "hazard" or "baseline_hazard" in self.fitted

    @property
    def risk_cut(self) -> float | None:
        """Median risk of the training split, which cuts bags into two groups; `None` before it is fitted."""
        return float(self.fitted["risk_cut"][0]) if len(self.fitted.get("risk_cut", ())) else None

    @property
    def last_time(self) -> float:
        """The time up to which survival is known."""
        return float(self.fitted["cuts" if self.loss == "hazard" else "baseline_times"][-1])

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics; those of predicted survival only if it is known."""
        areas = [name_at("time_auc", time) for time in self.times]
        known = ("c_index", "uno_c_index", "time_auc", *areas)
        if not self.predicts_survival:
            return known
        each = [name_at(metric, time) for metric in ("brier", "calibration") for time in self.times]
        return (*known, "integrated_brier", *each)

    @property
    def names(self) -> tuple[str, ...]:
        return ("risk",)

    @property
    def label_columns(self) -> tuple[str, ...]:
        return ("time", "event")

    @property
    def answer_columns(self) -> tuple[str, ...]:
        if not self.predicts_survival:
            return ("risk",)
        return ("risk", *(f"survival_at_{time:.9g}" for time in self.times), "median_time")

    @property
    def spread_names(self) -> tuple[str, ...]:
        return self.answer_columns

    @property
    def units(self) -> tuple[str, ...]:
        return tuple(self.unit if name == "median_time" else "" for name in self.answer_columns)

    def columns_of_table(self, column: str | None, default: str) -> tuple[str, ...]:
        return self.time_column, self.event_column

    def named_after(self, columns: Sequence[str]) -> Self:
        return self

    @property
    def label_kinds(self) -> tuple[str, ...]:
        return ("time", "event")

    def strata(self, labels: Array) -> NDArray[np.int64]:
        """Return whether each bag has an event, so that events are spread evenly over the splits."""
        return labels[:, 1].astype(np.int64)

    @property
    def strata_names(self) -> tuple[str, ...]:
        return ("censored", "with an event")

    def require_trainable(self, labels: Array) -> None:
        if not (events := labels[:, 1] == 1).any():
            raise ValueError(
                f"all {len(labels):,} training bags are censored (column {self.event_column!r} is 0 or false everywhere): "
                "nothing can be learnt about the event; check the column, or choose another with target.event_column=NAME"
            )
        if self.loss == "hazard" and len(np.unique(labels[events, 0])) < 2:
            raise ValueError("all events of the training split have the same time; target.loss=hazard needs two times")

    def fitted_on(self, labels: NDArray[Any]) -> Self:
        self.require_trainable(labels)
        time, event = labels[:, 0], labels[:, 1] == 1
        of_events = time[event & (time > 0)] if (event & (time > 0)).any() else time[event] + 1.0
        times = quartiles_in_short(of_events) if self.wished_times is None else self.wished_times
        censoring = censoring_curve(time, event)
        fitted = {"times": times, "censoring_times": censoring.times, "censoring_values": censoring.levels}
        if self.loss == "hazard":
            quantiles = np.linspace(0, 1, self.num_intervals + 1)[1:]
            fitted["cuts"] = np.unique(np.quantile(of_events, quantiles).astype(np.float32).astype(np.float64))
        return self._with(fitted)

    def fitted_on_predictions(self, logits: NDArray[np.float32], labels: Array) -> Self:
        """Return the target with the baseline hazard and the cut between two groups of risk, both of the training split."""
        if not len(logits):
            return self
        risk = self._risk(torch.from_numpy(logits).double()).numpy()
        fitted: dict[str, Any] = {**self.fitted, "risk_cut": [float(np.median(risk))]}
        if self.loss == "cox":
            time, event = labels[:, 0], labels[:, 1] == 1
            fitted |= dict(zip(_BASELINE, breslow(risk, time, event), strict=True))
        return self._with(fitted)

    def in_cohort(self, labels: Array, answers: Array | None = None) -> Self:
        curve = censoring_curve(labels[:, 0], labels[:, 1] == 1)
        cut = {} if answers is None else {"risk_cut": [float(np.median(answers[:, 0]))]}
        return self._with({**self.fitted, **cut, "censoring_times": curve.times, "censoring_values": curve.levels})

    def mean_answers(self, answers: Array, patients: NDArray[np.int64]) -> Array:
        found = super().mean_answers(answers, patients)
        if self.predicts_survival:
            baseline = [self.fitted[name] for name in _BASELINE if name in self.fitted]
            found[:, -1] = medians_of_patients(answers, found, patients, self.times, *baseline)
        return found

    def state(self) -> dict[str, Any]:
        names = ("time_column", "event_column", "loss", "num_intervals", "unit")
        options: dict[str, Any] = {name: getattr(self, name) for name in names}
        return options | {name: np.asarray(values, float).tolist() for name, values in self.fitted.items()}

    def with_state(self, state: Mapping[str, Any]) -> Self:
        from milpath.targets.survival.averaged_survival import AveragedSurvival  # which derives from this class

        options = options_of_state(state)
        return cast(Self, (AveragedSurvival if "grid" in options["fitted"] else type(self))(**options))

    def average_of(self, targets: Sequence[Any]) -> Any:
        from milpath.targets.survival.averaged_survival import AveragedSurvival

        return AveragedSurvival.of_folds(targets)

    def num_outputs(self, num_classes: int) -> int:
        if self.loss == "cox":
            return 1
        if "cuts" not in self.fitted:
            raise RuntimeError("call fitted_on with the labels of the training split first")
        return len(self.fitted["cuts"])

    def map_names(self, class_names: Sequence[str]) -> Sequence[str]:
        """Return the names of the maps of a network that has one per interval."""
        if self.loss == "cox":
            return class_names
        return [f"up_to_{cut:.6g}" for cut in self.fitted["cuts"]]

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        time, event = labels[:, 0].to(logits.dtype), labels[:, 1] > 0.5
        if self.loss == "cox":
            return cox_losses(logits[:, 0], time, event)
        return hazard_losses(logits, time, event, self._tensor("cuts", logits))

    def answers(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        wide = logits.double()
        risk = self._risk(wide)
        if not self.predicts_survival:
            return risk[:, None].to(logits.dtype)
        survival = (-self.cumulative_hazard(wide, self._tensor("times", wide))).exp()
        if self.loss == "hazard":
            median = hazard_median(wide, self._tensor("cuts", wide))
        else:
            median = cox_median(risk, *(self._tensor(name, wide) for name in _BASELINE))
        return torch.cat([risk[:, None], survival, median[:, None]], 1).to(logits.dtype)

    def evaluate(
        self, labels: NDArray[Any], answers: Array, threshold: float = 0.5, groups: NDArray[np.str_] | None = None
    ) -> EvaluatedTimes:
        labels, answers = np.asarray(labels, dtype=np.float64), np.asarray(answers, dtype=np.float64)
        if labels.ndim != 2 or labels.shape[1] != 2 or answers.ndim != 2 or len(labels) != len(answers):
            raise ValueError(
                f"expected labels (bags, 2) and predictions (bags, columns), got {labels.shape}, {answers.shape}"
            )
        if "censoring_times" not in self.fitted:
            raise ValueError("a survival target is evaluated once it is fitted on the times of a training split")
        count = len(self.times)
        if not np.isfinite(labels).all() or not np.isfinite(answers[:, : 1 + count]).all():
            raise ValueError("times, events, risks and survival must be finite")
        survival = answers[:, 1 : 1 + count] if answers.shape[1] == 2 + count else None
        censoring = Curve(self.fitted["censoring_times"], self.fitted["censoring_values"])
        return EvaluatedTimes(labels[:, 0], labels[:, 1] == 1, answers[:, 0], survival, self.times, censoring, groups)

    def defined_metrics(self, labels: Array) -> tuple[str, ...]:
        if not self.fitted:
            return self.metric_names  # data without a training split
        likely = np.column_stack([-labels[:, 0], np.full((len(labels), len(self.answer_columns) - 1), 0.5)])
        outcomes = self.evaluate(labels, likely)
        return tuple(name for name, value in self.metrics(outcomes).items() if value is not None)

    def wrongness(self, outcomes: EvaluatedTimes) -> Array:
        """Return the rank of the risk, from 0 to 1 of the highest: the error of a censored bag is not known."""
        ranks = [np.searchsorted(np.sort(outcomes.risk), outcomes.risk, side=side) for side in ("left", "right")]
        return np.asarray((ranks[0] + ranks[1] + 1) / 2 / max(len(outcomes.risk), 1))

    def sentence(
        self, outcomes: EvaluatedTimes, where: str, class_names: Sequence[str], intervals: Mapping[str, Interval]
    ) -> str:
        return sentence_of_survival(where, outcomes.num_events, intervals["c_index"])

    def say(self, answers: Array) -> list[tuple[str, str]]:
        last_time = self.last_time if self.predicts_survival else None
        return answers_of_survival_in_words(self.answer_columns, answers, last_time, self.unit)

    def _risk(self, logits: Tensor) -> Tensor:
        """Return the risk, `(bags,)`."""
        return logits[:, 0] if self.loss == "cox" else -hazard_mean(logits, self._tensor("cuts", logits))

    def cumulative_hazard(self, logits: Tensor, times: Tensor) -> Tensor:
        """Return minus the log of survival at some times, `(bags, times)`, from the logits of one network."""
        if self.loss == "hazard":
            return interval_hazard(logits, times, self._tensor("cuts", logits))
        return cox_hazard(logits[:, 0], times, *(self._tensor(name, logits) for name in _BASELINE))

    def _tensor(self, name: str, like: Tensor) -> Tensor:
        """Return a fitted value with dtype and device of a tensor."""
        return torch.as_tensor(self.fitted[name], dtype=like.dtype, device=like.device)

    def _with(self, fitted: Mapping[str, Any]) -> Self:
        """Return the same target with fitted values."""
        return type(self)(
            self.time_column, self.event_column, self.loss, self.num_intervals, self.wished_times, self.unit, fitted
        )
