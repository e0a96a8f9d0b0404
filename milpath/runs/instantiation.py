"""Instantiation of configuration entries; nothing else calls `hydra.utils.instantiate`. Finds the user's own files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from milpath.config.own_parts import look_in_working_folder
from milpath.records.error_text import reason_of


def object_named(name: str, where: str) -> Any:
    """Return the class or function of a dotted name.

    Args:
        name: Dotted name from the user's configuration.
        where: Key of the name, for the error message: "model.encoder".

    Raises:
        ValueError: If it does not exist.
    """
    look_in_working_folder()
    try:
        return get_object(name)
    except Exception as error:  # Hydra raises several kinds of exceptions if it finds nothing
        raise ValueError(f"{where}: {reason_of(error)}") from None


def instantiate_entry(config: DictConfig | Mapping[str, Any] | None, **arguments: Any) -> Any:
    """Return the object of an entry, or None for an empty one; errors of its constructor are raised instead of Hydra's.

    Args:
        config: A `_target_` and its arguments.
        **arguments: Further arguments.

    Raises:
        ValueError: If there is no `_target_`, it does not exist, or it does not accept its arguments.
    """
    if not config:
        return None
    if (target := config.get("_target_")) is None:
        raise ValueError(f"a configuration entry has no _target_: {dict(config)}")
    look_in_working_folder()
    try:
        return instantiate(_literal(config), **arguments, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, TypeError):
            raise ValueError(f"{target} does not accept its arguments: {error.__cause__}") from error.__cause__
        if error.__cause__ is not None and not isinstance(error.__cause__, ImportError):
            raise error.__cause__ from None
        raise ValueError(f"{target}: {error}") from None


def _literal(config: DictConfig | Mapping[str, Any]) -> Any:
    """Return an entry in which a resolved path with `${` stays text: Hydra would resolve the string once more."""
    content = OmegaConf.to_container(config, resolve=True) if isinstance(config, DictConfig) else config
    return _paths_in(content) if "${" in str(content) else config


def _paths_in(value: Any) -> Any:
    """Return a value whose strings with `${` are paths, which OmegaConf does not resolve."""
    if isinstance(value, Mapping):
        return {key: _paths_in(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_paths_in(item) for item in value]
    return Path(value) if isinstance(value, str) and "${" in value else value
