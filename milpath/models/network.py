"""Base class of all networks: an encoder of tiles, followed by an aggregation of the bag."""

import torch
from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec, LinearEncoder, TileEncoder
from milpath.models.output import MILOutput, joined

# Features per bag of a padded batch, on average, from which bags are computed one after another on a CPU: then a copy of
# all embeddings with padding takes longer than the calls for each bag.
_LONG_BAG = 2**20


class MILNetwork(nn.Module):
    """A network in two steps: `encode` each tile, then `aggregate` the bag; `forward` runs both.

    Args:
        encoder: Name of an encoder, any `torch.nn.Module` that maps tiles to `(tiles, embedding_dim)`, or a mapping of the
            name (or your own encoder class, or a module) and arguments (see `milpath.models.encoders`).
        num_outputs: Number of logits: 1 for two classes, K for K classes, K - 1 for K ordered classes.

    Attributes:
        auxiliary_parts: Names of layers that the logits do not depend on and that only an auxiliary loss trains.
        learns_attention: Whether attention has weights of its own, and is not that of a fixed pooling.
        separates_bags: Whether the output for a bag depends on no other bag of the batch, and dropout is all that is random
            in it. A subclass declares it itself, since it may compute something else.
    """

    auxiliary_parts: tuple[str, ...] = ()
    learns_attention: bool = True
    separates_bags: bool = False

    def __init__(self, encoder: EncoderSpec, num_outputs: int) -> None:
        super().__init__()
        if num_outputs < 1:
            raise ValueError(f"num_outputs must be at least 1, not {num_outputs}")
        self.tile_encoder = TileEncoder(encoder)
        self.encoder = self.tile_encoder.spec
        self.num_outputs = num_outputs

    def forward(self, tiles: Tensor, mask: Tensor | None = None) -> MILOutput:
        """Return logits and attention of a batch of bags.

        Args:
            tiles: `(bags, tiles, channels, height, width)` in [0, 1], or `(bags, tiles, features)`.
            mask: bool `(bags, tiles)`, True for a real tile; `None` if all are real.

        Raises:
            ValueError: If a bag has no real tile or shapes do not fit.
        """
        if mask is not None and (lengths := self._lengths_of_long_bags(tiles, mask)):
            bags = [bag[None, :length] for bag, length in zip(tiles, lengths, strict=True)]
            return joined([self.aggregate(self.encode(bag)) for bag in bags], tiles.shape[1])
        return self.aggregate(self.encode(tiles, mask), mask)

    def _lengths_of_long_bags(self, tiles: Tensor, mask: Tensor) -> list[int]:
        """Return the lengths of bags that are computed one after another with the same result, without padding.

        Empty if they are computed together: bags that are not long, on a GPU, in a compiled graph, where dropout would draw
        other numbers, or where tiles are not encoded one by one.
        """
        if torch.compiler.is_compiling() or tiles.device.type != "cpu" or tiles.ndim != 3:
            return []
        if mask.dtype != torch.bool or mask.shape != tiles.shape[:2]:
            return []
        if tiles.numel() < _LONG_BAG * len(tiles) or not vars(type(self)).get("separates_bags", False):
            return []
        if type(self.tile_encoder.network) is not LinearEncoder or (self.training and _drops(self)):
            return []
        lengths: list[int] = mask.sum(1).tolist()
        if min(lengths) == 0 or sum(lengths) * tiles.shape[2] < _LONG_BAG * len(lengths):
            return []
        # Padding is after the tiles, as a batch of this library has it.
        return lengths if all(bool(real[:length].all()) for real, length in zip(mask, lengths, strict=True)) else []

    def encode(self, tiles: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the embedding of each tile, `(bags, tiles, embedding_dim)`, 0 on padding."""
        embeddings: Tensor = self.tile_encoder(tiles, mask)
        return embeddings

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> MILOutput:
        """Return logits and attention of embedded bags."""
        raise TypeError(f"{type(self).__name__} must define aggregate(embeddings, mask)")


def _drops(network: nn.Module) -> bool:
    """Return whether a network has dropout."""
    return any(isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0 for part in network.modules())
