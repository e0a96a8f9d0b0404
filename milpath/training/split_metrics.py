"""The metrics of a split while training: its bags as they come, step by step and on several processes."""

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from milpath.targets import target_named
from milpath.targets.evaluation import compute_metrics


class SplitMetrics:
    """Bags of a split and their metrics, by the one definition that `metrics.json` and the report have.

    Args:
        task: Name of the target: "binary", "nominal" or "ordinal".

    Raises:
        ValueError: If no target has that name.
    """

    def __init__(self, task: str) -> None:
        self.task = target_named(task).name
        self._rows: list[Tensor] = []

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Add bags: probabilities `(bags, classes)`, labels int64 `(bags,)`; there may be none."""
        self._rows.append(torch.cat([probabilities.detach().float(), labels[:, None].float()], 1))

    def compute(self) -> dict[str, float | None]:
        """Return the metrics of the bags of all processes, see `compute_metrics`; all of them call it together."""
        rows = torch.cat(self._rows)
        if dist.is_available() and dist.is_initialized():
            # Once, and whole: that needs no more of a backend than to gather, whatever the metric.
            rows = torch.cat(gather_all_tensors(rows))
        rows = rows.cpu()
        return compute_metrics(rows[:, :-1].numpy(), rows[:, -1].long().numpy(), self.task)

    def reset(self) -> None:
        """Forget all bags."""
        self._rows.clear()
