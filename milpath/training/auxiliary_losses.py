"""Auxiliary losses of some networks, each `(network, embeddings, mask, output, labels) -> scalar`."""

import torch
from torch import Tensor

from milpath.models import CLAMSB, DSMIL, DetailedMILOutput, InstancePoolMIL, MILOutput
from milpath.targets import target_named


def max_instance_loss(
    network: DSMIL | InstancePoolMIL,
    embeddings: Tensor,
    mask: Tensor,
    output: MILOutput,
    labels: Tensor,
    *,
    task: str = "binary",
    weight: float = 1.0,
) -> Tensor:
    """Return the loss of the highest-scoring tile of each class, which trains the first stream of DSMIL.

    Args:
        network: A network with `instance_logits`.
        embeddings: `(bags, tiles, dim)`.
        mask: bool `(bags, tiles)`.
        output: Output of the network; not used.
        labels: int64 `(bags,)`.
        task: "binary", "nominal" or "ordinal".
        weight: Factor, >= 0.

    References:
        Li, Li, Eliceiri. Dual-stream multiple instance learning network. CVPR 2021, eq. 3 and the authors' loss.
    """
    logits = network.instance_logits(embeddings).masked_fill(~mask[..., None], -torch.inf).amax(1)
    return weight * target_named(task).losses(logits.float(), labels).mean()


def clustering_loss(
    network: CLAMSB,
    embeddings: Tensor,
    mask: Tensor,
    output: MILOutput,
    labels: Tensor,
    *,
    num_sampled: int = 8,
    out_of_class: bool = False,
    weight: float = 0.3 / 0.7,
) -> Tensor:
    """Return CLAM's instance loss: tiles with high attention belong to the bag's class, tiles with low attention do not.

    For each bag, the instance classifier of its class gets the `num_sampled` tiles with the highest attention as positives
    and as many with the lowest attention as negatives; a smaller bag gives half of its tiles to each side. With
    `out_of_class`, the classifiers of the other classes get the tiles with the highest attention as negatives, and the loss
    is the mean over classes. A network with attention per class (CLAM-MB) ranks the tiles for each classifier by the
    attention of its class. The paper weights bag and instance loss 0.7 to 0.3; here the weight of the bag loss is 1.

    Args:
        network: A CLAM network.
        embeddings: `(bags, tiles, hidden_dim)`.
        mask: bool `(bags, tiles)`.
        output: Output of the network; its attention selects the tiles and gets no gradient.
        labels: int64 `(bags,)`.
        num_sampled: B, number of tiles per side.
        out_of_class: Whether classes are mutually exclusive (subtypes), so that the other classifiers are trained too.
        weight: Factor, >= 0.

    Raises:
        ValueError: If a label has no instance classifier.

    References:
        Lu et al. Data-efficient and weakly supervised computational pathology on whole-slide images. Nature Biomedical
        Engineering 2021, methods, instance-level clustering.
    """
    if len(labels) == 0:
        return embeddings.sum()  # of no bag: 0 with a gradient of 0, for which other processes wait
    losses = []
    for bag, label in enumerate(labels.tolist()):
        tiles = embeddings[bag, mask[bag]]
        order = _ranked(output, bag, label, mask[bag])
        count = min(num_sampled, max(1, len(order) // 2))
        members, strangers = order[:count], order[count:][-count:]
        of_classes = [_side_loss(network, tiles[torch.cat([members, strangers])], label, len(members))]
        if out_of_class:
            others = [number for number in range(len(network.instance_layers)) if number != label]
            of_classes += [
                _side_loss(network, tiles[_ranked(output, bag, number, mask[bag])[:count]], number, 0)
                for number in others
            ]
        losses.append(torch.stack(of_classes).mean())
    return weight * torch.stack(losses).mean()


def _ranked(output: MILOutput, bag: int, label: int, real: Tensor) -> Tensor:
    """Return the indices of the real tiles of a bag, highest attention (of a class, if it has its own) first."""
    weights = output.attention[bag]
    if isinstance(output, DetailedMILOutput) and (of_classes := output.class_attention) is not None:
        # A label without a branch is refused with the way out by `instance_logits`.
        weights = of_classes[bag, min(label, of_classes.shape[1] - 1)]
    return weights[real].detach().argsort(descending=True, stable=True)


def _side_loss(network: CLAMSB, tiles: Tensor, label: int, num_members: int) -> Tensor:
    """Return the mean loss of the classifier of a class on tiles, of which the first `num_members` are positive."""
    belongs = (torch.arange(len(tiles), device=tiles.device) < num_members).long()
    return smooth_svm_loss(network.instance_logits(tiles, label).float(), belongs).mean()


def smooth_svm_loss(logits: Tensor, labels: Tensor, margin: float = 1.0, temperature: float = 1.0) -> Tensor:
    """Return the smooth top-1 hinge loss `t log sum_j exp((margin [j != y] + s_j - s_y) / t)`, `(tiles,)`.

    Args:
        logits: `(tiles, classes)`.
        labels: int64 `(tiles,)`.
        margin: Margin of the correct class.
        temperature: t > 0; approaches the hinge loss as t goes to 0.

    References:
        Berrada, Zisserman, Kumar. Smooth loss functions for deep top-k classification. ICLR 2018, eq. 6 with k = 1.
    """
    right = logits.gather(1, labels[:, None])
    distance = margin * (torch.arange(logits.shape[1], device=labels.device) != labels[:, None])
    return temperature * ((distance + logits - right) / temperature).logsumexp(1)
