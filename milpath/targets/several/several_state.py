"""State of several targets in the card of a checkpoint, which is untrusted."""

from collections.abc import Mapping, Sequence
from typing import Any

from milpath.records.plain_values import brief
from milpath.targets.decision import Decision
from milpath.targets.registry import target_named
from milpath.targets.several.member import Member
from milpath.targets.several.member_options import MAX_MEMBERS, require_distinct
from milpath.targets.target import ClassTarget, require_class_names

_DECISION = ("threshold", "temperature", "defer_below")


def state_of_members(members: Sequence[Member]) -> list[dict[str, Any]]:
    """Return the members as plain values."""
    return [
        {
            "name": member.name,
            "task": member.target.name,
            "columns": list(member.columns),
            "class_names": list(member.class_names),
            "weight": float(member.weight),
            "share": member.share,
            "state": member.target.state(),
        }
        | {name: float(getattr(member.decision, name)) for name in _DECISION}
        for member in members
    ]


def members_of_state(content: Any) -> tuple[Member, ...]:
    """Return the members of a card.

    Raises:
        ValueError: If a value is missing or invalid.
    """
    if not isinstance(content, list | tuple) or not 0 < len(content) <= MAX_MEMBERS:
        raise ValueError(f"targets in target_state of the card must be a list of targets, not {brief(content)}")
    members = tuple(_member(each) for each in content)
    try:
        require_distinct(members)
    except ValueError as error:
        raise ValueError(f"target_state of the card: {error}") from None
    return members


def _member(content: Any) -> Member:
    """Return one target of a card."""
    if not isinstance(content, Mapping):
        raise ValueError(f"a target in target_state of the card must be a mapping, not {brief(content)}")
    name = content.get("name")
    where = f"target {brief(name)} in target_state of the card"
    if not isinstance(name, str):
        raise ValueError(f"{where} must have a name")
    lists: list[Any] = [content.get(key) for key in ("columns", "class_names")]
    if not all(isinstance(each, list | tuple) and each and all(isinstance(one, str) for one in each) for each in lists):
        raise ValueError(f"{where} must have lists of columns and class_names, not {brief(lists)}")
    numbers: dict[str, Any] = {key: content.get(key) for key in ("weight", "share", *_DECISION)}
    if wrong := [key for key, value in numbers.items() if type(value) not in (int, float)]:
        raise ValueError(f"{wrong[0]} of the {where} must be a number, not {brief(numbers[wrong[0]])}")
    if not isinstance(state := content.get("state"), Mapping):
        raise ValueError(f"state of the {where} must be a mapping, not {brief(state)}")
    if not 0 < numbers["share"] <= 1:
        raise ValueError(f"share of the {where} must be in (0, 1], not {brief(numbers['share'])}")
    try:
        target = target_named(content.get("task"))
        if hasattr(target, "members"):
            raise ValueError("a target of several cannot hold several itself")
        target = target.with_state(state)
        require_class_names(lists[1])
        target.num_outputs(len(lists[1]))
        decision = Decision(numbers["threshold"], numbers["temperature"], numbers["defer_below"])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if isinstance(target, ClassTarget) and len(lists[0]) != 1:
        raise ValueError(f"{where} has classes and must have one column, not {brief(lists[0])}")
    return Member(
        name, target, tuple(lists[0]), tuple(lists[1]), float(numbers["weight"]), float(numbers["share"]), decision
    )
