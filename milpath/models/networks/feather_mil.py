"""Gated attention with pretrained FEATHER weights of MIL-Lab."""

from pathlib import Path

import torch
from torch import Tensor

from milpath.models.encoders import EncoderSpec
from milpath.models.encoders.linear import LinearEncoder
from milpath.models.encoders.weights_file import read_weights
from milpath.models.networks.attention_mil import AttentionMIL
from milpath.models.pooling import AttentionPooling

# Names in MIL-Lab's ABMIL (without the prefix "model."), and the modules of this network.
NAMES = {
    "patch_embed.0": "tile_encoder.network.layers.0",
    "global_attn.attention_a.0": "attention_pooling.tanh_layer",
    "global_attn.attention_b.0": "attention_pooling.gate_layer",
    "global_attn.attention_c": "attention_pooling.score_layer",
}
CLASSIFIER = "classifier."


class FeatherMIL(AttentionMIL):
    """Gated attention on a linear layer of features, as pretrained by MIL-Lab to tell 108 classes of cancer apart.

    `h_k = ReLU(W x_k)`, `a = softmax_k(w^T (tanh(V h_k) * sigm(U h_k)))` and logits linear in `sum_k a_k h_k`. FEATHER's own
    classification layer, if its file has one, is left out: the layer for your classes is always new.

    The published weights belong to the features of one encoder each: CONCH v1.5 (768 features), UNI (1024) or UNI 2 (1536).
    They need `model/encoder=linear` with `hidden_dims: [512]` and features that are not standardised. Access is granted at https://huggingface.co/collections/MahmoodLab/feather-6875570e0c755f6c9128a85d
    under CC BY-NC-ND 4.0 (no commercial use).

    Args:
        encoder: Name of an encoder, or a mapping of its name and arguments; with weights, `linear` with one layer.
        num_outputs: Number of logits.
        attention_dim: Width of the hidden layer of the attention.
        dropout: Probability of dropout inside the attention, in [0, 1).
        weights_path: `model.safetensors` or `pytorch_model.bin` of FEATHER; `None` starts from random weights.

    Raises:
        FileNotFoundError: If there is no file of weights.
        ValueError: If there are weights for another encoder than `linear` with one layer, or they do not fit.

    References:
        Shao, Chen, Song, Runevic, Lu, Ding, Mahmood. Do multiple instance learning models transfer? ICML 2025.
    """

    separates_bags = True

    def __init__(
        self,
        encoder: EncoderSpec = "tile_cnn",
        num_outputs: int = 1,
        attention_dim: int = 384,
        dropout: float = 0.25,
        weights_path: str | None = None,
    ) -> None:
        super().__init__(encoder, True, num_outputs, attention_dim)
        inner = self.tile_encoder.network
        if weights_path is not None and not (isinstance(inner, LinearEncoder) and len(inner.hidden_dims) == 1):
            raise ValueError(
                "FEATHER takes features through one linear layer; set model/encoder=linear model.encoder.hidden_dims=[512]"
            )
        self.dropout = dropout
        self.weights_path = weights_path
        self.attention_pooling = AttentionPooling(
            self.tile_encoder.embedding_dim, attention_dim, gated=True, dropout=dropout
        )
        if weights_path is not None:
            load_feather(self, weights_path)


def load_feather(network: AttentionMIL, path: str | Path) -> None:
    """Load the weights of FEATHER into a network, all but its classification layer.

    Args:
        network: A network with the layers of `FeatherMIL`.
        path: A file of MIL-Lab's ABMIL, with or without the prefix "model." of its names.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a weight is missing, left over or of another shape, with its name in the file.
    """
    found = {name.removeprefix("model."): value for name, value in read_weights(Path(path)).items()}
    own = network.state_dict()
    pairs = {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in NAMES.items() for part in ("weight", "bias")}
    body = {name: value for name, value in found.items() if not name.startswith(CLASSIFIER)}
    if missing := sorted(pairs.keys() - body.keys()):
        raise ValueError(f"{path} is not FEATHER: it lacks {len(missing)} weights, first {missing[0]!r}")
    if extra := sorted(body.keys() - pairs.keys()):
        raise ValueError(f"{path} is not FEATHER: {len(extra)} of its weights have no place here, first {extra[0]!r}")
    for theirs, ours in pairs.items():
        _require_shape(path, theirs, body[theirs], own[ours])
    with torch.no_grad():
        for theirs, ours in pairs.items():
            own[ours].copy_(body[theirs])


def _require_shape(path: str | Path, name: str, value: Tensor, own: Tensor) -> None:
    """Refuse a weight of another shape; the first layer tells the number of features."""
    if value.shape == own.shape:
        return
    advice = ""
    if name == "patch_embed.0.weight" and value.ndim == 2:
        advice = f"; its features have {value.shape[1]} values: use the encoder that it was trained with"
    raise ValueError(
        f"{path} does not fit: {name!r} is {tuple(value.shape)}, the network needs {tuple(own.shape)}{advice}"
    )
