"""Configuration file of a single sweep job, which `python -m milpath.train` can run."""

import shlex
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from milpath.config.command_line import override as override_of
from milpath.config.kept_configuration import KEPT_NAMES, is_group_of_library, is_kept
from milpath.search.search_plan import parse_words

# Overrides that make a job part of a search.
_OF_THE_SEARCH = ("hparams_search", "run_name", "resume_from")


def runnable_config(job: DictConfig) -> str:
    """Return YAML that composes the configuration of a job without the search around it.

    Args:
        job: Configuration of the job, with its node `hydra`.

    Returns:
        A root configuration: its defaults are the groups chosen by the overrides, its content the values they set.
    """
    root, groups, values = _base(str(job.hydra.job.config_name), _own_folders(job))
    for override in parse_words(job.hydra.overrides.task):
        key = override.key_or_group
        if key in _OF_THE_SEARCH or not _stands_in_file(override, job):
            continue
        if key in job.hydra.runtime.choices:
            groups[f"override /{key}"] = override.value()
        else:
            OmegaConf.update(values, key, override.value(), merge=True, force_add=True)
    content: dict[str, Any] = {"defaults": [root, *({key: value} for key, value in groups.items()), "_self_"]}
    return OmegaConf.to_yaml(OmegaConf.merge(content, values))


def _own_folders(job: DictConfig) -> list[str]:
    """Return the configuration folders that do not belong to this library."""
    return [source.path for source in job.hydra.runtime.config_sources if source.provider == "command-line"]


def _stands_in_file(override: Override, job: DictConfig) -> bool:
    """Return whether an override becomes part of the file; a file can neither delete a key nor name code."""
    if override.is_delete():
        return False
    key, value = override.key_or_group, override.value()
    if key in job.hydra.runtime.choices:
        return is_group_of_library(key, value)
    return is_kept(key, value)


def _base(name: str, folders: list[str]) -> tuple[str, dict[str, Any], DictConfig]:
    """Return root, groups and values of the file a job was started from, such as the best.yaml of an earlier search."""
    path = next(
        (Path(folder) / f"{name}.yaml" for folder in folders if (Path(folder) / f"{name}.yaml").is_file()), None
    )
    if path is None:
        return name, {}, OmegaConf.create({})
    values = cast(DictConfig, OmegaConf.load(path))
    root, *groups = [entry for entry in values.pop("defaults", ["train"]) if entry != "_self_"]
    return root, {key: value for group in groups for key, value in group.items()}, values


def run_command(job: DictConfig, folder: str, name: str) -> str:
    """Return the command that runs the file of a job.

    Args:
        job: Configuration of the job, with its node `hydra`.
        folder: Folder of the file.
        name: Its name without `.yaml`.
    """
    words = ["--config-dir", folder, "--config-name", name]
    folders = [f"file://{own}" for own in _own_folders(job) if not _holds_kept(own, str(job.hydra.job.config_name))]
    own = [override_of("hydra.searchpath", folders)] if folders else []
    overrides = parse_words(job.hydra.overrides.task)
    rest = [
        str(override.input_line)
        for override in overrides
        if override.key_or_group not in _OF_THE_SEARCH and not _stands_in_file(override, job)
    ]
    return shlex.join(["python", "-m", "milpath.train", *words, *own, *rest])


def moved_command(command: str, folder: str, name: str) -> str:
    """Return the command of a trial for a copy of its file; overrides that are only in the command are kept."""
    words = shlex.split(command)
    for option, value in (("--config-dir", folder), ("--config-name", name)):
        words[words.index(option) + 1] = value
    return shlex.join(words)


def _holds_kept(folder: str, name: str) -> bool:
    """Return whether a folder only provides the search result that a job was started from."""
    return Path(name).stem in KEPT_NAMES and (Path(folder) / f"{name}.yaml").is_file()
