"""Clustering-constrained attention, single branch."""

from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.network import MILNetwork
from milpath.models.output import MILOutput
from milpath.models.pooling import AttentionPooling, full_mask, masked_softmax, weighted_sum


class CLAMSB(MILNetwork):
    """Gated attention with one instance classifier per class, trained by the auxiliary clustering loss.

    The bag is classified as by gated attention. For each class a linear layer separates strongly attended tiles from
    weakly attended ones. Its loss is in `milpath.training.auxiliary_losses`; this network only returns the logits.

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments.
        num_outputs: Number of logits.
        hidden_dim: Width of the layer before the attention.
        attention_dim: Width of the hidden layer of the attention.
        dropout: Probability of dropout after the hidden layer, in [0, 1).
        num_instance_classes: Number of instance classifiers, one per class. `None` means 2 for one logit, otherwise the
            number of logits. Ordered classes (K - 1 logits) need K.

    References:
        Lu, Williamson, Chen, Chen, Barbieri, Mahmood. Data-efficient and weakly supervised computational pathology on
        whole-slide images. Nature Biomedical Engineering 2021, eq. 1-4.
    """

    auxiliary_parts = ("instance_layers",)
    option_of_classes = "num_instance_classes"
    separates_bags = True

    def __init__(
        self,
        encoder: EncoderSpec = "tile_cnn",
        num_outputs: int = 1,
        hidden_dim: int = 512,
        attention_dim: int = 256,
        dropout: float = 0.25,
        num_instance_classes: int | None = None,
    ) -> None:
        super().__init__(encoder, num_outputs)
        self.hidden_dim = hidden_dim
        self.attention_dim = attention_dim
        self.dropout = dropout
        self.hidden_layers = nn.Sequential(
            nn.Linear(self.tile_encoder.embedding_dim, hidden_dim), nn.ReLU(), nn.Dropout(dropout)
        )
        self.attention_pooling = AttentionPooling(hidden_dim, attention_dim, gated=True)
        self.classification_layer = nn.Linear(hidden_dim, num_outputs)
        self.num_instance_classes = num_instance_classes
        count = num_instance_classes or max(2, num_outputs)
        self.instance_layers = nn.ModuleList(nn.Linear(hidden_dim, 2) for _ in range(count))

    def encode(self, tiles: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the hidden embedding of each tile, `(bags, tiles, hidden_dim)`."""
        hidden: Tensor = self.hidden_layers(super().encode(tiles, mask))
        return hidden if mask is None else hidden * mask[..., None]

    def instance_logits(self, embeddings: Tensor, label: int) -> Tensor:
        """Return two logits per tile (not in the class, in the class) for tiles `(tiles, hidden_dim)`.

        Raises:
            ValueError: If the class has no instance classifier.
        """
        if not 0 <= label < len(self.instance_layers):
            raise ValueError(
                f"class {label} has no instance classifier: the network has {len(self.instance_layers)}; "
                f"set model.{self.option_of_classes} to the number of classes"
            )
        logits: Tensor = self.instance_layers[label](embeddings)
        return logits

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> MILOutput:
        mask = full_mask(embeddings, mask)
        attention = masked_softmax(self.attention_pooling(embeddings), mask)
        return MILOutput(self.classification_layer(weighted_sum(attention, embeddings)), attention)
