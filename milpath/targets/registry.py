"""Registry of targets by name: those of the library and those registered by users."""

from milpath.targets.binary import Binary
from milpath.targets.nominal import Nominal
from milpath.targets.ordinal import Ordinal
from milpath.targets.target import Target

_TARGETS: dict[str, Target] = {target.name: target for target in (Binary(), Nominal(), Ordinal())}


def target_named(name: object) -> Target:
    """Return a target.

    Raises:
        ValueError: If no target has that name.

    Example:
        >>> target_named("ordinal").num_outputs(6)
        5
    """
    if not isinstance(name, str) or name not in _TARGETS:
        raise ValueError(f"task {name!r} is not one of {', '.join(_TARGETS)}")
    return _TARGETS[name]


def target_names() -> tuple[str, ...]:
    """Return the names of all registered targets."""
    return tuple(_TARGETS)


def register_target(target: Target) -> Target:
    """Register a target under its name in this process.

    Args:
        target: The target; its name must not be that of a target of another class.

    Raises:
        ValueError: If the name is taken.
    """
    known = _TARGETS.get(target.name)
    if known is not None and type(known) is not type(target):
        raise ValueError(
            f"the name {target.name!r} is taken by {type(known).__qualname__}; give your target another name"
        )
    _TARGETS[target.name] = target
    return target
