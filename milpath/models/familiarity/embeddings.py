"""The embeddings of a network that its model of familiar slides is about, and their distances."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from milpath.models.averaged_network import AveragedNetwork
from milpath.models.familiarity.fold_familiarity import Familiarity, Unfamiliarity
from milpath.models.familiarity.shrunk_gaussian import ShrunkGaussian
from milpath.models.network import MILNetwork
from milpath.models.network_input import takes
from milpath.models.output import MILOutput


class Distances(NamedTuple):
    """Distances of a batch of bags from the training bags and tiles of each network.

    Attributes:
        bags: `(bags, networks)` of their embeddings.
        tiles: For each bag `(networks, tiles)`.
    """

    bags: NDArray[np.float64]
    tiles: Sequence[NDArray[np.float32]]

    def of_bags(self) -> NDArray[np.float64]:
        """Return `(bags, networks, 2)`: of the embedding of a bag, and the mean of its tiles."""
        means = np.stack([rows.mean(axis=1, dtype=np.float64) for rows in self.tiles])
        return np.stack([self.bags, means], axis=2)


def embed(network: nn.Module, tiles: Tensor, mask: Tensor | None) -> tuple[MILOutput, Tensor | None]:
    """Return the output of a network and the embeddings of its tiles, `(bags, tiles, dim)`; `None` if it has none.

    A network of features has no embeddings of its own that are as sensitive as the features; they are taken as they are.
    Otherwise it is what the tile encoder gives.

    Args:
        network: One network.
        tiles: As in `MILNetwork.forward`.
        mask: Likewise.
    """
    if takes(network) == "features" and tiles.ndim == 3:
        return network(tiles, mask), tiles
    if not isinstance(network, MILNetwork):
        return network(tiles, mask), None
    if type(network).forward is MILNetwork.forward and network._compiled_call_impl is None:
        embeddings = network.encode(tiles, mask)
        return network.aggregate(embeddings, mask), embeddings
    # A compiled network, or one with a forward of its own, answers as it does without this.
    output: MILOutput = network(tiles, mask)
    return output, network.encode(tiles, mask)


def pooled(output: MILOutput, embeddings: Tensor) -> Tensor:
    """Return the embeddings of bags, `(bags, dim)` float32: `z = sum_k a_k h_k` with the attention of the output."""
    attention = output.attention.float()
    # A weight of 0 times an infinite feature is not a number; padding and hidden tiles do not count.
    hidden = embeddings.float().masked_fill(attention[..., None] == 0, 0)
    return torch.bmm(attention[:, None], hidden)[:, 0]


def unit(embeddings: Tensor) -> Tensor:
    """Return embeddings of length 1, `(..., dim)` float32; one of zeros stays as it is.

    The length says more of contrast and sharpness than of what is shown, and shorter embeddings are closer to the mean:
    without this a blurred slide is more familiar than a sharp one.

    References:
        Müller, Hein. Mahalanobis++: improving OOD detection via feature normalization. ICML 2025.
    """
    return nn.functional.normalize(embeddings.float(), dim=-1)


def answer_with_distances(
    network: nn.Module, models: Sequence[tuple[ShrunkGaussian, ShrunkGaussian]], tiles: Tensor, mask: Tensor | None
) -> tuple[MILOutput, Distances]:
    """Return the output of a network, or of the folds of an average, and how far the bags are from the training bags.

    Args:
        network: A network, or an `AveragedNetwork`.
        models: Gaussians of bags and tiles, one pair per network.
        tiles: As in `MILNetwork.forward`.
        mask: Likewise.

    Raises:
        ValueError: If a network has no embeddings, or of another width than its model.
    """
    members = list(network.members) if isinstance(network, AveragedNetwork) else [network]
    found = [embed(member, tiles, mask) for member in members]
    outputs = [output for output, _ in found]
    lengths = [tiles.shape[1]] * len(tiles) if mask is None else mask.sum(1).tolist()
    of_bags, of_tiles = [], []
    for (output, embeddings), (bags, rows) in zip(found, models, strict=True):
        if embeddings is None or embeddings.shape[2] != len(bags.mean):
            width = "no" if embeddings is None else embeddings.shape[2]
            raise ValueError(f"the model of familiar slides is of {len(bags.mean)} numbers, the network has {width}")
        of_bags.append(bags.distances(unit(pooled(output, embeddings))).double().cpu().numpy())
        of_tiles.append(rows.distances(unit(embeddings)).cpu().numpy())
    output = network.average(outputs, mask) if isinstance(network, AveragedNetwork) else outputs[0]
    per_bag = [np.stack([rows[bag, :length] for rows in of_tiles]) for bag, length in enumerate(lengths)]
    return output, Distances(np.stack(of_bags, axis=1), per_bag)


def judged_answer(
    network: nn.Module, familiarity: Familiarity | None, tiles: Tensor, mask: Tensor | None = None
) -> tuple[MILOutput, Unfamiliarity | None]:
    """Return the output of a network and how unfamiliar the bags are; `None` without a model of familiar slides.

    Args:
        network: A network, or an `AveragedNetwork`.
        familiarity: Its models of familiar slides.
        tiles: As in `MILNetwork.forward`.
        mask: Likewise.
    """
    if familiarity is None:
        return network(tiles, mask), None
    pairs = [(model.bags, model.tiles) for model in familiarity.models]
    output, distances = answer_with_distances(network, pairs, tiles, mask)
    of_tiles = [familiarity.tile_percent(rows) for rows in distances.tiles]
    return output, familiarity.judge(distances.of_bags())._replace(tiles=of_tiles)
