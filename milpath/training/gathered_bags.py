"""Logits and labels of the bags of all processes, for a loss that compares bags with each other."""

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors


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
