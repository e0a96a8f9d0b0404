"""Losses of a bag, one value a bag, from logits."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bag_losses(logits: Tensor, labels: Tensor, task: str) -> Tensor:
    """Return the loss of each bag.

    Binary: `-y log s(z) - (1-y) log(1 - s(z))`. Nominal: `-log softmax(z)_y`. Ordinal: the sum over k = 1..K-1 of the
    binary loss of "the class is at least k" at the cumulative logit `z_k`.

    Args:
        logits: `(bags, 1)`, `(bags, classes)` or `(bags, classes - 1)` for the three tasks.
        labels: int64 `(bags,)`.
        task: "binary", "nominal" or "ordinal".

    Returns:
        `(bags,)`, each >= 0.

    Raises:
        ValueError: If the task is none of the three.

    References:
        Cao, Mirjalili, Raschka. Rank consistent ordinal regression for neural networks. 2020, eq. 4 (weights 1).

    Example:
        >>> bag_losses(torch.tensor([[0.0], [0.0]]), torch.tensor([0, 1]), "binary")
        tensor([0.6931, 0.6931])
    """
    if task == "binary":
        return F.binary_cross_entropy_with_logits(logits.squeeze(1), labels.to(logits.dtype), reduction="none")
    if task == "nominal":
        return F.cross_entropy(logits, labels, reduction="none")
    if task == "ordinal":
        steps = torch.arange(1, logits.shape[1] + 1, device=labels.device)
        reached = (labels[:, None] >= steps).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, reached, reduction="none").sum(1)
    raise ValueError(f"task {task!r} is none of binary, nominal, ordinal")
