"""Errors of a mistyped command line in one line, with the nearest name: Hydra's own take several and name its grammar."""

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import hydra._internal.utils
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from milpath.config.option_reference import groups
from milpath.config.roots import CONFIG_DIR
from milpath.records.error_text import one_line_of

_MOST_OPTIONS = 20
_TRUE, _FALSE = ("true", "yes", "y", "on", "t"), ("false", "no", "n", "off", "f")
_BOOLEANS = dict.fromkeys(_TRUE, "true") | dict.fromkeys(_FALSE, "false")
_DOUBTFUL = re.compile(r"""\s*(["']?)(?:yes|y|on|t|no|n|off|f)\1\s*|\s*(["'])(?:true|false)\2\s*""", re.IGNORECASE)


@contextmanager
def errors_raised() -> Iterator[None]:
    """Let Hydra raise the errors of a composition, or of a callback, instead of printing them and exiting."""
    internal: Any = hydra._internal.utils
    before = internal.run_and_report
    internal.run_and_report = lambda function: function()
    try:
        yield
    finally:
        internal.run_and_report = before


def explain(error: Exception, command: str, words: Sequence[str]) -> str:
    """Return what is wrong with a command line, in one line that says what to type.

    Args:
        error: The error of Hydra or OmegaConf.
        command: The command, such as `train` or `sagemaker.launch`.
        words: Its overrides, in Hydra's grammar.
    """
    text, typed = str(error), f"milpath {command.replace('.', ' ')}"
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    if found := re.match(r"Could not (?:override|delete from config\.) '([^']+)'", text):
        return _unknown_option(found[1], command, overrides)
    if found := re.match(r"You must specify '([^']+)'", text):
        return _not_chosen(found[1], command, overrides)
    if isinstance(error, MissingConfigException) and (found := re.search(r"Could not find '(.+)/([^'/]*)'", text)):
        group, _, name = (
            f"{found[1]}/{found[2]}".partition("/") if found[1] not in groups() else (found[1], "", found[2])
        )
        return _unknown_choice(group, name, error.options or [])
    if "group override must be a string" in text:
        for given in OverridesParser.create().parse_overrides(overrides):
            key, value = given.key_or_group, given.value()
            if key in groups() and value is None:
                return _no_choice(key, command, overrides)
            if key in groups() and not isinstance(value, (str, list)):
                return _unknown_choice(key, str(value), sorted(path.stem for path in (CONFIG_DIR / key).glob("*.yaml")))
    if isinstance(error, OverrideParseException):
        word = str(error.override)
        if "=" not in word:
            return f"{typed}: {word!r} is not an option; give key=value, or a flag such as --help"
        if re.search(r"[\[{:]", word.partition("=")[2]):  # the shell divides {a:[1,2]} at its commas
            key = word.partition("=")[0]
            return f"{typed}: cannot read {word!r}; put the option in quotes, which the shell leaves alone: '{key}=...'"
        return f"""{typed}: cannot read {word!r}; put a value with special characters in quotes: 'key="value"'"""
    if text.startswith("Ambiguous value"):
        word = text.split("'")[1]
        return f"{typed}: {word!r} has several values; add -m for a sweep over them, or give a list, key=[a,b]"
    if text.startswith("Error merging override") and error.__cause__ is not None:
        reason = str(error.__cause__).split("\n    full_key")[0]
        key, _, value = text.removeprefix("Error merging override ").partition("=")
        if reason.endswith("is not a ListConfig, list or tuple."):
            reason = f"must be a list, such as {key}=[{value}]"
        if reason.endswith("is not Optional"):
            reason = "must have a value"
        return one_line_of(f"{typed}: {text.removeprefix('Error merging override ')}: {reason}")
    return one_line_of(f"{typed}: {text.split(chr(10) + '    full_key')[0]}".replace("\n", " ").replace("\t", " "))


def with_booleans(words: Sequence[str], command: str) -> list[str]:
    """Return overrides in which `yes` and `no` are true and false where the option is one or the other.

    Hydra keeps such a word as text, and every text counts as true. Options of the schema of a command need no help.

    Args:
        words: Overrides in Hydra's grammar.
        command: The command, such as `train` or `sagemaker.launch`.
    """
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    doubtful = [word for word in overrides if any(map(_DOUBTFUL.fullmatch, word.partition("=")[2].split(",")))]
    if not doubtful:
        return list(words)
    before = _composed_root(command, [word for word in overrides if word not in doubtful])
    changed = {}
    for word in doubtful:
        key, _, value = word.partition("=")
        if isinstance(before, DictConfig) and isinstance(OmegaConf.select(before, key.lstrip("+")), bool):
            parts = [_BOOLEANS.get(part.strip(" \"'").casefold(), part) for part in value.split(",")]
            changed[word] = f"{key}={','.join(parts)}"
    return [changed.get(word, word) for word in words]


def _unknown_option(key: str, command: str, words: Sequence[str]) -> str:
    """Return the message for a key that does not exist."""
    names = _options(command, [word for word in words if word.lstrip("+~").partition("=")[0] != key])
    nearest = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    if not nearest:  # lr for optimizer.lr
        last = {name.rpartition(".")[2]: name for name in reversed(names)}
        nearest = [last[name] for name in difflib.get_close_matches(key.rpartition(".")[2], last, n=1, cutoff=0.7)]
    return _line(key, command, nearest)


def _no_choice(group: str, command: str, words: Sequence[str]) -> str:
    """Return the message for `group=null`."""
    typed = f"milpath {command.replace('.', ' ')}"
    if group not in _options(command, [word for word in words if word.partition("=")[0] != group]):
        return _line(group, command, [])
    return f"{typed}: {group}=null is not a choice; give {group}=none"


def _not_chosen(group: str, command: str, words: Sequence[str]) -> str:
    """Return the message for a group without a default of which no option is given, perhaps because it is mistyped."""
    keys = [word.lstrip("+~").partition("=")[0] for word in words]
    if mistyped := difflib.get_close_matches(group, [key for key in keys if key != group], n=1, cutoff=0.6):
        return _line(mistyped[0], command, [group])
    choices = sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml") if path.stem != "options")
    shown = ", ".join(choices[:_MOST_OPTIONS]) + (", ..." if len(choices) > _MOST_OPTIONS else "")
    return f"{group} must be given: add {group}=NAME to the command, one of {shown}"


def _line(key: str, command: str, nearest: Sequence[str]) -> str:
    """Return the message for an unknown option."""
    typed = f"milpath {command.replace('.', ' ')}"
    meant = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{typed}: unknown option {key!r}; {meant}{typed} --help lists the options"


def _unknown_choice(group: str, name: str, choices: Sequence[str]) -> str:
    """Return the message for an option that a group does not have."""
    choices = [choice for choice in choices if choice != "options"]
    nearest = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    meant = f"did you mean {group}={nearest[0]}? " if nearest else ""
    shown = ", ".join(choices[:_MOST_OPTIONS]) + (", ..." if len(choices) > _MOST_OPTIONS else "")
    return f"unknown option {group}={name}; {meant}{group} is one of {shown}"


def _options(command: str, words: Sequence[str]) -> list[str]:
    """Return every key of the composed configuration of a command, as far as the other overrides can be read."""
    config = _composed_root(command, words)
    return list(_names(OmegaConf.to_container(config, resolve=False), "")) if isinstance(config, DictConfig) else []


def _composed_root(command: str, words: Sequence[str]) -> Any:
    """Return the configuration of a command with the overrides that can be read; `None` if it has none."""
    root = re.sub("[.-]", "_", command)
    GlobalHydra.instance().clear()
    config: Any = None
    for known in (_readable(words), []):
        with suppress(HydraException, OmegaConfBaseException, ValueError):
            with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
                config = compose(root, known)
            break
    return config


def _readable(words: Sequence[str]) -> list[str]:
    """Return the overrides of one run: neither sweeps nor those of Hydra."""
    kept = []
    for word in words:
        with suppress(HydraException):
            if not OverridesParser.create().parse_override(word).is_sweep_override() and not word.startswith("hydra"):
                kept.append(word)
    return kept


def _names(content: Any, key: str) -> Iterator[str]:
    """Yield the dotted names of all keys."""
    if isinstance(content, dict):
        for name, value in content.items():
            path = f"{key}.{name}".strip(".")
            yield path
            yield from _names(value, path)
