"""Metrics of a split during training, accumulated over steps and processes."""

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from milpath.targets import target_named
from milpath.targets.evaluation import compute_metrics


class SplitMetrics:
    """Accumulate the predictions of a split and compute its metrics as for `metrics.json` and the report.

    Args:
        task: Name of the target: "binary", "nominal" or "ordinal".

    Raises:
        ValueError: If no target has that name.
    """

    def __init__(self, task: str) -> None:
        self.task = target_named(task).name
        self._rows: list[Tensor] = []

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add bags, possibly none: probabilities `(bags, classes)`, labels int64 `(bags,)`."""
        self._rows.append(torch.cat([probabilities.detach().float(), labels[:, None].float()], 1))

    def compute(self) -> dict[str, float | None]:
        """Return the metrics over the bags of all processes, see `compute_metrics`; a collective call."""
        rows = torch.cat(self._rows)
        if dist.is_available() and dist.is_initialized():
            # Gathering all rows once needs only all_gather from the backend, whatever the metric.
            rows = torch.cat(gather_all_tensors(rows))
        rows = rows.cpu()
        return compute_metrics(rows[:, :-1].numpy(), rows[:, -1].long().numpy(), self.task)

    def reset(self) -> None:
        """Remove all bags."""
        self._rows.clear()
