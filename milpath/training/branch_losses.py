"""Auxiliary losses of networks with branches: attention branches of ACMIL and pseudo-bags of DTFD-MIL."""

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from milpath.models import ACMIL, DTFDMIL, DetailedMILOutput, MILOutput
from milpath.targets import target_named


def acmil_loss(
    network: ACMIL,
    embeddings: Tensor,
    mask: Tensor,
    output: MILOutput,
    labels: Tensor,
    *,
    task: str = "binary",
    weight: float = 1.0,
    diversity_weight: float = 1.0,
) -> Tensor:
    """Return the loss of ACMIL's branches and the similarity of their attention.

    Each branch is trained with the label of the bag, and `mean over pairs of cos(a_b, a_c)` pulls the branches to different
    tiles. Both use the tiles that were not hidden in this step. The paper weights bag, branches and similarity equally.

    Args:
        network: An ACMIL network; not used.
        embeddings: `(bags, tiles, dim)`; not used.
        mask: bool `(bags, tiles)`; not used, padding has no attention.
        output: Output of the network with its branches.
        labels: int64 `(bags,)`.
        task: "binary", "nominal" or "ordinal".
        weight: Factor of the loss of the branches, >= 0.
        diversity_weight: Factor of the similarity, >= 0.

    Raises:
        ValueError: If the output has no branches.

    References:
        Zhang et al. Attention-challenging multiple instance learning for whole slide image classification. ECCV 2024, loss
        of multiple branch attention.
    """
    logits, attention = _branches(output)
    pairs = list(combinations(range(attention.shape[1]), 2))
    similar = [F.cosine_similarity(attention[:, a], attention[:, b], dim=1) for a, b in pairs]
    similarity = _mean(torch.stack(similar)) if similar else attention.new_zeros(())
    return weight * _label_loss(logits, attention, labels, task) + diversity_weight * similarity


def pseudo_bag_loss(
    network: DTFDMIL,
    embeddings: Tensor,
    mask: Tensor,
    output: MILOutput,
    labels: Tensor,
    *,
    task: str = "binary",
    weight: float = 1.0,
) -> Tensor:
    """Return the loss of DTFD-MIL's first tier: each pseudo-bag has the label of its bag.

    Args:
        network: A DTFD-MIL network; not used.
        embeddings: `(bags, tiles, dim)`; not used.
        mask: bool `(bags, tiles)`; not used, padding is in no pseudo-bag.
        output: Output of the network with its pseudo-bags; those without tiles do not count.
        labels: int64 `(bags,)`.
        task: "binary", "nominal" or "ordinal".
        weight: Factor, >= 0.

    Raises:
        ValueError: If the output has no pseudo-bags.

    References:
        Zhang et al. DTFD-MIL: double-tier feature distillation multiple instance learning. CVPR 2022, loss of the first
        tier.
    """
    return weight * _label_loss(*_branches(output), labels, task)


def _branches(output: MILOutput) -> tuple[Tensor, Tensor]:
    """Return logits and attention of the branches of an output."""
    logits = output.branch_logits if isinstance(output, DetailedMILOutput) else None
    attention = output.branch_attention if isinstance(output, DetailedMILOutput) else None
    if logits is None or attention is None:
        raise ValueError("this auxiliary loss needs a network with branches; set model=acmil or model=dtfd_mil")
    return logits, attention


def _label_loss(logits: Tensor, attention: Tensor, labels: Tensor, task: str) -> Tensor:
    """Return the mean over bags of the mean loss of their branches that have tiles."""
    filled = (attention.detach() > 0).any(2).to(torch.float32)
    losses = [target_named(task).losses(part.float(), labels) for part in logits.unbind(1)]
    return _mean((torch.stack(losses, 1) * filled).sum(1) / filled.sum(1))


def _mean(values: Tensor) -> Tensor:
    """Return the mean; of no bags, 0 with a gradient of 0, for which other processes wait."""
    return values.sum() / max(values.numel(), 1)
