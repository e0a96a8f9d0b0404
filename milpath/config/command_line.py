"""Words of a command line whose values are taken as they are: a path may hold what Hydra's grammar gives a meaning."""

import re
from collections.abc import Collection, Sequence

_QUOTES = ("'", '"')


def quote_paths(words: Sequence[str], keys: Collection[str]) -> list[str]:
    """Quote the values of some keys, so that spaces, commas, brackets and letters beyond ASCII are no grammar.

    Args:
        words: A command line.
        keys: Whose values are paths.

    Returns:
        The words; those that are quoted already, empty or `null` stay as they are.

    Example:
        >>> quote_paths(["slides=/data/Präparate, 2024", "level=-1", "labels=null"], ["slides", "labels"])
        ['slides="/data/Präparate, 2024"', 'level=-1', 'labels=null']
    """
    return [_quote(word, keys) for word in words]


def _quote(word: str, keys: Collection[str]) -> str:
    key, equals, value = word.partition("=")
    if not equals or key not in keys or value in ("", "null", "???") or value.startswith(_QUOTES):
        return word
    # In Hydra's grammar a backslash means something before a quote alone.
    escaped = re.sub(r'(\\*)("|\Z)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value)
    return f'{key}="{escaped}"'
