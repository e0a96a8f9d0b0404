"""What the configuration files say about their options, for `--help` and the reference pages.

A file is read as text: its comments explain its keys.
"""

import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from milpath.config.roots import CONFIG_DIR

_LINE = re.compile(r"^(?P<indent> *)(?:- )?(?P<key>[A-Za-z_][\w.]*):(?P<rest>.*)$")
_COMMENT = re.compile(r"(?:^|\s)#\s?(?P<text>.*)$")
_NAMES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


@dataclass(frozen=True)
class Key:
    """One key of a configuration file.

    Attributes:
        name: Dotted path from the root of the file.
        value: Value as written in the file; empty if it holds other keys.
        comment: Its comment in the file.
    """

    name: str
    value: str
    comment: str


def header_lines(path: Path) -> list[str]:
    """Return the lines of the comment at the top of a configuration file, without Hydra's directive."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            lines.append(line.removeprefix("#").removeprefix(" "))
    return lines


def keys_of(path: Path) -> Iterator[Key]:
    """Yield the keys of a configuration file with their comments, without `defaults` and Hydra's own keys."""
    parents: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("#") or (found := _LINE.match(line)) is None or line.lstrip().startswith("- "):
            continue
        indent = len(found["indent"])
        parents = [parent for parent in parents if parent[0] < indent]
        name = ".".join([*(parent[1] for parent in parents), found["key"]])
        parents.append((indent, found["key"]))
        if name.split(".")[0] in ("defaults", "hydra"):
            continue
        comment = _COMMENT.search(found["rest"])
        value = found["rest"][: comment.start()] if comment else found["rest"]
        yield Key(name, value.strip(), comment["text"].strip() if comment else "")


def defaults_of(path: Path) -> dict[str, str]:
    """Return the groups that a configuration composes and the option of each."""
    chosen: dict[str, str] = {}
    for entry in _defaults_list(path):
        if isinstance(entry, dict):
            ((group, option),) = entry.items()
            if not group.startswith("override hydra") and group != "hydra":
                name = group.removeprefix("override ").lstrip("/")
                chosen[name] = ", ".join(option) if isinstance(option, list) else str(option or "none")
    return chosen


def inner_groups(path: Path) -> dict[str, str]:
    """Return the groups that an option composes below its own, such as `model/encoder`, and the option of each."""
    group = path.parent.relative_to(CONFIG_DIR).as_posix()
    # A name in a defaults list is relative to the group of the file.
    return {
        f"{group}/{name}" if (path.parent / name).is_dir() else name: option
        for name, option in defaults_of(path).items()
    }


def parents_of(path: Path) -> list[str]:
    """Return the options of the same group that an option extends."""
    names = [entry for entry in _defaults_list(path) if isinstance(entry, str) and entry != "_self_"]
    return [name for name in names if (path.parent / f"{name}.yaml").is_file()]


def groups() -> list[str]:
    """Return the names of all user-facing config groups."""
    folders = {path.parent.relative_to(CONFIG_DIR).as_posix() for path in CONFIG_DIR.rglob("*/*.yaml")}
    return sorted(folders - {"hydra"})


def root_path(command: str) -> Path:
    """Return the root configuration of a command, such as `sagemaker.launch` or `check-data`."""
    return CONFIG_DIR / f"{command.replace('.', '_').replace('-', '_')}.yaml"


def extends_train(path: Path) -> bool:
    """Return whether a root configuration is that of a training with further options."""
    return "train" in _defaults_list(path)


def schema_of(root: str) -> dict[str, tuple[str, str | None]]:
    """Return the root keys of a command: type, and default if it is a plain value.

    Args:
        root: Name of its root configuration, such as `sagemaker_launch`.
    """
    node = ConfigStore.instance().load(f"{root}_schema.yaml").node
    kind: typing.Any = OmegaConf.get_type(node)
    hints = typing.get_type_hints(kind)
    result: dict[str, tuple[str, str | None]] = {}
    for item in fields(kind):
        if is_dataclass(hints[item.name]) and not OmegaConf.is_missing(node, item.name):
            inner = typing.get_type_hints(hints[item.name])
            result |= {f"{item.name}.{key}": (_type(inner[key]), _default(node[item.name], key)) for key in inner}
        else:
            result[item.name] = (_type(hints[item.name]), _default(node, item.name))
    return result


def as_typed(text: str) -> str:
    """Return commands as typed with milpath installed.

    Example:
        >>> as_typed("python -m milpath.sagemaker.score endpoint=NAME")
        'milpath sagemaker score endpoint=NAME'
    """
    return re.sub(
        r"python -m milpath\.([\w.]*\w)", lambda found: f"milpath {found[1].replace('.', ' ').replace('_', '-')}", text
    )


def _defaults_list(path: Path) -> list[typing.Any]:
    """Return the defaults list of a configuration file."""
    content = typing.cast(dict[str, typing.Any], OmegaConf.to_container(OmegaConf.load(path)) or {})
    return list(content.get("defaults", []))


def _default(node: DictConfig, name: str) -> str | None:
    """Return a default as typed on the command line; None if there is none or it is nested."""
    if OmegaConf.is_missing(node, name) or OmegaConf.is_config(node[name]):
        return None
    value = node[name]
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(hint: typing.Any) -> str:
    """Return the name of a type; empty if a key accepts anything."""
    if isinstance(hint, types.UnionType):
        return " or ".join(map(_type, typing.get_args(hint)))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return f"list of {_type(arguments[0])}"
    return "mapping" if origin is dict else _NAMES.get(hint, "")
