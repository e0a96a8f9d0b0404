"""Any `torch.nn.Module` as the encoder of a network: what it takes, the width of its output, and how it is built again."""

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any

import torch
from torch import nn

from milpath.records.error_text import reason_of
from milpath.records.plain_values import require_plain

# Key in the description of an encoder: what a module that says nothing of itself was found to be.
FOUND = "found"
# Sides in pixels of the tiles that are tried, the usual ones first.
_TILE_SIZES = (224, 256, 128, 96, 64, 512, 384, 48, 32, 28, 16)


def describe_module(module: nn.Module, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of an encoder that is given as a module, in plain values.

    A module takes tiles unless it says otherwise (`takes`), or only works on features. The width of its output is
    `embedding_dim` if it has this attribute, and otherwise that of what it returns for two tiles.

    Args:
        module: Maps `(tiles, 3, height, width)` in [0, 1] or `(tiles, features)` to `(tiles, embedding_dim)`.
        options: Options of every encoder, such as `frozen`, and `tile_size` in pixels, if it accepts no usual size.

    Returns:
        The name of its class, `options`, the arguments of its class if it keeps all of them as attributes, and under `found`
        what it does not say of itself, and whether its class alone can build it again (`complete`).

    Raises:
        ValueError: If it does not return one vector per tile.
    """
    size = options.get("tile_size")
    arguments = _kept_arguments(module)
    kept = {key: value for key, value in options.items() if key != "tile_size"}
    found: dict[str, Any] = {"complete": arguments is not None}
    declared = getattr(module, "takes", None), getattr(module, "embedding_dim", None)
    if declared[0] not in ("tiles", "features") or type(declared[1]) is not int:
        found |= dict(zip(("takes", "embedding_dim"), _found(module, size), strict=True))
    return {"name": type(module).__name__, FOUND: found} | (arguments or {}) | kept


def described(name: str, module: nn.Module, found: Mapping[str, Any]) -> tuple[str, int]:
    """Return what an encoder takes ("tiles" or "features") and the width of its output.

    Args:
        name: Its name in error messages.
        module: The encoder.
        found: What its description says of it; it may come from a file.

    Raises:
        ValueError: If neither says it.
    """
    takes = found.get("takes", getattr(module, "takes", None))
    width = found.get("embedding_dim", getattr(module, "embedding_dim", None))
    if takes not in ("tiles", "features"):
        raise ValueError(f'encoder {name} must declare takes = "tiles" or takes = "features"')
    if type(width) is not int or width < 1:
        raise ValueError(f"encoder {name} must store the width of its embedding as self.embedding_dim, an int")
    return takes, width


def require_complete(name: str, found: Mapping[str, Any]) -> None:
    """Refuse to build a module again by its class if a description does not hold all its arguments.

    Raises:
        ValueError: With what to give instead.
    """
    if not found.get("complete", True):
        raise ValueError(
            f"the checkpoint does not hold the arguments of the encoder {name}, whose class does not keep them as "
            "attributes; give a module built like the trained one instead: load_network(path, encoders=[my_module])"
        )


def _kept_arguments(module: nn.Module) -> dict[str, Any] | None:
    """Return the constructor's arguments of a module that keeps all of them as plain attributes; otherwise `None`."""
    arguments: dict[str, Any] = {}
    for item in signature(type(module)).parameters.values():
        if item.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD) or not hasattr(module, item.name):
            return None
        arguments[item.name] = getattr(module, item.name)
    try:
        return dict(require_plain(arguments, "the arguments"))
    except ValueError:
        return None


def _found(module: nn.Module, tile_size: int | None) -> tuple[str, int]:
    """Return what a module takes and the width of its output, by trying it."""
    says, reasons = getattr(module, "takes", None), []
    if says != "features":
        for size in _TILE_SIZES if tile_size is None else (tile_size,):
            if isinstance(width := _width_of(module, (3, size, size)), int):
                return "tiles", width
            reasons.append(f"of {size} pixels it {width}")
    of_images = any(isinstance(part, nn.Flatten | nn.Conv2d) for part in module.modules())
    if says != "tiles" and tile_size is None and not of_images:
        named = getattr(module, "num_features", None)
        first = next((part.in_features for part in module.modules() if isinstance(part, nn.Linear)), None)
        for number in (named, first):
            if type(number) is int and isinstance(width := _width_of(module, (number,)), int):
                return "features", width
    tried = f"of {tile_size} pixels" if tile_size else "of any usual size"
    raise ValueError(
        f"the encoder {type(module).__name__} does not return (tiles, embedding_dim) for tiles (tiles, 3, height, width) "
        f"{tried}{f' ({reasons[0]})' if reasons else ''}; pool its output, or give the side of its tiles: "
        'encoder={"name": module, "tile_size": 40}'
    )


def _width_of(module: nn.Module, shape: tuple[int, ...]) -> int | str:
    """Return the width of the vectors that a module returns for two inputs of a shape, or what it does instead."""
    parameter = next(module.parameters(), torch.zeros(0))
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            output = module(torch.zeros(2, *shape, device=parameter.device, dtype=parameter.dtype))
    except Exception as error:  # whatever a module of somebody else raises for a shape that it does not take
        return f"raises {type(error).__name__}: {reason_of(error)}"
    finally:
        for part, mode in training.items():
            part.training = mode
    if not isinstance(output, torch.Tensor):
        return f"returns a {type(output).__name__}"
    if output.ndim != 2 or len(output) != 2:
        return f"returns {tuple(output.shape)} for two"
    return int(output.shape[1])
