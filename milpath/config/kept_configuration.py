"""Checks of configurations written by a search (`best.yaml`, `trial.yaml`), which are treated as untrusted data.

A search writes only config groups of this library and plain values. Anything that names code or reads the environment (a
`_target_`, a resolver such as `${oc.env:NAME}`, folders with the user's own configuration) has to be given on the command
line, where it is visible before it runs. A file of these names that holds more is refused before Hydra composes it.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from milpath.config.roots import CONFIG_DIR
from milpath.records.plain_values import brief, require_plain

KEPT_NAMES = ("best", "trial")
_LARGEST_FILE = 1 << 20
# `${paths.data_dir}` refers to another value of the same configuration; with a colon, or nested, it calls a resolver.
_RESOLVER = re.compile(r"\$\{[^{}]*(:|\$\{)")
_GROUP = re.compile(r"override /([a-z_]+(?:/[a-z_]+)*)")


def check_command_line(words: Sequence[str] | None = None) -> None:
    """Check the `best.yaml` or `trial.yaml` that a command line composes from, if any.

    Args:
        words: Command-line arguments; None for those of this process.

    Raises:
        ValueError: If the file holds more than a search writes.
    """
    arguments, _ = get_args_parser().parse_known_args(list(sys.argv[1:] if words is None else words))
    name, folder = arguments.config_name, arguments.config_dir or arguments.config_path
    if name is None or folder is None or Path(name).stem not in KEPT_NAMES:
        return
    path = (Path(folder) / name).with_suffix(".yaml")
    if path.is_file():
        require_kept(path, Path(folder))


def require_kept(path: Path, folder: Path) -> None:
    """Refuse a file of a search that holds more than config groups of this library and plain values.

    Args:
        path: The file.
        folder: The folder Hydra searches for configuration in addition to that of this library.

    Raises:
        ValueError: With the first entry that a search does not write.
    """
    content = read_plain(path)
    # Hydra searches the folder before the schemas registered in Python.
    if shadows := [name for name in ConfigStore.instance().repo if (folder / name).exists()]:
        raise ValueError(f"{folder / shadows[0]} would replace configuration of milpath; remove it")
    for entry in _entries(content, path):
        if not _is_of_library(entry):
            raise ValueError(
                f"{path} uses {brief(entry)}, which is not a config group of milpath; give it on the command line instead, "
                "with hydra.searchpath=[file://FOLDER] for a folder of your own"
            )
    if "hydra" in content:
        raise ValueError(
            f"{path} changes the configuration of Hydra; remove its key hydra, and add hydra.searchpath=[file://FOLDER] to "
            "the command for a folder of your own"
        )
    require_plain(content, str(path))
    if (text := next(_resolvers(content), None)) is not None:
        raise ValueError(f"{path} holds {brief(text)}, which calls a resolver; give it on the command line instead")


def is_kept(key: str, value: Any) -> bool:
    """Return whether a value may be written to such a file; any other has to stay on the command line.

    Args:
        key: Dotted key.
        value: Its value, possibly nested.
    """
    content: dict[str, Any] = {"value": value}
    for part in reversed(key.split(".")):
        content = {part: content}
    try:
        require_plain(content, key)
    except ValueError:
        return False
    return key.split(".")[0] != "hydra" and next(_resolvers(content), None) is None


def is_group_of_library(group: str, option: Any) -> bool:
    """Return whether one or more options of a config group belong to this library."""
    options = option if isinstance(option, list) else [option]
    return all(name is None or _is_option(group, name) for name in options)


def _is_option(group: str, name: Any) -> bool:
    """Return whether an option is a file of this library."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) or ".." in name:
        return False
    return (CONFIG_DIR / group / f"{name.removesuffix('.yaml')}.yaml").is_file()


def _is_of_library(entry: Any) -> bool:
    """Return whether an entry of the defaults list names configuration of this library."""
    if isinstance(entry, str):
        return entry == "_self_" or _is_option(".", entry)
    if not isinstance(entry, dict) or len(entry) != 1:
        return False
    key, option = next(iter(entry.items()))
    group = _GROUP.fullmatch(key) if isinstance(key, str) else None
    return group is not None and is_group_of_library(group.group(1), option)


def _entries(content: dict[str, Any], path: Path) -> list[Any]:
    """Remove and return the defaults list of a file."""
    entries = content.pop("defaults", [])
    if not isinstance(entries, list):
        raise ValueError(f"defaults in {path} must be a list, not {brief(entries)}")
    return entries


def read_plain(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file of somebody else: nothing in it is resolved, and no value stands for others.

    Raises:
        ValueError: If it is not a mapping, is larger than 1 MiB, or has tags or aliases, which unpack to any size.
    """
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path} has more than {_LARGEST_FILE:,} bytes, which no configuration of milpath has")
    try:
        text = path.read_text(encoding="utf-8")
        if any(isinstance(token, yaml.AliasToken | yaml.TagToken) for token in yaml.scan(text)):
            raise ValueError(f"{path} has YAML aliases or tags, which milpath does not write")
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a configuration, or is damaged ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a mapping of keys and values")
    return {str(key): value for key, value in content.items()}


def _resolvers(value: Any) -> Any:
    """Yield the strings in plain values, including keys, that call a resolver."""
    if isinstance(value, str) and _RESOLVER.search(value):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _resolvers(key)
            yield from _resolvers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _resolvers(item)
