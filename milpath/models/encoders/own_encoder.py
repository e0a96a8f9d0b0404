"""Encoders that milpath has no card of: any architecture of timm, an ONNX file, a class in the user's own file."""

import inspect
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from milpath.models.encoders.encoder_card import EncoderCard
from milpath.models.encoders.weights_file import import_extra, load_exactly, read_weights
from milpath.records.error_text import reason_of

_NOT_STATED: dict[str, Any] = {
    "arguments": {},
    "layout": "timm",
    "repository": None,
    "weights_files": [],
    "microns_per_pixel": None,
    "other_tile_sizes": "refuse",
    "mean": [0.0, 0.0, 0.0],
    "std": [1.0, 1.0, 1.0],
    "interpolation": "bilinear",
    "output": "pooled",
    "precision": "32-true",
    "licence": "not stated",
    "gated": False,
    "access": "",
    "paper": "",
}


def facts_of_timm(name: str) -> dict[str, Any]:
    """Return the values of a card for any architecture of timm, from what timm says of it.

    Args:
        name: "timm/ARCHITECTURE" or "timm/ARCHITECTURE.TAG", where the tag names the weights.

    Raises:
        ImportError: If timm is missing.
        ValueError: If timm has no such architecture, or no weights with this tag.
    """
    timm = import_extra("timm")
    architecture = name.removeprefix("timm/")
    base = architecture.partition(".")[0]
    cfg = None
    if ":" not in architecture and timm.is_model(base):
        with suppress(RuntimeError):  # an unknown tag
            cfg = timm.get_pretrained_cfg(architecture)
    if cfg is None:
        raise ValueError(f"timm {timm.__version__} has no architecture {architecture!r}; timm.list_models() lists them")
    with torch.device("meta"):
        network = timm.create_model(base, pretrained=False, num_classes=0)
    address = f"https://huggingface.co/{cfg.hf_hub_id}" if cfg.hf_hub_id else f"timm's list of weights of {base}"
    return _NOT_STATED | {
        "name": name,
        "library": "timm",
        "architecture": base,
        "repository": cfg.hf_hub_id or None,
        "weights_files": ["model.safetensors", "pytorch_model.bin"],
        "tile_size": cfg.input_size[1],
        "other_tile_sizes": "refuse" if cfg.fixed_input_size else "any",
        "mean": list(cfg.mean),
        "std": list(cfg.std),
        "interpolation": cfg.interpolation if cfg.interpolation in ("bilinear", "bicubic") else "bicubic",
        "embedding_dim": network.num_features,
        "num_parameters": sum(parameter.numel() for parameter in network.parameters()),
        "licence": cfg.license or "not stated",
        "access": address,
    }


def own_module(kind: type, spec: Mapping[str, Any], weights_path: str | None) -> tuple[nn.Module, dict[str, Any]]:
    """Return a module of the user's class with its weights, and the values of its card.

    Args:
        kind: A `torch.nn.Module` with `takes = "tiles"` and `embedding_dim`; normalisation is its own.
        spec: Arguments of the class, and values of the card: at least `tile_size`.
        weights_path: A state dict of the module; `None` leaves the weights that its constructor made.

    Raises:
        ValueError: If the class does not accept its arguments or is not an encoder of tiles, or the weights do not fit.
    """
    known = inspect.signature(kind).parameters
    arguments = {key: value for key, value in spec.items() if key in known}
    facts = {key: value for key, value in spec.items() if key not in known or key == "tile_size"}
    if isinstance(stored := facts.pop("arguments", None), Mapping):
        arguments = dict(stored) | arguments
    try:
        network = kind(**arguments)
    except TypeError as error:
        raise ValueError(f"encoder {kind.__name__}: {error}") from None
    if not isinstance(network, nn.Module) or getattr(network, "takes", None) != "tiles":
        raise ValueError(f'encoder {kind.__name__} must be a torch.nn.Module with takes = "tiles"')
    if type(getattr(network, "embedding_dim", None)) is not int:
        raise ValueError(f"encoder {kind.__name__} must store the width of its embedding as self.embedding_dim, an int")
    if weights_path is not None:
        load_exactly(network, read_weights(Path(weights_path)), weights_path, ())
    tile_size = facts.get("tile_size") or getattr(network, "tile_size", None)
    if tile_size is None:
        raise ValueError(f"encoder {kind.__name__}: tile_size must be given, the side of its tiles in pixels")
    return network, _NOT_STATED | facts | {
        "name": kind.__name__,
        "library": "own",
        "architecture": kind.__name__,
        "arguments": arguments,
        "tile_size": tile_size,
        "embedding_dim": network.embedding_dim,
        "num_parameters": sum(parameter.numel() for parameter in network.parameters()),
    }


class OnnxNetwork(nn.Module):
    """A network in an ONNX file, run by onnxruntime; it computes features and cannot be trained.

    A file of `torch.export` is not read: loading one unpickles, so it can run any code. ONNX is data.

    Args:
        path: The file; one input `(tiles, 3, height, width)`, whose first output is `(tiles, features)`.

    Raises:
        ImportError: If onnxruntime is missing.
        ValueError: If the file is damaged or takes something else.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        if not path.is_file():
            raise FileNotFoundError(f"weights_path={path} does not exist")
        runtime = import_extra("onnxruntime", "onnx")
        preferred = [name for name in ("CUDAExecutionProvider",) if name in runtime.get_available_providers()]
        try:
            self.session = runtime.InferenceSession(path, providers=[*preferred, "CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own extension module, derived from Exception
            raise ValueError(f"{path} is not an ONNX network that can be run ({reason_of(error)})") from None
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in ("tensor(float)", "tensor(float16)"):
            raise ValueError(
                f"{path} must have one input of floats (tiles, 3, height, width), not "
                f"{', '.join(f'{item.name} {item.type} {item.shape}' for item in inputs)}"
            )
        self.input = inputs[0].name
        self.dtype = np.float16 if inputs[0].type == "tensor(float16)" else np.float32

    def forward(self, tiles: Tensor) -> Tensor:
        """Return features `(tiles, features)` on the device of the tiles."""
        values = tiles.detach().float().cpu().numpy().astype(self.dtype)
        try:
            features = self.session.run(None, {self.input: values})[0]
        except Exception as error:
            raise ValueError(
                f"the ONNX network does not take tiles of shape {tuple(tiles.shape)} ({reason_of(error)})"
            ) from None
        return torch.from_numpy(np.asarray(features, dtype=np.float32)).to(tiles.device)


def onnx_module(spec: Mapping[str, Any], weights_path: str | None) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network of an ONNX file and the values of its card.

    Args:
        spec: Values of the card: at least `name` and `tile_size`.
        weights_path: The file.

    Raises:
        ValueError: If a value is missing, or the file is not a network that takes tiles of this size.
    """
    if weights_path is None:
        raise ValueError("an ONNX encoder needs its file: give weights_path=FILE.onnx")
    if spec.get("tile_size") is None:
        raise ValueError("an ONNX encoder needs tile_size, the side of its tiles in pixels")
    network = OnnxNetwork(Path(weights_path))
    size = int(spec["tile_size"])
    features = network(torch.zeros(1, 3, size, size))
    if features.ndim != 2:
        raise ValueError(
            f"the first output of {weights_path} must be (tiles, features), not of shape {tuple(features.shape)}"
        )
    found = {"library": "onnx", "architecture": "onnx", "embedding_dim": features.shape[1], "num_parameters": None}
    return network, _NOT_STATED | dict(spec) | found


def find_own(card: EncoderCard, encoders: Iterable[type[nn.Module]]) -> type:
    """Return the user's class that a card names.

    Raises:
        ValueError: If it is not among the given ones: a card names no code to import.
    """
    for kind in encoders:
        if isinstance(kind, type) and kind.__name__ == card.architecture:
            return kind
    raise ValueError(
        f"the encoder {card.name} is a class of its user; give it: parts=[my_parts.{card.architecture}] in a command, "
        f"encoders=[{card.architecture}] in Python"
    )
