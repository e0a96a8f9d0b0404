"""The words that SageMaker puts behind the program become words of the command line of `milpath.train`."""

import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

# A hyperparameter's name has no dots: `optimizer__lr` is `optimizer.lr`.
DOT = "__"
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*([.@/][A-Za-z0-9_]+)*")


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """Return the overrides of `--key value`, `--key=value` and `key=value`.

    SageMaker's tuner and its toolkit send `--optimizer__lr 0.001`; an empty value is null.

    Args:
        arguments: The words behind the program.

    Raises:
        ValueError: If a word is none of the three forms.

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
        found.append(f"{key}={_quoted(key, value)}")
    return found


def parameter_name(key: str) -> str:
    """Return the name that a configuration key has as a hyperparameter.

    Example:
        >>> parameter_name("optimizer.lr")
        'optimizer__lr'
    """
    return key.replace(".", DOT)


def _quoted(key: str, value: str) -> str:
    """Return a value as the override grammar writes it: as it is where that parses, else in quotes."""
    if value == "":
        return "null"
    try:
        if not OverridesParser.create().parse_override(f"{key}={value}").is_sweep_override():
            return value
    except HydraException:
        pass
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
