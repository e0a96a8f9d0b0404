"""Survival of several networks as one: the mean of their survival curves, and risk and median of this mean."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milpath.metrics.survival.survival_curves import Curve
from milpath.targets.numeric_target import MAX_VALUES
from milpath.targets.survival.survival import Survival
from milpath.targets.target import Array

# Cumulative hazards within float32 as logarithms: survival of exactly 0 or 1 stays finite.
_SMALLEST, _LARGEST = 1e-30, 1e30


class AveragedSurvival(Survival):
    """The average of several survival networks: `S(t) = mean_k S_k(t)`, each fold with its own baseline or intervals.

    Risks of different folds have no common scale: a log hazard is relative to the baseline of its fold. Survival at a time
    has one. The curves are averaged at all steps of all folds up to a horizon, the end of what the fold with the shortest
    follow-up knows, and everything else follows from the mean curve:

    - risk: minus the mean of survival over the time up to the horizon, from -1 to 0, as of "hazard". For one network of
      Cox's model it is a rising function of the log hazard, so that it ranks bags as that does;
    - median: where the mean curve falls to one half; not the mean of the medians, which may not be reached in a fold.

    The Brier score of a mean curve is never above the mean of those of the folds, because the square is convex (Krogh and
    Vedelsby 1995). Logits are `log(-log S)` at the steps, then at the times of the predictions.

    Args:
        fitted: Those of `Survival`, and `grid`, the steps; its last one is the horizon.

    References:
        Royston and Parmar. Restricted mean survival time. BMC Medical Research Methodology 13, 2013.
        Ishwaran et al. Random survival forests. Annals of Applied Statistics 2, 2008 (averages of curves, not of risks).
        Krogh and Vedelsby. Neural network ensembles, cross validation, and active learning. NeurIPS 1995.
    """

    @classmethod
    def of_folds(cls, targets: Sequence[Survival]) -> Self:
        """Return the target of the average.

        Times of the predictions are those of the folds if they agree; otherwise the mean of each, to three digits. The
        curve of censoring, which weights some metrics, is the mean of those of the training splits. The cut between low and
        high risk is the mean over the folds of the risk of their median training bag.

        Args:
            targets: The fitted target of each fold.

        Raises:
            ValueError: If a fold has no fitted baseline, or no event after time 0.
        """
        first, known = targets[0], "cuts" if targets[0].loss == "hazard" else "baseline_times"
        if any(known not in target.fitted or not len(target.fitted[known]) for target in targets):
            raise ValueError("a fold has no baseline hazard, which its training fits at its end; finish each training")
        horizon = float(min(target.fitted[known][-1] for target in targets))
        if horizon <= 0:
            raise ValueError("all events of a fold are at time 0, so that there is no curve to average")
        steps = np.unique(np.concatenate([target.fitted[known] for target in targets]))
        grid, times = steps[steps <= horizon], _times_in_common([target.times for target in targets])
        if len(grid) + len(times) > MAX_VALUES:
            raise ValueError(f"the curves of the folds have {len(grid):,} steps, more than {MAX_VALUES:,}")
        curves = [Curve(target.fitted["censoring_times"], target.fitted["censoring_values"]) for target in targets]
        moments = np.unique(np.concatenate([curve.times for curve in curves]))
        fitted: dict[str, Any] = {
            "grid": grid,
            "times": times,
            "censoring_times": moments,
            "censoring_values": np.mean([curve.at(moments) for curve in curves], axis=0),
        }
        if len({len(target.fitted.get("cuts", ())) for target in targets}) == 1 and first.loss == "hazard":
            fitted["cuts"] = np.mean([target.fitted["cuts"] for target in targets], axis=0)
        average = cls(first.time_column, first.event_column, first.loss, first.num_intervals, None, first.unit, fitted)
        cuts = [target.risk_cut for target in targets]
        if None not in cuts:
            fitted["risk_cut"] = [float(np.mean([average._cut(target) for target in targets]))]
        return average._with(fitted)

    @property
    def predicts_survival(self) -> bool:
        return True

    @property
    def last_time(self) -> float:
        return float(self.fitted["grid"][-1])

    def num_outputs(self, num_classes: int) -> int:
        return len(self.fitted["grid"]) + len(self.times)

    def map_names(self, class_names: Sequence[str]) -> Sequence[str]:
        """Return the names of the maps of networks with one per interval, by the mean of its ends; as many in each fold."""
        return class_names if self.loss == "cox" else [f"up_to_{cut:.6g}" for cut in self.fitted.get("cuts", ())]

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        raise RuntimeError("the average of several networks is not trained")

    def averaged(
        self, targets: Sequence[Any], logits: Sequence[Tensor], temperatures: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        moments = torch.cat([self._tensor(name, logits[0].double()) for name in ("grid", "times")])
        hazards = [target.cumulative_hazard(z.double(), moments) for target, z in zip(targets, logits, strict=True)]
        each = torch.stack([self.answers(_as_logits(hazard)) for hazard in hazards], 1)
        events = torch.stack([-torch.expm1(-hazard) for hazard in hazards]).mean(0)  # exact near 0, unlike 1 - S
        return _as_logits(-torch.log1p(-events)), each

    def answers(self, logits: Tensor, temperature: float = 1.0) -> Tensor:
        wide = logits.double()
        grid, hazard = self._tensor("grid", wide), wide.exp()
        of_grid = hazard[:, : len(grid)]
        survival, median = (-hazard[:, len(grid) :]).exp(), self._median(of_grid, grid)
        return torch.cat([self._restricted_risk(of_grid, grid)[:, None], survival, median[:, None]], 1).to(logits.dtype)

    def as_average(self, target: Survival, answers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return stored predictions of a fold at the times of the average.

        The curve of Cox's model follows from the risk; of "hazard" survival is only known at the times of the fold.
        """
        same = np.array_equal(target.times, self.times) and answers.shape[1] == len(self.answer_columns)
        if target.loss == "cox":
            risk = torch.from_numpy(np.ascontiguousarray(answers[:, :1]))
            found = np.array(self.averaged([target], [risk], [1.0])[1][:, 0].numpy())
        else:
            found = np.full((len(answers), len(self.answer_columns)), np.nan)
            found[:, 0] = answers[:, 0]
        if same:  # of patients put together from slides these are means of curves, which their mean risk does not give
            found[:, 1:] = answers[:, 1:]
        return found

    def _cut(self, target: Survival) -> float:
        """Return the risk, for the average, of the median training bag of a fold."""
        assert target.risk_cut is not None
        if target.loss == "hazard":
            return target.risk_cut  # of the same kind: minus a mean of survival
        risk = torch.tensor([[target.risk_cut]], dtype=torch.float64)
        return float(self.averaged([target], [risk], [1.0])[1][0, 0, 0])

    def _restricted_risk(self, hazard: Tensor, grid: Tensor) -> Tensor:
        """Return minus the mean of survival up to the horizon, `(bags,)`: of steps, or by the trapezoidal rule."""
        survival = (-hazard).exp()
        before = torch.cat([torch.ones_like(survival[:, :1]), survival[:, :-1]], 1)
        widths = torch.cat([grid[:1], grid.diff()])
        heights = before if self.loss == "cox" else (survival + before) / 2
        return -(heights * widths).sum(1) / grid[-1]

    def _median(self, hazard: Tensor, grid: Tensor) -> Tensor:
        """Return where the curve falls to one half: at a step, or between two with a constant hazard; NaN without."""
        half = torch.log(hazard.new_tensor(2.0))
        place = (hazard < half * (1 - 1e-6)).sum(1)
        inside = place.clamp(max=len(grid) - 1)
        ends = grid[inside]
        if self.loss == "hazard":
            before = torch.cat([torch.zeros_like(hazard[:, :1]), hazard[:, :-1]], 1)
            start = before.gather(1, inside[:, None]).squeeze(1)
            own = hazard.gather(1, inside[:, None]).squeeze(1) - start
            starts = torch.cat([grid.new_zeros(1), grid[:-1]])[inside]
            ends = starts + ((half - start) / own).clamp(0, 1) * (ends - starts)
        return torch.where(place < len(grid), ends, torch.nan)


def _as_logits(hazard: Tensor) -> Tensor:
    """Return the logarithm of cumulative hazards, finite."""
    return hazard.clamp(_SMALLEST, _LARGEST).log()


def _times_in_common(times: Sequence[Array]) -> Array:
    """Return the times of predictions of several folds as one list."""
    if len({len(each) for each in times}) == 1:
        if all(np.array_equal(each, times[0]) for each in times):
            return np.asarray(times[0])
        found = np.mean(times, axis=0)
    else:
        found = np.concatenate(times)
    return np.unique([float(f"{moment:.3g}") for moment in found])
