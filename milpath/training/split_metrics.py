"""Bags of all processes during training: metrics of a split, accumulated over steps, and the logits of one step."""

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from milpath.targets import Target, target_named
from milpath.targets.evaluation import compute_metrics


class SplitMetrics:
    """Accumulate the predictions of a split and compute its metrics as for `metrics.json` and the report.

    Args:
        task: The target or its name.

    Raises:
        ValueError: If no target has that name.
    """

    def __init__(self, task: str | Target) -> None:
        self.target = target_named(task)
        self._rows: list[Tensor] = []
        self._widths: list[int] = []

    def update(self, answers: Tensor, labels: Tensor, logits: Tensor | None = None) -> None:
        """Add bags, possibly none.

        Args:
            answers: `(bags, columns)`: probabilities of classes, or numbers.
            labels: int64 `(bags,)`, or float `(bags, columns)` of a target without classes.
            logits: `(bags, outputs)` of a target whose loss depends on the other bags; it is computed over the split.
        """
        parts = [answers, labels[:, None] if labels.ndim == 1 else labels]
        if self.target.over_batch and logits is not None:
            parts.append(logits)
        self._widths = [part.shape[1] for part in parts]
        self._rows.append(torch.cat([part.detach().float() for part in parts], 1))

    def compute(self) -> dict[str, float | None]:
        """Return the metrics over the bags of all processes, see `compute_metrics`; a collective call."""
        rows = torch.cat(self._rows)
        if dist.is_available() and dist.is_initialized():
            # Gathering all rows once needs only all_gather from the backend, whatever the metric.
            rows = torch.cat(gather_all_tensors(rows))
        answers, labels, *logits = rows.cpu().split(self._widths, 1)
        known = labels[:, 0].long().numpy() if self.target.has_classes else labels.numpy()
        values = compute_metrics(answers.numpy(), known, self.target)
        if logits:
            values["loss"] = float(self.target.losses(logits[0].double(), labels.double()).mean())
        return values

    def reset(self) -> None:
        """Remove all bags."""
        self._rows.clear()


def of_all_processes(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and labels of the bags of all processes of a step, in the order of the processes; a collective call.

    Only the logits of this process have a gradient. The sum over processes of the gradients of the same loss is that of
    one process with all bags: each process computes the loss of all bags and its derivative by its own.

    Args:
        logits: `(bags, outputs)` of this process, possibly of no bag.
        labels: `(bags, columns)` of this process.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return logits, labels
    width = logits.shape[1]
    rows = gather_all_tensors(torch.cat([logits.detach(), labels.to(logits.dtype)], 1))
    parts = [row[:, :width] for row in rows]
    parts[dist.get_rank()] = logits
    return torch.cat(parts), torch.cat([row[:, width:] for row in rows])
