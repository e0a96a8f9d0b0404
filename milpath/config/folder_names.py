"""Names of folders that Hydra, OmegaConf or SQLite would read as something else: refused before anything is written."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf

# What is not part of the path in an address of SQLite: the file would get another name, perhaps in another folder.
_SYNTAX = {"mlflow": re.compile(r"[?#]|%[0-9A-Fa-f]{2}"), "": re.compile(r"\?|%[0-9A-Fa-f]{2}")}
_SQLITE = "sqlite:///"


def check_working_folder(words: Sequence[str]) -> None:
    """Refuse a working folder that Hydra cannot work in, and a name of a run that it takes for a missing value.

    Args:
        words: Command-line arguments.

    Raises:
        ValueError: With what to type instead.
    """
    try:
        folder = str(Path.cwd())
    except FileNotFoundError:
        raise ValueError("the working folder no longer exists; change to another folder") from None
    if "${" in folder:
        raise ValueError(
            f"the working folder {folder} has ${{ in its name, which Hydra reads as a reference; rename it, or start the "
            "command in another folder"
        )
    for word in words:
        if word.startswith("run_name=") and word.partition("=")[2].strip("\"'") in ("???", "null"):
            raise ValueError(f"{word} stands for no name in a configuration; give another run_name")


def check_run_folder(config: DictConfig, folder: Path) -> None:
    """Refuse the folder of a run or sweep if its files would be written elsewhere.

    Args:
        config: The composed configuration.
        folder: Folder of the run or sweep.

    Raises:
        ValueError: With the name and what to change.
    """
    name = config.get("run_name")
    if isinstance(name, str) and (not name.strip() or {".", ".."} & set(PurePath(name).parts) or name == "."):
        raise ValueError(f"run_name={name} is not the name of a folder below paths.runs_dir; give another run_name")
    if "${" in str(folder):
        raise ValueError(
            f"the run folder {folder} has ${{ in its name, which Hydra reads as a reference; give another run_name or "
            "paths.runs_dir"
        )
    for key, address in _addresses(OmegaConf.to_container(config, resolve=False), "", config):
        syntax = next(syntax for part, syntax in _SYNTAX.items() if part in key)
        if found := syntax.search(address.removeprefix(_SQLITE)):
            raise ValueError(
                f"{key} is the database {address.removeprefix(_SQLITE)}, whose name has {found[0]}: SQLite would write "
                "another file; rename the folder, or give another run_name or paths.runs_dir"
            )


def _addresses(content: Any, key: str, config: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield the addresses of SQLite that refer to the folders of the configuration: an address that was typed stays."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _addresses(value, f"{key}.{name}".strip("."), config)
    elif isinstance(content, str) and _SQLITE in content and "${" in content:
        address = OmegaConf.select(config, key)
        if isinstance(address, str) and address.startswith(_SQLITE):
            yield key, address
