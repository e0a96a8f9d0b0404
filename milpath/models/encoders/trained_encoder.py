"""The encoder of a network's training features: opened from the card of the network, run as when it was trained."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from milpath.models.encoders.encoder_card import EncoderCard
from milpath.models.encoders.find_weights import find_weights
from milpath.models.encoders.open_encoder import open_encoder
from milpath.models.encoders.pretrained_encoder import PretrainedEncoder
from milpath.models.network_input import takes
from milpath.models.stains import StainNormalisation

PRECISIONS = {"32-true": None, "16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
# Stores of features are float16 unless the card of the network says otherwise.
_DTYPE = "float16"


def describes_encoder(content: Mapping[str, Any]) -> bool:
    """Return whether the entry `encoder` of a network's card is enough to open it; that of other programs is not."""
    return "architecture" in content


def encoder_facts(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the encoder's own card; `dtype` is of the features."""
    return {key: value for key, value in content.items() if key != "dtype"}


def features_dtype(content: Mapping[str, Any]) -> str:
    """Return the type of the training features, "float16" or "float32"."""
    return str(content.get("dtype", _DTYPE))


def open_trained_encoder(
    content: Mapping[str, Any],
    *,
    weights_path: str | None = None,
    weights_dir: str | None = None,
    encoders: Iterable[type[nn.Module]] = (),
) -> PretrainedEncoder:
    """Return the encoder of a network's training features, with the same weights.

    Args:
        content: The entry `encoder` of the network's card.
        weights_path: File of the weights, whose digest must be that of the training.
        weights_dir: Folder of weights of several encoders.
        encoders: The user's own classes, which a card names.

    Raises:
        FileNotFoundError: If the weights are not on this machine.
        ValueError: If the card is too short, or the weights are others.
    """
    card = EncoderCard.from_dict(encoder_facts(content))
    try:
        return open_encoder(card, weights_path=weights_path, weights_dir=weights_dir, encoders=encoders)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"the network takes features of {card.name}: {_as_typed(error, card)}") from None


def require_weights_used(network: nn.Module, weights_path: str | None) -> None:
    """Refuse weights of an encoder for a network of tiles, whose checkpoint holds those of its own.

    Args:
        network: The network.
        weights_path: The option `encoder_weights_path`.

    Raises:
        ValueError: If they are given and the network takes tiles.
    """
    if weights_path is not None and takes(network) == "tiles":
        raise ValueError(
            f"encoder_weights_path={weights_path} is for a network of features; this one takes tiles, and its checkpoint "
            "holds the weights of its encoder; leave it out"
        )


def weights_of_trained(
    content: Mapping[str, Any], weights_path: str | None = None, weights_dir: str | None = None
) -> Path:
    """Return the file of the weights of the encoder of a network's training features.

    Raises:
        FileNotFoundError: If it is not on this machine.
    """
    card = EncoderCard.from_dict(encoder_facts(content))
    try:
        return find_weights(card, weights_path, weights_dir)
    except FileNotFoundError as error:
        raise FileNotFoundError(_as_typed(error, card)) from None


def stains_of(encoder: nn.Module) -> StainNormalisation | None:
    """Return the stain normalisation that is part of an encoder; `None` without one."""
    found = getattr(encoder, "stains", None)
    return found if isinstance(found, StainNormalisation) else None


def encode_tiles(
    encoder: nn.Module, tiles: Tensor, content: Mapping[str, Any], stain_values: Tensor | None = None
) -> Tensor:
    """Return the features of tiles as a store of the training would hold them.

    Args:
        encoder: The opened encoder, on the device of the tiles.
        tiles: `(tiles, 3, height, width)` in [0, 1].
        content: The entry `encoder` of the network's card.
        stain_values: How the bag of each tile is changed, `(tiles, values)`; for an encoder that normalises stains.

    Returns:
        float32 `(tiles, embedding_dim)`, rounded to the type of the training features.
    """
    precision = PRECISIONS[str(content.get("precision", "32-true"))]
    with torch.inference_mode(), torch.autocast(tiles.device.type, dtype=precision, enabled=precision is not None):
        features: Tensor = encoder(tiles) if stain_values is None else encoder(tiles, stain_values)
    return features.to(getattr(torch, features_dtype(content))).float()


class TrainedEncoder(nn.Module):
    """The encoder of a network's training features as a frozen part, which gives the features that a store would hold.

    Args:
        encoder: The opened encoder.
        content: The entry `encoder` of the network's card.
    """

    frozen = True
    # Set while parts of one bag are encoded: how the whole bag is changed, `(1, values)`.
    _values_of_bag: Tensor | None = None

    def __init__(self, encoder: PretrainedEncoder, content: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = encoder
        self.content = dict(content)
        # Whatever changes features: they are kept on disk under this name and the hash of the weights.
        self.name = "-".join(
            (encoder.card.name, str(content.get("precision", "32-true")), features_dtype(content), encoder.card.output)
        )

    @property
    def stains(self) -> StainNormalisation | None:
        """The stain normalisation of the encoder; `None` without one."""
        return stains_of(self.network)

    @contextmanager
    def parts_of_bag(self, sample: Tensor) -> Iterator[None]:
        """Within this context all tiles are parts of one bag: its stains are those of the sample.

        Args:
            sample: `(tiles, 3, height, width)` in [0, 1]: the tiles of the bag that `sampled_tiles` names.
        """
        self._values_of_bag = None if self.stains is None else self.stains.values_of(sample[None])
        try:
            yield
        finally:
            self._values_of_bag = None

    def forward(self, tiles: Tensor) -> Tensor:
        """Return features `(bags, tiles, embedding_dim)` of tiles `(bags, tiles, 3, height, width)` in [0, 1]."""
        values = self._values_of_bag
        if self.stains is not None:
            values = self.stains.values_of(tiles) if values is None else values
            values = values.repeat_interleave(tiles.shape[0] * tiles.shape[1] // len(values), dim=0)
        features = encode_tiles(self.network, tiles.flatten(0, 1), self.content, values)
        return features.reshape(*tiles.shape[:2], -1)


def _as_typed(error: Exception, card: EncoderCard) -> str:
    """Return the message with the options as they are named beside a checkpoint, where nothing is downloaded."""
    text = str(error).replace("weights_path=", "encoder_weights_path=")
    return text.replace("give download=true", f"run milpath encoders check {card.name} download=true")
