"""Relevance of the tiles of a bag: attention, and what explains a prediction exactly or by its gradient."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milpath.inference.faithfulness.explained_quantity import Explained, Question
from milpath.inference.faithfulness.partial_bags import PartialBags
from milpath.models.averaged_network import AveragedMILOutput
from milpath.models.output import DetailedMILOutput, MILOutput

ATTENTION, CLASS_ATTENTION = "attention", "class attention"
CONTRIBUTION, GRADIENT = "contribution", "gradient x input"
OCCLUSION, SINGLE, RANDOM = "occlusion", "single tile", "random"
# What each order of tiles is, in the words of a report.
ORDERS = {
    ATTENTION: "the weight of the tile, as in all pictures",
    CLASS_ATTENTION: "the weight of the tile for the explained class, in a network with weights per class",
    CONTRIBUTION: "what the tile adds to the logit, in a network whose logits are a sum over tiles",
    GRADIENT: "gradient of the log-odds by the embedding of the tile, times the embedding",
    OCCLUSION: "how much the log-odds fall if this tile only is left out",
    SINGLE: "the log-odds of a bag of this tile only",
    RANDOM: "random orders, the mean of several",
}
Array = NDArray[np.float64]


def tile_relevance(
    bag: PartialBags, question: Question, max_passes: int
) -> tuple[Explained, NDArray[np.float64], dict[str, Array], MILOutput]:
    """Return what is explained of a bag and how relevant each tile is for it by each order but the random ones.

    Relevance of a class is that for its log-odds, of a number that for its distance from the reference: a tile that speaks
    against the prediction has a negative relevance. Attention has no sign, and is the same for all classes.

    Args:
        bag: The bag.
        question: What is explained.
        max_passes: Number of tiles up to which each of them is left out and taken by itself; bags with more have no
            `OCCLUSION` and `SINGLE`.

    Returns:
        What is explained; its values, `(2,)`; order to `(tiles,)`; the output of the network for the bag.
    """
    embeddings = [each.detach().clone().requires_grad_(True) for each in bag.embeddings]
    with torch.enable_grad():
        output = bag.output(embeddings)
        explained = question.explained(output.logits)
        logits = output.logits.detach().double().requires_grad_(True)
        of_logits = torch.autograd.grad(question.values(logits, explained)[:, 1].sum(), logits)[0][0]
        values = question.values(output.logits, explained)
        gradients = torch.autograd.grad(values[:, 1].sum(), embeddings)
    relevance = {ATTENTION: _array(_attention(output, question))}
    if isinstance(output, DetailedMILOutput):
        if (weights := _class_attention(output, question, explained)) is not None:
            relevance[CLASS_ATTENTION] = _array(weights)
        parts = output.contributions
        # Those of an average of networks do not sum to its logits.
        if parts is not None and parts.shape[1] == output.logits.shape[1] and not isinstance(output, AveragedMILOutput):
            relevance[CONTRIBUTION] = _array((of_logits[:, None] * parts[0].double()).sum(0))
    products = [
        (slope * each).detach()[0].double().flatten(1).sum(1) for slope, each in zip(gradients, embeddings, strict=True)
    ]
    relevance[GRADIENT] = _array(torch.stack(products).sum(0))
    if bag.num_tiles <= max_passes:
        without = bag.values(_all_but_one(bag.num_tiles), question, explained)[:, 1]
        relevance[OCCLUSION] = float(values[0, 1].detach()) - without
        alone = (np.array([tile]) for tile in range(bag.num_tiles))
        relevance[SINGLE] = bag.values(alone, question, explained)[:, 1]
    return explained, _array(values[0]), relevance, output


def _attention(output: MILOutput, question: Question) -> Tensor:
    """Return the attention `(tiles,)`: that of the explained target if each of several has its own."""
    if question.name and isinstance(output, DetailedMILOutput) and output.target_attention is not None:
        return output.target_attention[0, question.position]
    return output.attention[0]


def _class_attention(output: DetailedMILOutput, question: Question, explained: Explained) -> Tensor | None:
    """Return the attention of the explained class `(tiles,)`; `None` without one per class."""
    weights = output.class_attention
    if weights is None or not question.of_classes or question.name or weights.shape[1] != len(question.class_names):
        return None
    return weights[0, explained.place]


def _all_but_one(num_tiles: int) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of all tiles but one, for each of them."""
    everything = np.arange(num_tiles)
    for tile in range(num_tiles):
        yield np.delete(everything, tile)


def _array(values: Tensor) -> Array:
    return values.detach().double().cpu().numpy()
