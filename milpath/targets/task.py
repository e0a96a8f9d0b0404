"""What the outputs of a network mean: two classes, many classes, or ordered classes."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

TASKS = ("binary", "nominal", "ordinal")


def num_outputs_for(num_classes: int, task: str) -> int:
    """Return how many logits a task needs.

    Args:
        num_classes: Number of classes, at least 2.
        task: "binary" (one logit), "nominal" (one logit a class) or "ordinal" (one logit for each step up).

    Raises:
        ValueError: If the task is unknown or does not fit the number of classes.

    Example:
        >>> num_outputs_for(2, "binary"), num_outputs_for(6, "nominal"), num_outputs_for(6, "ordinal")
        (1, 6, 5)
    """
    if task not in TASKS:
        raise ValueError(f"task {task!r} is none of {', '.join(TASKS)}")
    if num_classes < 2:
        raise ValueError(f"a task needs at least 2 classes, not {num_classes}")
    if task == "binary" and num_classes != 2:
        raise ValueError(f"a binary task has 2 classes, not {num_classes}; use task=nominal or task=ordinal")
    return {"binary": 1, "nominal": num_classes, "ordinal": num_classes - 1}[task]


def require_class_names(names: Sequence[str]) -> None:
    """Refuse names by which a reader could not tell the classes apart.

    Raises:
        ValueError: If a name is empty or stands for two classes.
    """
    if any(not name.strip() for name in names):
        raise ValueError(
            f"class_names has an empty name at position {[bool(name.strip()) for name in names].index(False)}"
        )
    if twice := [name for name, count in Counter(name.strip() for name in names).items() if count > 1]:
        raise ValueError(f"class_names has {twice[0]!r} more than once; each class needs a name of its own")


def class_probabilities(logits: Tensor, task: str, temperature: float = 1.0) -> Tensor:
    """Return the probability of each class.

    Ordinal logits `z_k` say that the class is at least k; networks are free to let a later one exceed an earlier one, so
    each cumulative probability is capped by the one before, which keeps every class probability at or above 0.

    Args:
        logits: `(bags, num_outputs)`.
        task: "binary", "nominal" or "ordinal".
        temperature: Divides the logits; > 0.

    Returns:
        `(bags, classes)`, rows sum to 1.

    References:
        Guo, Pleiss, Sun, Weinberger. On calibration of modern neural networks. 2017, eq. 9 (temperature).
        Cao, Mirjalili, Raschka. Rank consistent ordinal regression for neural networks. 2020 (cumulative logits).

    Example:
        >>> class_probabilities(torch.tensor([[0.0]]), "binary")
        tensor([[0.5000, 0.5000]])
    """
    logits = logits / temperature
    if task == "binary":
        return torch.cat([torch.sigmoid(-logits), torch.sigmoid(logits)], dim=1)
    if task == "nominal":
        return logits.softmax(1)
    if task == "ordinal":
        at_least = torch.sigmoid(logits).cummin(1).values
        ones = torch.ones_like(at_least[:, :1])
        return torch.cat([ones, at_least], 1) - torch.cat([at_least, torch.zeros_like(ones)], 1)
    raise ValueError(f"task {task!r} is none of {', '.join(TASKS)}")
