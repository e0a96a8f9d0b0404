"""The targets of a configuration: names, kinds, columns and options."""

from collections.abc import Mapping
from typing import Any

from milpath.records.plain_values import brief
from milpath.targets.numeric_target import NumericTarget
from milpath.targets.registry import target_named
from milpath.targets.several.member import Member
from milpath.targets.target import ClassTarget, Target, require_class_names

MAX_MEMBERS = 1000


def members_of_options(targets: Any, weights: Any) -> tuple[Member, ...]:
    """Return the members of `target=several`.

    Args:
        targets: As in `Several`.
        weights: As in `Several`.

    Raises:
        ValueError: If a target or one of its options is unknown or invalid.
    """
    if not isinstance(targets, Mapping) or not isinstance(weights, Mapping):
        raise ValueError(
            f"target.targets is {brief(targets)} and target.weights {brief(weights)}; give a mapping of names, such as "
            "target.targets={grade:ordinal,age:regression} target.weights={age:0.5}"
        )
    if unknown := [str(name) for name in weights if name not in targets]:
        raise ValueError(f"target.weights has {', '.join(unknown)}, not one of {', '.join(map(str, targets))}")
    members = tuple(_member(str(name), options, weights.get(name, 1.0)) for name, options in targets.items())
    require_distinct(members)
    return members


def require_distinct(members: tuple[Member, ...]) -> None:
    """Refuse names of targets that would not tell their columns and metrics apart, and weights that are not positive.

    Raises:
        ValueError: With the name.
    """
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"{len(members):,} targets are more than {MAX_MEMBERS:,}")
    require_class_names([member.name for member in members])
    for member in members:
        if "/" in member.name or member.name != member.name.strip():
            raise ValueError(f"target {member.name!r} must have a name without slashes and outer blanks")
        weight = member.weight
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise ValueError(f"target.weights.{member.name} is {brief(weight)}; it must be a positive number")


def _member(name: str, given: Any, weight: Any) -> Member:
    """Return one target of a configuration."""
    where = f"target.targets.{name}"
    options: Any = {}
    if isinstance(given, Target):
        target = given
    else:
        options = {"task": given} if isinstance(given, str) else given
        if not isinstance(options, Mapping) or "task" not in options:
            raise ValueError(f"{where} is {brief(given)}; give a task such as ordinal, or task: ordinal with options")
        options = {str(key): value for key, value in options.items()}
        target = target_named(options.pop("task"))
    if isinstance(target, NumericTarget) and hasattr(target, "members"):
        raise ValueError(f"{where} holds several targets itself; give its targets next to the others")
    column, class_names = options.pop("column", None), options.pop("class_names", None)
    if isinstance(target, ClassTarget):
        if options:
            raise ValueError(f"{where} does not have {', '.join(options)}; classes have column and class_names")
        names = tuple(map(str, class_names or ()))
        require_class_names(names)
        return Member(name, target, (str(column or name),), names, weight, option=f"{where}.class_names")
    if class_names is not None:
        raise ValueError(f"{where}.class_names is set, but a {target.name} task has no classes")
    if not isinstance(target, NumericTarget):
        raise ValueError(f"{where} is neither a target with classes nor one of numbers; derive it from one of them")
    if options or not isinstance(given, Target):
        try:
            target = type(target)(**options)
        except TypeError as error:
            raise ValueError(f"{where} does not accept its options: {error}") from None
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    columns = target.columns_of_table(None if column is None else str(column), name)
    target = target.named_after(columns)
    return Member(name, target, tuple(columns), tuple(target.names), weight)
