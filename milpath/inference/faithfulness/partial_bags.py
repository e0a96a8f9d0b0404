"""Predictions of parts of a bag: tiles are encoded once, and only the aggregation is repeated."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from milpath.inference.faithfulness.explained_quantity import Explained, Question
from milpath.models.averaged_network import AveragedNetwork
from milpath.models.network import MILNetwork
from milpath.models.output import MILOutput

# Bytes of the embeddings of a batch of parts.
BATCH_BYTES = 32 << 20
# Tiles that are encoded at a time.
_TILES_AT_A_TIME = 256
Rows = NDArray[np.int64]


class PartialBags:
    """A bag of which parts are predicted.

    A part is the bag without some of its tiles: they are left out as if they had not been cut, not painted over. A network
    of bags takes any number of tiles, so that no replacement has to be chosen, which other networks need and which decides
    their result.

    Networks of this library encode each tile by itself: the embeddings are computed once, and so are those of each member of
    an average. A network with a `forward` of its own gets the tiles of each part instead.

    Args:
        network: A network in evaluation mode.
        tiles: `(1, tiles, ...)`, the input of the network.

    Attributes:
        num_tiles: Number of tiles.
    """

    def __init__(self, network: nn.Module, tiles: Tensor) -> None:
        self.num_tiles = int(tiles.shape[1])
        self._network = network
        self._members = _separable(network)
        with torch.no_grad():
            self._embeddings = [_encode(member, tiles) for member in self._members] or [tiles]
        width = sum(4 * embedding[0, 0].numel() for embedding in self._embeddings)
        self._tiles_per_batch = max(1, BATCH_BYTES // width)

    @property
    def embeddings(self) -> Sequence[Tensor]:
        """The input of the aggregation, `(1, tiles, ...)`, one per member of an average."""
        return self._embeddings

    def output(self, embeddings: Sequence[Tensor], mask: Tensor | None = None) -> MILOutput:
        """Return the output for embeddings, which need not be those of this bag."""
        if not self._members:
            whole: MILOutput = self._network(embeddings[0], mask)
            return whole
        outputs = [member.aggregate(each, mask) for member, each in zip(self._members, embeddings, strict=True)]
        return self._network.average(outputs, mask) if isinstance(self._network, AveragedNetwork) else outputs[0]

    def values(self, parts: Iterable[Rows], question: Question, explained: Explained) -> NDArray[np.float64]:
        """Return the watched values of parts of the bag, `(parts, 2)`.

        Args:
            parts: Positions of the tiles that stay, at least one; read as they are needed.
            question: What is watched.
            explained: What is explained of this bag.
        """
        found: list[NDArray[np.float64]] = []
        batch: list[Rows] = []
        longest = 0
        for part in parts:
            longer = max(longest, len(part))
            if batch and (len(batch) + 1) * longer > self._tiles_per_batch:
                found.append(self._values_of(batch, question, explained))
                batch, longer = [], len(part)
            batch.append(part)
            longest = longer
        if batch:
            found.append(self._values_of(batch, question, explained))
        return np.concatenate(found) if found else np.empty((0, 2))

    def _values_of(self, parts: Sequence[Rows], question: Question, explained: Explained) -> NDArray[np.float64]:
        lengths = np.array([len(part) for part in parts])
        rows = np.zeros((len(parts), int(lengths.max())), np.int64)
        for row, part in zip(rows, parts, strict=True):
            row[: len(part)] = np.sort(part)  # in the order of the bag, which networks with positions see
        device = self._embeddings[0].device
        mask = torch.from_numpy(np.arange(rows.shape[1]) < lengths[:, None]).to(device)
        chosen = torch.from_numpy(rows).to(device)
        with torch.inference_mode():
            # Padding is 0, as in every batch.
            gathered = [each[0][chosen] for each in self._embeddings]
            if not bool(mask.all()):
                gathered = [each * mask.reshape(*mask.shape, *(1,) * (each.ndim - 2)) for each in gathered]
            output = self.output(gathered, None if bool(mask.all()) else mask)
            return question.values(output.logits, explained).cpu().numpy()


def _separable(network: nn.Module) -> list[MILNetwork]:
    """Return the networks that encode tiles one by one and then aggregate: itself, or the members; empty for others."""
    members = list(network.members) if isinstance(network, AveragedNetwork) else [network]
    found = [each for each in members if isinstance(each, MILNetwork) and type(each).forward is MILNetwork.forward]
    return found if len(found) == len(members) else []


def _encode(network: MILNetwork, tiles: Tensor) -> Tensor:
    """Return the embeddings of the tiles of one bag, with the memory of some of them."""
    if network.tile_encoder.stains is not None:  # stains are those of the whole bag
        return network.encode(tiles)
    return torch.cat([network.encode(part) for part in tiles.split(_TILES_AT_A_TIME, dim=1)], dim=1)
