"""Does a configuration fit the code it names? Asked before anything is paid for."""

import inspect
from types import NoneType
from typing import Any, get_args

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

_HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


def check_targets(config: DictConfig) -> None:
    """Import everything that a configuration names and compare its keys with the signatures.

    The keys of `data` belong to the source or to the data module, so either signature may have them.

    Args:
        config: Root of the `train` command.

    Raises:
        ValueError: If a name does not exist or an argument is unknown; the message names the key.
    """
    from milpath.data.datamodule import BagDataModule

    options = set(inspect.signature(BagDataModule).parameters) - {"source"}
    content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    _check(content, "", options)


def _check(node: Any, path: str, data_options: set[str]) -> None:
    """Check one entry and all below it."""
    if isinstance(node, list):
        for position, item in enumerate(node):
            _check(item, f"{path}[{position}]", data_options)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        _check(value, f"{path}.{key}" if path else str(key), data_options)
    if (target := node.get("_target_")) is None:
        return
    try:
        found = get_object(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}._target_={target} does not exist ({error})") from None
    try:
        parameters = inspect.signature(found).parameters
    except ValueError:
        # Some classes of C have no signature to look at.
        return
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    allowed = set(parameters) | (data_options if path == "data" else set())
    for key in node:
        if key not in allowed and key not in _HYDRA_KEYS:
            raise ValueError(f"{path}.{key} is no argument of {target}; it has {', '.join(sorted(allowed))}")
        if key in parameters and isinstance(node[key], str) and _is_number(parameters[key].annotation):
            raise ValueError(f"{path}.{key}={node[key]} must be a number")


def _is_number(annotation: Any) -> bool:
    """Return whether an argument takes numbers (or nothing) and no words."""
    kinds = set(get_args(annotation)) or {annotation}
    return bool(kinds & {int, float}) and kinds <= {int, float, bool, NoneType}
