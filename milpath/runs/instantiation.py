"""The only place that instantiates what a configuration names; the user's own files are found from here too."""

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig

from milpath.config.own_parts import look_in_working_folder
from milpath.records.error_text import reason_of


def object_named(name: str, where: str) -> Any:
    """Return the class or function of a dotted name.

    Args:
        name: The name, in a configuration of the user's.
        where: Where it stands, for the message: "model.encoder".

    Raises:
        ValueError: If there is none.
    """
    look_in_working_folder()
    try:
        return get_object(name)
    except Exception as error:  # Hydra has several ways of saying that it found nothing
        raise ValueError(f"{where}: {reason_of(error)}") from None


def instantiate_entry(config: DictConfig | Mapping[str, Any] | None, **arguments: Any) -> Any:
    """Return the object of an entry, None of an empty one; an error of its constructor speaks for itself.

    Args:
        config: A `_target_` and its arguments.
        **arguments: Further arguments.

    Raises:
        ValueError: If there is no `_target_`, it is not found, or it does not take its arguments.
    """
    if not config:
        return None
    if (target := config.get("_target_")) is None:
        raise ValueError(f"a configuration entry has no _target_: {dict(config)}")
    look_in_working_folder()
    try:
        return instantiate(config, **arguments, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, TypeError):
            raise ValueError(f"{target} does not take its arguments: {error.__cause__}") from error.__cause__
        if error.__cause__ is not None and not isinstance(error.__cause__, ImportError):
            raise error.__cause__ from None
        raise ValueError(f"{target}: {error}") from None
