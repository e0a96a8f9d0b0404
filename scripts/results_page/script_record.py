"""The record of a table that a script made: command, version, machine and time."""

from collections.abc import Sequence
from typing import Any

from milpath.records.provenance import describe_environment

_KEPT = ("command", "started", "packages", "python", "platform", "processor", "device", "num_cores", "num_threads")


def made_by(command: Sequence[str], minutes: float) -> dict[str, Any]:
    """Return the record of a table that a command has just made.

    Args:
        command: The command, word by word.
        minutes: How long it took.
    """
    made = describe_environment() | {"command": list(command)}
    code = made["code"] or {}
    record = {"format_version": 1, "version": made["packages"].get("milpath"), "commit": code.get("commit")}
    record |= {"dirty": bool(code.get("dirty")), "minutes": minutes}
    return record | {name: made.get(name) for name in _KEPT}
