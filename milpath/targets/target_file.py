"""The target of a run in its folder: `target.json`, from which its predictions can be evaluated without its checkpoint."""

from pathlib import Path

from milpath.records.atomic_files import write_json
from milpath.records.plain_values import brief, read_json
from milpath.targets.registry import target_named
from milpath.targets.target import Target

TARGET_FILE = "target.json"


def write_target(run_dir: Path, target: Target) -> None:
    """Write name, options and fitted values of a target.

    Args:
        run_dir: The folder of the run.
        target: Its target, fitted.
    """
    write_json(run_dir / TARGET_FILE, {"task": target.name, "state": target.state()})


def read_target(run_dir: Path) -> Target | None:
    """Return the target of a run; `None` if its folder does not say, which older versions did not.

    The file is untrusted: it holds a name and plain numbers and texts, which are validated as those of a checkpoint are.

    Raises:
        ValueError: If the file is damaged, names a target that is not registered, or a value in it is invalid.
    """
    path = run_dir / TARGET_FILE
    if not path.is_file():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("state"), dict):
        raise ValueError(f"{path} must hold the task and its state, not {brief(content)}")
    try:
        return target_named(content.get("task")).with_state(content["state"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
