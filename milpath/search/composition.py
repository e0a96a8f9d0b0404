"""The settings of the trainings of a table: composed once by Hydra for all that share them, and resolved once for each."""

import copy
from collections.abc import Iterable
from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from milpath.config.roots import CONFIG_DIR

# Keys of values that differ between the trainings of a method.
OF_ONE_TRAINING = {"data.fold", "data.split_seed", "seed", "paths.runs_dir", "run_name"}
_LINES = "milpath.training.callbacks.epoch_progress.TrainingLines"
# Words for every training of a table, which shows its own progress and writes the only report.
QUIET = ("resume_from=auto", "trainer.enable_progress_bar=false", "callbacks.progress=null", "report_pdf=false")


def compose_training(words: Iterable[str]) -> Any:
    """Return the configuration of `milpath.train` for some overrides.

    Hydra composes what the trainings of a method share once; it takes longer than ten epochs on a small data set.
    """
    words = tuple(words)
    own = [word for word in words if word.split("=")[0] in OF_ONE_TRAINING]
    config = copy.deepcopy(_composed(tuple(word for word in words if word not in own)))
    if any(OmegaConf.select(config, word.split("=")[0], default=_composed) is _composed for word in own):
        return _composed(words)  # Hydra's error names the key
    for parsed in OverridesParser.create().parse_overrides(own):
        OmegaConf.update(config, parsed.key_or_group, parsed.value())
    return config


@cache
def _composed(words: tuple[str, ...]) -> Any:
    """Return the configuration as Hydra composes it."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("train", overrides=list(words))


def compose_quiet_training(words: Iterable[str], name: str) -> DictConfig:
    """Return the settings of one of many trainings: it resumes, tells its progress in lines, and logs to `metrics.csv` only.

    Loggers that the words name, or that an experiment adds or changes, are kept. Interpolations are resolved here, and not
    in each of the places that read or build a part of the settings.

    Args:
        words: Command-line overrides of `milpath.train`.
        name: Of the training, in the lines of its progress.
    """
    words = tuple(words)
    config = _quiet(words, name)
    OmegaConf.resolve(config)
    # Text that only looks like an interpolation, such as an escaped one, would be taken for one when it is read again.
    return _quiet(words, name) if "${" in str(OmegaConf.to_container(config)) else config


def _quiet(words: tuple[str, ...], name: str) -> DictConfig:
    """Return the settings with their interpolations."""
    config: DictConfig = compose_training((*words, *QUIET))
    with open_dict(config):
        config.callbacks = {**(config.callbacks or {}), "lines": {"_target_": _LINES, "name": name}}
        chosen = any(map(_names_logger, words))
        if not chosen and config.logger and OmegaConf.to_container(config.logger) == _default_loggers():
            # It would write for each fold what metrics.csv has, and take 6 % of a short training.
            config.logger.pop("tensorboard")
    return config


@cache
def _default_loggers() -> Any:
    """Return the loggers of `milpath.train` where neither its command nor an experiment changes them, as written."""
    files = [CONFIG_DIR / "logger" / f"{name}.yaml" for name in ("csv", "tensorboard")]
    return OmegaConf.to_container(OmegaConf.merge(*map(OmegaConf.load, files)))


def _names_logger(word: str) -> bool:
    """Return whether an override chooses loggers or changes one."""
    return word.lstrip("+~").startswith("logger")
