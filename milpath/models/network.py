"""Base class of all networks: an encoder of tiles, followed by an aggregation of the bag."""

from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec, TileEncoder
from milpath.models.output import MILOutput


class MILNetwork(nn.Module):
    """A network in two steps: `encode` each tile, then `aggregate` the bag; `forward` runs both.

    Args:
        encoder: Name of an encoder, any `torch.nn.Module` that maps tiles to `(tiles, embedding_dim)`, or a mapping of the
            name (or your own encoder class, or a module) and arguments (see `milpath.models.encoders`).
        num_outputs: Number of logits: 1 for two classes, K for K classes, K - 1 for K ordered classes.

    Attributes:
        auxiliary_parts: Names of layers that the logits do not depend on and that only an auxiliary loss trains.
        learns_attention: Whether attention has weights of its own, and is not that of a fixed pooling.
    """

    auxiliary_parts: tuple[str, ...] = ()
    learns_attention: bool = True

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
        return self.aggregate(self.encode(tiles, mask), mask)

    def encode(self, tiles: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the embedding of each tile, `(bags, tiles, embedding_dim)`, 0 on padding."""
        embeddings: Tensor = self.tile_encoder(tiles, mask)
        return embeddings

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> MILOutput:
        """Return logits and attention of embedded bags."""
        raise TypeError(f"{type(self).__name__} must define aggregate(embeddings, mask)")
