"""A pretrained encoder of tiles, built from its card: architecture, normalisation and output rule."""

import copy
import dataclasses
import logging
from collections.abc import Mapping
from itertools import chain
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from milpath.models.encoders.architectures import build_architecture
from milpath.models.encoders.encoder_card import EncoderCard
from milpath.models.encoders.find_weights import find_weights
from milpath.models.encoders.normalisation import Normalisation
from milpath.models.encoders.weights_file import classification_layers, fitting, import_extra, read_weights
from milpath.models.encoders.weights_layout import to_own_names
from milpath.models.folded_norms import fold_batch_norms
from milpath.models.stains import StainNormalisation
from milpath.models.weights_digest import digest_of

_log = logging.getLogger(__name__)


class PretrainedEncoder(nn.Module):
    """An encoder whose card says what it is; without `pretrained` it has random weights, for a checkpoint to fill.

    Args:
        card: The card, or its plain values.
        pretrained: Load the published weights; see `find_weights` for where they are looked for.
        weights_path: File of the weights.
        weights_dir: Folder of weights of several encoders.
        download: Allow the Hugging Face hub.
        network: The network with its weights, for a user's class or an ONNX file.
        digest: Digest of the weights of `network`.

    Attributes:
        card: The card, with the digest of the weights if they were loaded here.
        embedding_dim: Number of features.
        stains: The normalisation of stains of its card; `None` without one.

    Raises:
        FileNotFoundError: If the weights are not on this machine.
        ImportError: If a package of the extra `backbones` is missing.
        ValueError: If the card, the architecture and the weights do not fit each other.
    """

    takes = "tiles"

    def __init__(
        self,
        card: EncoderCard | Mapping[str, Any],
        pretrained: bool = False,
        weights_path: str | None = None,
        weights_dir: str | None = None,
        download: bool = False,
        network: nn.Module | None = None,
        digest: str | None = None,
    ) -> None:
        super().__init__()
        self.card = card if isinstance(card, EncoderCard) else EncoderCard.from_dict(card)
        self.embedding_dim = self.card.embedding_dim
        if self.card.other_tile_sizes == "refuse":
            self.tile_size = self.card.tile_size
        self.normalise = Normalisation(self.card.mean, self.card.std)
        self.stains: StainNormalisation | None = None
        if self.card.stain_target is not None:
            self.stains = StainNormalisation(self.card.stain_normalisation, self.card.stain_target)
        loaded = network is not None or pretrained or weights_path is not None
        if network is None and loaded:
            network, digest = _loaded_network(self.card, weights_path, weights_dir, download)
        self.network = build_architecture(self.card) if network is None else network
        if digest is not None:
            if self.card.weights_sha256 not in (None, digest):
                raise ValueError(
                    f"other weights of {self.card.name} were asked for ({str(self.card.weights_sha256)[:12]}) than were "
                    f"found ({digest[:12]}); give weights_path=FILE"
                )
            self.card = dataclasses.replace(self.card, weights_sha256=digest)
        self._first_batch = loaded
        self._resizes = False  # whether the user was told

    def forward(self, tiles: Tensor, stain_values: Tensor | None = None) -> Tensor:
        """Return features `(tiles, embedding_dim)` of tiles `(tiles, 3, height, width)` in [0, 1].

        Args:
            tiles: The tiles.
            stain_values: With stain normalisation: how the bag of each tile is changed, `(tiles, values)`, from
                `stains.values_of`. Tiles do not say which bag they are of.

        Raises:
            ValueError: If the values are missing.
        """
        network: Any = self.network
        if self.stains is not None:
            if stain_values is None:
                raise ValueError(
                    f"the encoder {self.card.name} normalises stains bag by bag and was not told the bags of these tiles; "
                    "set stain_normalisation=none, or give stain_values"
                )
            tiles = self.stains.recolour(tiles, stain_values)
        normalised = self.normalise(self._in_size(tiles))
        if self.card.output == "pooled":
            features: Tensor = network(normalised).flatten(1)
        else:
            tokens = network.forward_features(normalised)
            features = tokens[:, 0]
            if self.card.output == "class_and_mean":
                # Registers stand between the class token and those of the patches.
                features = torch.cat([features, tokens[:, network.num_prefix_tokens :].mean(1)], dim=1)
        if self._first_batch:
            self._first_batch = False
            require_sound_features(features.detach(), tiles, self.card.name)
        return features

    def with_folded_norms(self, tile_size: int) -> Self:
        """Return this encoder with batch normalisation as part of its convolutions, which is faster on a CPU.

        Features differ by rounding only. Weights that are not folded are shared; an encoder without batch normalisation,
        such as a vision transformer, is returned itself.

        Args:
            tile_size: Side of the tiles that it will get, in pixels.
        """
        if self.card.output != "pooled" or self.training:
            return self
        draw = torch.Generator().manual_seed(0)
        example = self.normalise(self._in_size(torch.rand(2, 3, tile_size, tile_size, generator=draw)))
        network = fold_batch_norms(self.network, example.contiguous(memory_format=torch.channels_last))
        if network is self.network:
            return self
        folded = copy.copy(self)
        folded._modules = dict(self._modules)  # a copy shares the mapping
        folded.network = network
        return folded

    def _in_size(self, tiles: Tensor) -> Tensor:
        """Return the tiles in the size that the encoder takes."""
        size = self.card.tile_size
        if tiles.shape[-2:] == (size, size) or self.card.other_tile_sizes == "any":
            return tiles
        if self.card.other_tile_sizes == "refuse":
            raise ValueError(
                f"the encoder {self.card.name} takes tiles of {size} px, not {tiles.shape[-1]} px; "
                f"cut the slides with tile_size={size}"
            )
        if not self._resizes:
            self._resizes = True
            _log.warning("%s resizes tiles of %d px to the %d px that it takes", self.card.name, tiles.shape[-1], size)
        mode = self.card.interpolation
        resized = F.interpolate(tiles, size=(size, size), mode=mode, align_corners=False, antialias=True)
        return resized.clamp(0, 1)  # bicubic interpolation overshoots at edges


def require_sound_features(features: Tensor, tiles: Tensor, name: str) -> None:
    """Refuse features that are not finite or the same for different tiles: the weights are not those of the network.

    Args:
        features: `(tiles, embedding_dim)`.
        tiles: `(tiles, 3, height, width)`, which they were computed from.
        name: Name of the encoder, for the error message.

    Raises:
        ValueError: If the features are not finite or collapsed.
    """
    if not bool(torch.isfinite(features).all()):
        raise ValueError(f"the features of {name} are not finite; try precision=32-true, or get its weights again")
    features = features.float()
    scale = features.abs().mean().clamp(min=1e-12)
    if bool(features.std(1).max() < 1e-5 * scale):
        raise ValueError(f"the features of {name} are all the same number; its weights are not those of this encoder")
    if len(features) > 1 and bool((features.std(0).max() < 1e-5 * scale) & (tiles.float().std(0).max() > 0.01)):
        raise ValueError(
            f"the features of {name} are the same for different tiles; its weights are not those of this encoder"
        )


def _loaded_network(
    card: EncoderCard, weights_path: str | None, weights_dir: str | None, download: bool
) -> tuple[nn.Module, str]:
    """Return the network with its weights in float32, and their digest."""
    import_extra("timm")  # before a missing file is spoken of
    path = find_weights(card, weights_path, weights_dir, download)
    # Random numbers for a billion weights that are replaced at once would take longer than reading them.
    with torch.device("meta"):
        network = build_architecture(card)
    own = network.state_dict()
    published = to_own_names(read_weights(path), own, card.layout, str(path))
    weights = fitting(own, published, str(path), classification_layers(network))
    weights = {
        name: value.to(torch.float32, copy=True) if value.is_floating_point() else value.clone()
        for name, value in weights.items()
    }
    network.load_state_dict(weights, assign=True)
    if any(tensor.is_meta for tensor in chain(network.parameters(), network.buffers())):
        # Buffers that are computed, not stored, exist only in a network that was built on a real device.
        network = build_architecture(card)
        network.load_state_dict(weights)
    return network, digest_of(weights)
