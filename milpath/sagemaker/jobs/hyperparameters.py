"""The words that SageMaker puts behind the program become words of the command line of `milpath.train`.

What a job runs is the source archive, which its owner wrote with `launch`: code, configuration files and command line
belong together and are trusted together. Hyperparameters are sent along by whoever starts the job or tunes it: they set
values of keys that the configuration has. They cannot name code (`_target_`), change how Hydra works (`hydra.*`) or read
variables of the machine (`${oc.env:NAME}` is text); what needs these belongs on the command line of `launch`.
"""

import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

from milpath.records.plain_values import brief

# A hyperparameter's name has no dots: `optimizer__lr` is `optimizer.lr`.
DOT = "__"
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*([.@/][A-Za-z0-9_]+)*")
# `${paths.data_dir}` is another value of the same configuration; with a colon, or nested, it calls a resolver.
_RESOLVER = re.compile(r"\$\{[^{}]*(:|\$\{)")


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """Return the overrides of `--key value`, `--key=value` and `key=value`.

    SageMaker's tuner and its toolkit send `--optimizer__lr 0.001`; an empty value is null.

    Args:
        arguments: The words behind the program.

    Raises:
        ValueError: If a word is none of the three forms, or it names code or a key of Hydra.

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
            raise ValueError(f"hyperparameter {key!r} is no configuration key such as optimizer__lr")
        _require_harmless(key)
        found.append(f"{key}={_quoted(key, value)}")
    return found


def parameter_name(key: str) -> str:
    """Return the name that a configuration key has as a hyperparameter.

    Example:
        >>> parameter_name("optimizer.lr")
        'optimizer__lr'
    """
    return key.replace(".", DOT)


def _require_harmless(key: str) -> None:
    """Refuse a key that says how the configuration is used, not what it holds."""
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
    """Return the text of a key, which may stand in quotes."""
    return str(key.text if isinstance(key, QuotedString) else key)


def _quoted(key: str, value: str) -> str:
    """Return a value as the override grammar writes it: as it is where that parses, else in quotes."""
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
