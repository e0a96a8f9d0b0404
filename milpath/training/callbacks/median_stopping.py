"""Median stopping: early stopping of trials in a search."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from milpath.records.atomic_files import write_json

CURVE = "curve.json"


class MedianStopping(Callback):
    """Stop a trial whose best value so far is worse than the median of the finished trials at the same epoch.

    The rule of Optuna's `MedianPruner`. Each trial writes `curve.json` into its folder: its best value after each epoch.
    Trials that were stopped early are included at the epochs they reached.

    Args:
        monitor: Metric of the validation split.
        mode: "max" or "min".
        run_dir: Folder of this trial.
        trials_dir: Folder that holds the folders of all trials.
        num_trials: Number of finished trials required at an epoch before a trial is stopped there, at least 1.
        num_epochs: Number of epochs before a trial can be stopped.

    References:
        Golovin et al. Google Vizier: A Service for Black-Box Optimization. KDD 2017, section 3.2.1 (with running
        averages instead of best values).
    """

    def __init__(
        self, monitor: str, mode: str, run_dir: str, trials_dir: str, num_trials: int = 5, num_epochs: int = 5
    ) -> None:
        if num_trials < 1:
            raise ValueError(f"num_trials of median stopping must be at least 1, got {num_trials}")
        self.monitor = monitor
        self.better = {"max": max, "min": min}[mode]
        self.run_dir = Path(run_dir)
        self.trials_dir = Path(trials_dir)
        self.num_trials = num_trials
        self.num_epochs = num_epochs
        self.best_values: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        return {"best_values": list(self.best_values)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_values = list(state_dict["best_values"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        value = trainer.callback_metrics.get(self.monitor)
        if trainer.sanity_checking or value is None or not math.isfinite(value):
            return
        self.best_values.append(self.better([float(value), *self.best_values[-1:]]))
        stop = self._behind()
        if trainer.is_global_zero:
            content = {"best_values": self.best_values, "stopped_after": len(self.best_values) if stop else None}
            write_json(self.run_dir / CURVE, content)
        trainer.should_stop = trainer.should_stop or stop

    def _behind(self) -> bool:
        """Return whether this trial is worse than the median of the finished trials at this epoch."""
        epoch = len(self.best_values)
        others = [curve[epoch - 1] for curve in self._curves() if len(curve) >= epoch]
        if epoch < self.num_epochs or len(others) < self.num_trials:
            return False
        median, best = statistics.median(others), self.best_values[-1]
        return best != median and self.better(best, median) == median

    def _curves(self) -> list[list[float]]:
        """Return the curves of the finished trials."""
        folders = [path.parent for path in sorted(self.trials_dir.glob(f"*/{CURVE}"))]
        return [
            json.loads((folder / CURVE).read_text(encoding="utf-8"))["best_values"]
            for folder in folders
            if folder.resolve() != self.run_dir.resolve() and (folder / "metrics.json").exists()
        ]
