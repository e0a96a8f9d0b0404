"""Registry of targets by name: those of the library and those registered by users."""

from typing import Any, Protocol

from milpath.targets.binary import Binary
from milpath.targets.nominal import Nominal
from milpath.targets.ordinal import Ordinal
from milpath.targets.regression import Regression
from milpath.targets.survival.survival import Survival
from milpath.targets.target import ClassTarget, Target

_TARGETS: dict[str, Target] = {
    target.name: target for target in (Binary(), Nominal(), Ordinal(), Regression(), Survival())
}


class CardOfTarget(Protocol):
    """The fields of a checkpoint's card that define its target."""

    @property
    def warning(self) -> str:
        """What the training data say against themselves; empty for tissue."""

    @property
    def task(self) -> str:
        """Name of the target."""

    @property
    def target_state(self) -> Any:
        """Its options and fitted values."""


def target_named(name: object) -> Target:
    """Return a target by name; a target itself is returned as it is.

    Raises:
        ValueError: If no target has that name.

    Example:
        >>> target_named("ordinal").num_outputs(6)
        5
    """
    if isinstance(name, Target):
        return name
    if not isinstance(name, str) or name not in _TARGETS:
        raise ValueError(f"task {name!r} is not one of {', '.join(_TARGETS)}")
    return _TARGETS[name]


def class_target_named(name: object) -> ClassTarget:
    """Return a target with classes by name.

    Raises:
        ValueError: If no target has that name, or it has no classes.
    """
    target = target_named(name)
    if not isinstance(target, ClassTarget):
        raise ValueError(f"a {target.name} task has no classes; this needs a binary, nominal or ordinal one")
    return target


def target_of(card: CardOfTarget) -> Target:
    """Return the target of a checkpoint with its fitted values; with a warning it defers every bag.

    Raises:
        ValueError: If no target has that name, or the fitted values are invalid.
    """
    target = target_named(card.task).with_state(card.target_state)
    return target.deferring_all() if card.warning else target


def target_names() -> tuple[str, ...]:
    """Return the names of all registered targets."""
    return tuple(_TARGETS)


def ensure_registered(target: Target) -> None:
    """Register a target whose name nobody has, so that its checkpoints can be loaded in this process.

    The options of numbers stay with whoever holds the target, and in its checkpoints: the name alone goes on meaning the
    target without options. Targets with classes are asked for by name, and the latest is the one that is meant.

    Raises:
        ValueError: If the name is that of a target of another class.
    """
    if target.has_classes or type(_TARGETS.get(target.name)) is not type(target):
        register_target(target)


def register_target(target: Target) -> Target:
    """Register a target under its name in this process: what the name means from now on, options included.

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
