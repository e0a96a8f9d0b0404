"""Configurations that a search wrote, `best.yaml` and `trial.yaml`: read as results, which may be somebody else's.

A search keeps groups of this library and plain values in them. What can name code or read variables of the machine (a
`_target_`, a resolver such as `${oc.env:NAME}`, folders with configuration of the user's own) stands in the command beside
the file, where a person sees it before it runs. A file of these names that says more is refused before Hydra composes it.
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
# `${paths.data_dir}` is another value of the same configuration; with a colon, or nested, it calls a resolver.
_RESOLVER = re.compile(r"\$\{[^{}]*(:|\$\{)")
_GROUP = re.compile(r"override /([a-z_]+(?:/[a-z_]+)*)")


def check_command_line(words: Sequence[str] | None = None) -> None:
    """Check the file of a search that a command line starts from, if it does.

    Args:
        words: Behind the name of the program; None for those of this process.

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
    """Refuse a file of a search that holds more than groups of this library and plain values.

    Args:
        path: The file.
        folder: Where Hydra looks for configuration beside that of this library.

    Raises:
        ValueError: With the first thing that a search does not write.
    """
    content = _read(path)
    # Hydra asks the folder before the schemas that are registered in Python.
    if shadows := [name for name in ConfigStore.instance().repo if (folder / name).exists()]:
        raise ValueError(f"{folder / shadows[0]} would take the place of configuration of milpath; remove it")
    for entry in _entries(content, path):
        if not _is_of_library(entry):
            raise ValueError(
                f"{path} asks for {brief(entry)}, which is not a group of milpath; add it to the command instead, with "
                "hydra.searchpath=[file://FOLDER] for a folder of your own"
            )
    if "hydra" in content:
        raise ValueError(
            f"{path} changes how Hydra works; remove its key hydra, and add hydra.searchpath=[file://FOLDER] to the command "
            "for a folder of your own"
        )
    require_plain(content, str(path))
    if (text := next(_resolvers(content), None)) is not None:
        raise ValueError(f"{path} holds {brief(text)}, which would be resolved; give it on the command line instead")


def is_kept(key: str, value: Any) -> bool:
    """Return whether a value may stand in such a file; what may not stays in the command.

    Args:
        key: Dotted.
        value: Plain values.
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
    """Return whether an option of a group, or several, lies in the configuration of this library."""
    options = option if isinstance(option, list) else [option]
    return all(name is None or _is_option(group, name) for name in options)


def _is_option(group: str, name: Any) -> bool:
    """Return whether a file of the library holds an option."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) or ".." in name:
        return False
    return (CONFIG_DIR / group / f"{name.removesuffix('.yaml')}.yaml").is_file()


def _is_of_library(entry: Any) -> bool:
    """Return whether an entry of the defaults names configuration of this library."""
    if isinstance(entry, str):
        return entry == "_self_" or _is_option(".", entry)
    if not isinstance(entry, dict) or len(entry) != 1:
        return False
    key, option = next(iter(entry.items()))
    group = _GROUP.fullmatch(key) if isinstance(key, str) else None
    return group is not None and is_group_of_library(group.group(1), option)


def _entries(content: dict[str, Any], path: Path) -> list[Any]:
    """Return the defaults of a file."""
    entries = content.pop("defaults", [])
    if not isinstance(entries, list):
        raise ValueError(f"defaults in {path} must be a list, not {brief(entries)}")
    return entries


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a file, nothing in it resolved."""
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path} has more than {_LARGEST_FILE:,} bytes; a search writes less")
    try:
        text = path.read_text(encoding="utf-8")
        if any(isinstance(token, yaml.AliasToken | yaml.TagToken) for token in yaml.scan(text)):
            raise ValueError(f"{path} has aliases or tags of YAML, which a search does not write")
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a configuration, or is damaged ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a mapping of keys and values")
    return {str(key): value for key, value in content.items()}


def _resolvers(value: Any) -> Any:
    """Yield the texts in plain values that call a resolver, keys among them."""
    if isinstance(value, str) and _RESOLVER.search(value):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _resolvers(key)
            yield from _resolvers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _resolvers(item)
