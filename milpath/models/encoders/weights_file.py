"""Files of pretrained weights: read without executing anything, and fitted to a network tensor by tensor."""

import importlib
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from milpath.models.finite import describe_non_finite_weights
from milpath.models.torch_file import is_plain_tensor, load_plain
from milpath.records.error_text import reason_of

# A state dict may be nested under one of these keys.
_NESTED = ("state_dict", "model")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Args:
        path: A state dict saved by torch, at the top level or under the key "state_dict" or "model", or a `.safetensors`
            file. Only tensors and plain values are read: nothing in the file is executed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is truncated or contains something other than finite tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights_path={path} does not exist")
    if path.suffix == ".pt2":
        raise ValueError(
            f"{path}: a file of torch.export can run code when it is read; export the network to ONNX instead"
        )
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    weights = next((content[key] for key in _NESTED if key in content), content) if isinstance(content, dict) else None
    if (
        not isinstance(weights, dict)
        or not weights
        or not all(isinstance(name, str) and is_plain_tensor(value) for name, value in weights.items())
    ):
        raise ValueError(f"{path} does not contain plain weights; save a state_dict with only names and dense tensors")
    if (found := describe_non_finite_weights(weights)) is not None:
        raise ValueError(f"{path}: {found}; download or train it again")
    return weights


def load_exactly(network: nn.Module, weights: Mapping[str, Tensor], source: str, heads: Iterable[str]) -> None:
    """Load weights into a network: none may be missing, of another shape or left over, a classification layer aside.

    A tensor left over is as wrong as a missing one: a network without LayerScale takes the weights of one with it, and
    returns other features without an error.

    Args:
        network: The network, without its classification layer.
        weights: Name to tensor.
        source: Where the weights come from, for the error message.
        heads: Modules that are the classification layer in the file and may be left over.

    Raises:
        ValueError: With the first tensor that does not fit.
    """
    network.load_state_dict(fitting(network.state_dict(), weights, source, heads))


def fitting(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: str, heads: Iterable[str]
) -> dict[str, Tensor]:
    """Return the weights of a network from those of a file; see `load_exactly`.

    Args:
        own: The state dict of the network, which may be on the meta device.
        weights: Name to tensor.
        source: Where the weights come from, for the error message.
        heads: Modules that may be left over.
    """
    if missing := sorted(own.keys() - weights.keys()):
        raise ValueError(
            f"{source} lacks {len(missing)} weights of the network, first {missing[0]!r}; its first is "
            f"{next(iter(weights), None)!r}"
        )
    head = tuple(f"{name}." for name in heads)
    if extra := sorted(name for name in weights.keys() - own.keys() if not name.startswith(head)):
        raise ValueError(
            f"{source} has {len(extra)} weights that the network lacks, first {extra[0]!r}; "
            "they are weights of another architecture"
        )
    for name, value in own.items():
        if weights[name].shape != value.shape:
            raise ValueError(
                f"{source} does not fit the network: {name!r} is {tuple(weights[name].shape)}, not {tuple(value.shape)}"
            )
        if value.is_floating_point() and not weights[name].is_floating_point():
            raise ValueError(f"{source} does not fit the network: {name!r} is {weights[name].dtype}, not {value.dtype}")
    return {name: weights[name] for name in own}


def classification_layers(network: nn.Module) -> tuple[str, ...]:
    """Return the names of the classification layers of a timm network, which it may have lost."""
    cfg: Any = getattr(network, "pretrained_cfg", None) or {}
    names = cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def import_extra(name: str, extra: str = "backbones") -> Any:
    """Import a package of an extra; the error says how to install it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        package = name.partition(".")[0]
        raise ImportError(f"this encoder needs the package {package}: pip install 'milpath[{extra}]'") from None


def _read_torch(path: Path) -> Any:
    """Read a torch file, tensors and plain values only."""
    try:
        return load_plain(path, mapped=zipfile.is_zipfile(path))
    except OSError:
        raise
    except Exception as error:  # other bytes can raise anything
        known = isinstance(error, pickle.UnpicklingError | RuntimeError | ValueError)
        reason = reason_of(error) if known else "it is no file of torch.save, or damaged"
        raise ValueError(f"{path} does not contain plain weights ({reason}); save a state_dict") from None


def _read_safetensors(path: Path) -> Any:
    """Read a safetensors file, the format in which timm's weights are published."""
    refusal = import_extra("safetensors").SafetensorError
    try:
        return import_extra("safetensors.torch").load_file(path)
    except refusal as error:
        raise ValueError(f"{path} does not contain plain weights ({reason_of(error)})") from None
