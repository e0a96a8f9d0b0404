"""Clustering-constrained attention, multiple branches."""

from torch import Tensor, nn

from milpath.models.encoders import EncoderSpec
from milpath.models.networks.clam_sb import CLAMSB
from milpath.models.output import DetailedMILOutput, MILOutput
from milpath.models.pooling import AttentionPooling, full_mask, masked_softmax


class CLAMMB(CLAMSB):
    """Gated attention with one set of weights, one bag embedding and one instance classifier per class.

    On a shared hidden layer, `a_c = softmax_k(w_c^T (tanh(V h_k) * sigm(U h_k)))`, `z_c = sum_k a_ck h_k` and the score of
    class c is `s_c = v_c^T z_c + b_c`. K logits are the scores. One logit fewer than classes is cumulative:
    `log P(y > k) - log P(y <= k)` with `P = softmax(s)`, which for two classes is `s_1 - s_0`. `class_attention` holds the
    weights of each class; attention is their mean.

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments.
        num_outputs: Number of logits.
        hidden_dim: Width of the layer before the attention.
        attention_dim: Width of the hidden layer of the attention.
        dropout: Probability of dropout after the hidden layer and inside the attention, in [0, 1).
        num_classes: Number of attention branches and instance classifiers, one per class. `None` means 2 for one logit,
            otherwise the number of logits. Ordered classes (K - 1 logits) need K.

    Raises:
        ValueError: If the number of classes is neither the number of logits nor one more.

    References:
        Lu, Williamson, Chen, Chen, Barbieri, Mahmood. Data-efficient and weakly supervised computational pathology on
        whole-slide images. Nature Biomedical Engineering 2021, eq. 1-4 (multi-branch).
    """

    option_of_classes = "num_classes"
    separates_bags = True

    def __init__(
        self,
        encoder: EncoderSpec = "tile_cnn",
        num_outputs: int = 1,
        hidden_dim: int = 512,
        attention_dim: int = 256,
        dropout: float = 0.25,
        num_classes: int | None = None,
    ) -> None:
        count = num_classes or max(2, num_outputs)
        if count not in (num_outputs, num_outputs + 1):
            raise ValueError(f"num_classes={count} does not fit {num_outputs} logits; it must be {num_outputs + 1}")
        super().__init__(encoder, num_outputs, hidden_dim, attention_dim, dropout, count)
        self.num_classes = num_classes
        self.attention_pooling = AttentionPooling(hidden_dim, attention_dim, True, count, dropout)
        self.classification_layer = nn.Linear(hidden_dim, count)

    def aggregate(self, embeddings: Tensor, mask: Tensor | None = None) -> MILOutput:
        mask = full_mask(embeddings, mask)
        scores = self.attention_pooling(embeddings)
        attention = masked_softmax(scores, mask[:, None].expand_as(scores), dim=2)
        pooled = attention.to(embeddings.dtype) @ embeddings
        # Row c of the weights belongs to class c, whose embedding is pooled[:, c].
        layer = self.classification_layer
        classes = (pooled * layer.weight).sum(2) + layer.bias
        logits = classes if classes.shape[1] == self.num_outputs else _cumulative(classes)
        return DetailedMILOutput(logits, attention.mean(1), class_attention=attention)


def _cumulative(scores: Tensor) -> Tensor:
    """Return `log P(y > k) - log P(y <= k)` for each k below the last class, `(bags, classes - 1)`."""
    above = scores.flip(1).logcumsumexp(1).flip(1)[:, 1:]
    return above - scores.logcumsumexp(1)[:, :-1]
