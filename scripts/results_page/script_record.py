"""The record of a table that a script made: command, version, machine and time."""

from collections.abc import Mapping, Sequence
from typing import Any

from milpath.records.provenance import describe_environment

_KEPT = ("command", "started", "packages", "python", "platform", "processor", "device", "num_cores", "num_threads")
_OF_ONE_TRAINING = ("data.fold=", "seed=", "run_name=", "paths.runs_dir=")


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


def joined_records(made: Sequence[tuple[Mapping[str, Any], float | None]]) -> dict[str, Any]:
    """Return the record of a table that was made from the results of several commands.

    Args:
        made: What each command recorded of itself (`describe_environment`), and its minutes; `None` if it kept none.
    """
    environments = [environment for environment, _ in made]
    last = max(environments, key=lambda each: str(each["started"]))
    commits = sorted({code["commit"] for each in environments if (code := each.get("code")) and code.get("commit")})
    # Trainings that differ only in fold and seed are one line.
    commands: dict[tuple[str, ...], list[str]] = {}
    for each in environments:
        words = [shortened(word) for word in each["command"]]
        commands.setdefault(tuple(word for word in words if not word.startswith(_OF_ONE_TRAINING)), words)
    minutes = [each for _, each in made if each is not None]
    return {
        "format_version": 1,
        "version": last["packages"].get("milpath"),
        "commit": commits or None,
        "dirty": any((each.get("code") or {}).get("dirty") for each in environments),
        "minutes": round(sum(minutes), 1) if minutes else None,
        "commands": list(commands.values()),
    } | {name: last.get(name) for name in _KEPT if name != "command"}


def shortened(word: str) -> str:
    """Return an option whose list of files is long with the first of them only.

    Example:
        >>> shortened("checkpoint=[a,b,c,d]")
        'checkpoint=[a,...]'
    """
    key, bracket, files = word.partition("=[")
    return f"{key}=[{files.split(',')[0]},...]" if bracket and files.count(",") > 2 else word
