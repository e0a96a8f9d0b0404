"""What somebody else's file may say: numbers, texts, lists and mappings within bounds, and nothing that acts.

Configuration libraries give some keys and texts a meaning: `_target_` names code to call, `${oc.env:NAME}` reads a
variable of the machine. A checkpoint, a bag store and the results of a search come from other people, so their values are
checked here and never handed to such a library.
"""

import json
import math
import reprlib
from collections.abc import Collection
from typing import Any

MAX_DEPTH = 16
MAX_VALUES = 1_000_000
MAX_TEXT = 1 << 20
_MAX_KEY = 1024
_MAX_INTEGER = 1 << 63


def require_plain(content: Any, where: str, allowed: Collection[str] = ()) -> Any:
    """Return a copy of `content` made of None, bool, int, float, str, list and dict; everything else is refused.

    Texts stay as they are: `${...}` in them is text.

    Args:
        content: What a file holds.
        where: What the content is, for the message: "data of the card".
        allowed: Keys of the outermost mapping that may begin with an underscore.

    Returns:
        The copy; a tuple becomes a list.

    Raises:
        ValueError: If a value is of another type or not finite, a key is not a text or begins with an underscore, or the
            content is nested more than 16 deep, has more than a million values or a text of more than a million characters.

    Example:
        >>> require_plain({"path": "${oc.env:HOME}", "sizes": (1, 2)}, "data of the card")
        {'path': '${oc.env:HOME}', 'sizes': [1, 2]}
    """
    return _Copy(where, frozenset(allowed)).of(content, "", 0)


class _Copy:
    """One walk over some content, with the count of its values so far."""

    def __init__(self, where: str, allowed: frozenset[str]) -> None:
        self.where = where
        self.allowed = allowed
        self.count = 0

    def of(self, value: Any, path: str, depth: int) -> Any:
        """Return a copy of a value."""
        self.count += 1
        # Lists that share or contain themselves fit into a small file: the walk itself has to end.
        if depth > MAX_DEPTH or self.count > MAX_VALUES:
            bound = f"nested more than {MAX_DEPTH} deep" if depth > MAX_DEPTH else f"more than {MAX_VALUES:,} values"
            raise ValueError(f"{self.where} is {bound}; it was not written by milpath")
        if value is None or type(value) is bool:
            return value
        if type(value) is int and -_MAX_INTEGER <= value < _MAX_INTEGER:
            return value
        if type(value) is float:
            if not math.isfinite(value):
                raise ValueError(f"{self._at(path)} must be a number that is finite, not {value}")
            return value
        if type(value) is str and len(value) <= MAX_TEXT:
            return value
        if isinstance(value, dict):
            return {
                self._key(key, path, depth): self.of(item, f"{path}.{key}", depth + 1) for key, item in value.items()
            }
        if type(value) in (list, tuple):
            return [self.of(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
        kind = "too long" if type(value) in (int, str) else f"a {type(value).__name__}"
        raise ValueError(f"{self._at(path)} is {kind}; expected plain numbers, texts, lists and mappings")

    def _key(self, key: Any, path: str, depth: int) -> str:
        """Return a key, refused where a configuration library could give it a meaning."""
        if type(key) is not str or not key or len(key) > _MAX_KEY:
            raise ValueError(f"{self._at(path)} has the key {brief(key)}; expected a short text")
        if key.startswith("_") and not (depth == 0 and key in self.allowed):
            raise ValueError(
                f"{self._at(path)} has the key {brief(key)}; keys that begin with an underscore can name code: refused"
            )
        return key

    def _at(self, path: str) -> str:
        """Return what a person calls a place in the content."""
        return f"{brief(path.removeprefix('.'))[1:-1]} in {self.where}" if path else self.where


def brief(value: Any) -> str:
    """Return a short representation of any value, whatever its size or depth, on one line without control characters."""
    return " ".join(reprlib.repr(value).split())


def parse_json(text: str, where: str) -> Any:
    """Return the plain values of a JSON text.

    Raises:
        ValueError: If it is not JSON, or holds what `require_plain` refuses.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{where} is not JSON, or is damaged ({reason})") from None
    return require_plain(content, where)
