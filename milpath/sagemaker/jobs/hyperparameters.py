"""Conversion of SageMaker hyperparameters to command-line overrides of `milpath.train`.

A job runs the source archive that its owner wrote with `launch`: code, configuration files and command line are trusted
together. Hyperparameters come from whoever starts or tunes the job: they may only set values of existing configuration
keys. They cannot name code (`_target_`), change the configuration of Hydra (`hydra.*`) or read environment variables
(`${oc.env:NAME}` is text); these have to be given on the command line of `launch`.
"""

import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

from milpath.records.plain_values import brief

# Names of hyperparameters cannot contain dots: `optimizer__lr` is `optimizer.lr`.
DOT = "__"
# What the names of hyperparameters begin with that SageMaker's toolkit reads itself.
PLATFORM = "sagemaker_"
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*([.@/][A-Za-z0-9_]+)*")
# `${paths.data_dir}` refers to another value of the same configuration; with a colon, or nested, it calls a resolver.
_RESOLVER = re.compile(r"\$\{[^{}]*(:|\$\{)")


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """Return the overrides of `--key value`, `--key=value` and `key=value`.

    SageMaker's tuner and its toolkit send `--optimizer__lr 0.001`; an empty value is null.

    Args:
        arguments: Command-line arguments of the program.

    Raises:
        ValueError: If an argument has none of the three forms, or names code or a key of Hydra.

    Example:
        >>> overrides_of(["--optimizer__lr", "0.001", "--model.gated=True", "seed=3", "--data__path", "a b, c"])
        ['optimizer.lr=0.001', 'model.gated=True', 'seed=3', "data.path='a b, c'"]
    """
    words = list(arguments)
    found = []
    while words:
        word = words.pop(0)
        key, has_value, value = word.lstrip("-").partition("=")
        if not has_value:
            if not word.startswith("-") or not words:
                raise ValueError(
                    f"hyperparameter {word!r} has no value; expected --key value, --key=value or key=value"
                )
            value = words.pop(0)
        key = key.replace(DOT, ".")
        if not _KEY.fullmatch(key):
            raise ValueError(f"hyperparameter {key!r} is not a configuration key such as optimizer__lr")
        _require_harmless(key)
        found.append(f"{key}={_quoted(key, value)}")
    return found


def parameter_name(key: str) -> str:
    """Return the hyperparameter name of a configuration key.

    Example:
        >>> parameter_name("optimizer.lr")
        'optimizer__lr'
    """
    return key.replace(".", DOT)


def _require_harmless(key: str) -> None:
    """Refuse a key that names code or changes how the configuration is composed."""
    parts = re.split(r"[.@/]", key)
    if parts[0] == "hydra" or any(part.startswith("_") for part in parts):
        raise ValueError(
            f"hyperparameter {brief(key)} names code or a setting of Hydra and is refused; give it on the command line of "
            "milpath.sagemaker.launch"
        )


def _keys_of(value: Any) -> list[str]:
    """Return the keys of all mappings in a parsed value."""
    if isinstance(value, dict):
        return [name for key, item in value.items() for name in (_text_of(key), *_keys_of(item))]
    return [name for item in value for name in _keys_of(item)] if isinstance(value, list) else []


def _text_of(key: Any) -> str:
    """Return the text of a key, which may be quoted."""
    return str(key.text if isinstance(key, QuotedString) else key)


def _quoted(key: str, value: str) -> str:
    """Return a value in the override grammar: unchanged if it parses, otherwise quoted."""
    if value == "":
        return "null"
    if not _RESOLVER.search(value):
        try:
            override = OverridesParser.create().parse_override(f"{key}={value}")
            if not override.is_sweep_override():
                for name in _keys_of(override.value()):
                    _require_harmless(f"{key}.{name}")
                return value
        except HydraException:
            pass
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    if _RESOLVER.search(value):
        escaped = escaped.replace("${", "\\${")
    return f"'{escaped}'"
