"""Quoting of paths in command-line overrides: a path may contain characters that are special in Hydra's grammar."""

import re
from collections.abc import Collection, Sequence

_QUOTES = ("'", '"')


def quote_paths(words: Sequence[str], keys: Collection[str]) -> list[str]:
    """Quote the values of some keys, so that spaces, commas, brackets and non-ASCII letters are taken literally.

    Args:
        words: Command-line arguments.
        keys: Keys whose values are paths.

    Returns:
        The arguments; values that are already quoted, empty or `null` are unchanged.

    Example:
        >>> quote_paths(["slides=/data/Präparate, 2024", "level=-1", "labels=null"], ["slides", "labels"])
        ['slides="/data/Präparate, 2024"', 'level=-1', 'labels=null']
    """
    return [_quote(word, keys) for word in words]


def _quote(word: str, keys: Collection[str]) -> str:
    key, equals, value = word.partition("=")
    if not equals or key not in keys or value in ("", "null", "???") or value.startswith(_QUOTES):
        return word
    # In Hydra's grammar a backslash is an escape only before a quote.
    escaped = re.sub(r'(\\*)("|\Z)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value)
    return f'{key}="{escaped}"'
