"""Validation of untrusted content: bounded numbers, strings, lists and mappings, and nothing that has a side effect.

Configuration libraries interpret some keys and strings: `_target_` names code to call, `${oc.env:NAME}` reads an
environment variable. Checkpoints, bag stores and search results may come from other people, so their values are
validated here and never passed to such a library.
"""

import json
import math
import reprlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from milpath.records.digests import require_regular_file

# Predictions are 32-bit numbers, which end at 3.4e38; no quantity of a label table comes near this.
MAX_NUMBER = 1e30
MAX_DEPTH = 16
MAX_VALUES = 1_000_000
MAX_TEXT = 1 << 20
MAX_FILE = 64 << 20
_MAX_KEY = 1024
_MAX_INTEGER = 1 << 63


def require_plain(content: Any, where: str, allowed: Collection[str] = ()) -> Any:
    """Return a copy of `content` of only `None`, bool, int, float, str, list and dict; everything else is refused.

    Strings stay unchanged: `${...}` is not interpolated.

    Args:
        content: The content of a file.
        where: Name of the content in error messages, such as "data of the card".
        allowed: Keys of the outermost mapping that may start with an underscore.

    Returns:
        The copy; a tuple becomes a list.

    Raises:
        ValueError: If a value has another type or is not finite, a key is not a string or starts with an underscore, or
            the content is nested more than 16 levels deep, has more than a million values or a string of more than a
            million characters.

    Example:
        >>> require_plain({"path": "${oc.env:HOME}", "sizes": (1, 2)}, "data of the card")
        {'path': '${oc.env:HOME}', 'sizes': [1, 2]}
    """
    return _Copy(where, frozenset(allowed)).of(content, "", 0)


class _Copy:
    """Recursive copy of some content, with the number of values so far."""

    def __init__(self, where: str, allowed: frozenset[str], *, any_key: bool = False) -> None:
        self.where = where
        self.allowed = allowed
        self.any_key = any_key
        self.count = 0

    def of(self, value: Any, path: str, depth: int) -> Any:
        """Return a copy of a value."""
        self.count += 1
        # A small file can contain shared or recursive lists, so the recursion needs its own limit.
        if depth > MAX_DEPTH or self.count > MAX_VALUES:
            bound = (
                f"nested more than {MAX_DEPTH} levels deep" if depth > MAX_DEPTH else f"more than {MAX_VALUES:,} values"
            )
            raise ValueError(f"{self.where} is {bound}; it was not written by milpath")
        if value is None or type(value) is bool:
            return value
        if type(value) is int and -_MAX_INTEGER <= value < _MAX_INTEGER:
            return value
        if type(value) is float:
            if not math.isfinite(value):
                raise ValueError(f"{self._at(path)} must be a finite number, not {value}")
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
        raise ValueError(f"{self._at(path)} is {kind}; expected plain numbers, strings, lists and mappings")

    def _key(self, key: Any, path: str, depth: int) -> str:
        """Return a key; refuse one that a configuration library could interpret."""
        if type(key) is not str or not key or len(key) > _MAX_KEY:
            raise ValueError(f"{self._at(path)} has the key {brief(key)}; expected a short string")
        if key.startswith("_") and not self.any_key and not (depth == 0 and key in self.allowed):
            raise ValueError(
                f"{self._at(path)} has the key {brief(key)}; keys that begin with an underscore can name code: refused"
            )
        return key

    def _at(self, path: str) -> str:
        """Return a readable name of a location in the content."""
        return f"{brief(path.removeprefix('.'))[1:-1]} in {self.where}" if path else self.where


def brief(value: Any) -> str:
    """Return a short representation of any value of any size or depth, on one line without control characters."""
    return " ".join(reprlib.repr(value).split())


def parse_json(text: str, where: str, *, only_shown: bool = False) -> Any:
    """Parse JSON into plain values.

    Args:
        text: The content of a file.
        where: Name of the content in error messages.
        only_shown: Let keys begin with an underscore: a target may have such a name, and nothing of the content is ever
            given to a configuration library.

    Raises:
        ValueError: If it is not JSON, or contains something that `require_plain` refuses.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{where} is not JSON, or is damaged ({reason})") from None
    return _Copy(where, frozenset(), any_key=only_shown).of(content, "", 0)


def read_json(path: Path, *, only_shown: bool = False) -> Any:
    """Read a JSON file into plain values, as `parse_json` does.

    Raises:
        ValueError: Likewise, and if it is larger than 64 MiB or no text.
        OSError: If it cannot be read.
    """
    require_regular_file(path)
    if (size := path.stat().st_size) > MAX_FILE:
        raise ValueError(f"{path} has {size / 1e6:,.0f} MB; it may have {MAX_FILE / 1e6:,.0f} MB")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not JSON, or is damaged ({error})") from None
    return parse_json(text, str(path), only_shown=only_shown)


def read_mapping(path: Path, *, only_shown: bool = False) -> dict[str, Any]:
    """Read a JSON file that holds a mapping; errors as in `read_json`."""
    content = read_json(path, only_shown=only_shown)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a mapping, not {brief(content)}")
    return content
