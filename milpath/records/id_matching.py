"""Names of slides in a table matched with names of files: by the whole name, or without folder, suffix and capitals."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice

_SUFFIXES = frozenset((
    ".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".tif", ".tiff", ".btf", ".ome",
    ".qptiff", ".dcm", ".czi", ".isyntax", ".zvi", ".lif", ".vsi", ".nd2", ".kfb", ".sdpc", ".tmap",
    ".i2syntax", ".jp2", ".png", ".jpg", ".jpeg", ".bmp", ".webp", ".h5", ".hdf5", ".pt", ".npy", ".npz", ".zarr", ".zip",
))  # fmt: skip
# Names that are compared with all others to explain why they do not match.
_EXPLAINED = 20


def match_ids(ids: Sequence[str], found: Collection[str]) -> dict[str, str]:
    """Return the name of the data for each name in a table that has data.

    A name that the data have is matched with it. For the others, folders (`a/b.svs`), known suffixes (`b.svs`, `b.h5`),
    the Unicode form and, last, capitals are ignored, as long as only one name of the data is left.

    Args:
        ids: Names in the table.
        found: Names of the data.

    Raises:
        ValueError: If two names in the table are matched with one of the data.

    Example:
        >>> match_ids(["slides/S1.svs", "s2", "S3"], ["S1", "S2", "S4"])
        {'slides/S1.svs': 'S1', 's2': 'S2'}
    """
    names = set(found)
    matched = {name: name for name in ids if name in names}
    for key in (stem_of, _folded_stem):
        waiting = [name for name in ids if name not in matched]
        if not waiting:
            break
        by_key = _by_key(names - set(matched.values()), key)
        for name in waiting:
            if len(same := by_key.get(key(name), [])) == 1:
                matched[name] = same[0]
    _require_one_row_each(ids, matched)
    return {name: matched[name] for name in ids if name in matched}


def stem_of(name: str) -> str:
    r"""Return the name of a file without folders and known suffixes, in Unicode form NFC.

    Example:
        >>> stem_of("C:\\scans\\S1.ome.tif"), stem_of("S1.2024")
        ('S1', 'S1.2024')
    """
    text = unicodedata.normalize("NFC", name.strip()).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    while True:
        stem, dot, ending = text.rpartition(".")
        if not dot or not stem or f".{ending.casefold()}" not in _SUFFIXES:
            return text
        text = stem


def why_unlike(ids: Iterable[str], found: Iterable[str]) -> str:
    """Return how names without a match are related to names of the data; empty if they are not.

    Args:
        ids: Names in the table without data.
        found: Names of the data without a row.

    Example:
        >>> why_unlike(["7"], ["007"])
        "'7' may be '007': spreadsheet programs remove leading zeros; format the column as text and enter the names again"
    """
    names = sorted(found)
    by_number = _by_key([name for name in names if name.isdecimal()], lambda name: name.lstrip("0"))
    stems = [(name, stem_of(name)) for name in names]
    for name in islice(ids, _EXPLAINED):
        stem = stem_of(name)
        number = re.sub(r"\.0*$", "", name)
        if number.isdecimal() and (same := by_number.get(number.lstrip("0"))):
            cause = "add decimals" if number != name else "remove leading zeros"
            return (
                f"{name!r} may be {same[0]!r}: spreadsheet programs {cause}; format the column as text and enter the names "
                "again"
            )
        longer = [other for other, of_other in stems if _extends(of_other, stem)]
        shorter = [other for other, of_other in stems if _extends(stem, of_other)]
        if longer or shorter:
            both = "several names of the data begin with it" if len(longer) > 1 else "write both names alike"
            return f"{name!r} may be {(longer or shorter)[0]!r}, which has another ending: {both}"
    return ""


def _extends(long: str, short: str) -> bool:
    """Return whether a name is another one with something after it."""
    return bool(short) and long.startswith(short) and len(long) > len(short) and not long[len(short)].isalnum()


def _folded_stem(name: str) -> str:
    return stem_of(name).casefold()


def _by_key(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    """Return the names that have each key."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return groups


def _require_one_row_each(ids: Sequence[str], matched: dict[str, str]) -> None:
    """Refuse two names in the table for one of the data, such as `S1` and `S1.svs`."""
    taken: dict[str, str] = {}
    by_stem = {stem_of(name): name for name in matched}
    for name in ids:
        before = taken.setdefault(matched[name], name) if name in matched else by_stem.get(stem_of(name), name)
        if before != name:
            raise ValueError(f"{before!r} and {name!r} are the same slide {matched[before]!r}; keep one row per slide")
