"""Names of tiles, `{slide}_{i}.png`: detection of duplicate and missing tiles."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

_NUMBERED = re.compile(r"(?:(?P<slide>.*)_)?(?P<number>\d{1,18})", re.DOTALL)


def folded(name: str) -> str:
    """Return a name as compared by file systems that ignore case and Unicode normalisation.

    Example:
        >>> folded("Tile_1.PNG")
        'tile_1.png'
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def natural_key(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts numbers within names by value.

    Example:
        >>> sorted(["a_10", "a_2"], key=natural_key)
        ['a_2', 'a_10']
    """
    words = re.split(r"(\d{1,18})", name)
    return [(word.isdecimal(), int(word) if word.isdecimal() else 0, word) for word in words]


def require_tiles_of_one_slide(names: Sequence[str], source: str) -> None:
    """Refuse the tiles of a slide if two have the same name or number, or one is missing.

    Args:
        names: Paths of the tiles, with `/` between folders.
        source: Where they come from, for the message.

    Raises:
        ValueError: With the names of the tiles.
    """
    require_no_twins(names, [_by_value(name) for name in names], source)
    found = [_NUMBERED.fullmatch(_stem(name)) for name in names]
    numbered = [match for match in found if match]
    # Numbers in other names may be coordinates, which need not be complete.
    if len(numbered) < len(found) or len({folded(match["slide"] or "") for match in numbered}) != 1:
        return
    require_no_twins(names, [int(match["number"]) for match in numbered], source)
    numbers = {int(match["number"]) for match in numbered}
    if (missing := missing_number(numbers, first_number([numbers]))) is not None:
        raise ValueError(f"{source} has {len(numbers):,} tiles but none with the number {missing}; give all of them")


def require_no_twins(names: Iterable[str], keys: Iterable[object], source: str) -> None:
    """Refuse two names with the same key.

    Raises:
        ValueError: With both names.
    """
    seen: dict[object, str] = {}
    for name, key in zip(names, keys, strict=True):
        if key in seen:
            raise ValueError(
                f"{source} contains {seen[key]!r} and {name!r}, which are the same name or number for many programs; "
                "keep one of them, or rename it"
            )
        seen[key] = name


def first_number(slides: Iterable[Collection[int]]) -> int:
    """Return the first number of tiles: 1 if no slide has a tile 0, else 0."""
    return 0 if any(0 in numbers for numbers in slides) else 1


def missing_number(numbers: Collection[int], first: int) -> int | None:
    """Return the first missing number, `None` if the numbers are consecutive from `first`.

    Example:
        >>> missing_number({0, 1, 3}, first=0)
        2
    """
    return next((number for number in range(first, first + len(numbers)) if number not in numbers), None)


def _by_value(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Return a key that is equal for `a_1` and `A_01`."""
    return tuple((is_number, value, "" if is_number else word) for is_number, value, word in natural_key(folded(name)))


def _stem(name: str) -> str:
    """Return the name of a file without its folders and suffix."""
    return name.rpartition("/")[2].rpartition(".")[0]
