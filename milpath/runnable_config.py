"""A job of a sweep as a configuration file that `python -m milpath.train` runs by itself."""

import shlex
from typing import Any

from omegaconf import DictConfig, OmegaConf

from milpath.search_plan import parse_words

# Words that make a job part of a search.
_OF_THE_SEARCH = ("hparams_search", "run_name", "resume_from")


def runnable_config(job: DictConfig) -> str:
    """Return YAML that composes what a job had, without the search round it.

    Args:
        job: Configuration of the job with its node `hydra`.

    Returns:
        A root configuration: the groups the words chose as its defaults, the values they set as its content.
    """
    groups: list[Any] = [str(job.hydra.job.config_name)]
    content: dict[str, Any] = {}
    values = OmegaConf.create({})
    for override in parse_words(job.hydra.overrides.task):
        key = override.key_or_group
        if key in _OF_THE_SEARCH or override.is_delete():
            continue
        if key in job.hydra.runtime.choices:
            groups.append({f"override /{key}": override.value()})
        else:
            OmegaConf.update(values, key, override.value(), merge=True, force_add=True)
    content["defaults"] = [*groups, "_self_"]
    folders = [source.path for source in job.hydra.runtime.config_sources if source.provider == "command-line"]
    if folders:
        content["hydra"] = {"searchpath": [f"file://{folder}" for folder in folders]}
    return OmegaConf.to_yaml(OmegaConf.merge(content, values))


def run_command(job: DictConfig, folder: str, name: str) -> str:
    """Return the command that runs such a file.

    Args:
        job: Configuration of the job with its node `hydra`.
        folder: Folder of the file.
        name: Its name without `.yaml`.
    """
    words = ["--config-dir", folder, "--config-name", name]
    # A file can set a key and cannot take one away.
    removed = [word for word in job.hydra.overrides.task if word.startswith("~")]
    return shlex.join(["python", "-m", "milpath.train", *words, *removed])
