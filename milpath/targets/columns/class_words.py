"""Classes from the cells of a label column: words in a given or sorted order, or whole numbers from 0."""

import difflib
import logging
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from milpath.records.label_table import quote_first, rows_of

_log = logging.getLogger(__name__)
# A column with more words than this, most of which occur once, has names or remarks, not classes.
_MAX_RARE_WORDS = 10
# What programs and people write into the cell of a slide without a label; R writes NA.
_MISSING_WORDS = frozenset(
    ["?", "missing", "n.a.", "n/a", "na", "nan", "none", "not available", "null", "unknown", "<na>"]
)
_DASHES = re.compile("[\u00ad\u2010-\u2015\u2212]")


def is_missing(value: Any, class_names: Sequence[str] = ()) -> bool:
    """Return whether a cell holds no label: empty, or a word for a missing value that is not the name of a class.

    Example:
        >>> is_missing(" "), is_missing("NA"), is_missing("NA", ["NA", "MSI"])
        (True, True, False)
    """
    if pd.isna(value):
        return True
    text = folded(str(value))
    return not text or (text in _MISSING_WORDS and text not in map(folded, class_names))


def missing_cells(bags: pd.DataFrame, column: str, class_names: Sequence[str] = ()) -> np.ndarray:
    """Return which bags have no label in a column (`is_missing`), bool `(bags,)`."""
    return np.asarray([is_missing(value, class_names) for value in bags[column]], dtype=bool)


def folded(word: str) -> str:
    """Return a word without what looks alike on a screen: capitals, double blanks, kinds of dashes.

    Example:
        >>> folded("MSI\u2013H ") == folded("msi-h")
        True
    """
    return " ".join(_DASHES.sub("-", unicodedata.normalize("NFKC", word)).split()).casefold()


def label_text(value: object) -> str:
    """Return the text of a cell: 1 for 1.0.

    Example:
        >>> label_text(1.0), label_text(True), label_text(" MSI-H ")
        ('1', 'True', 'MSI-H')
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def classes_of_words(
    bags: pd.DataFrame, column: str, class_names: Sequence[str], origin: str = "data.class_names", say: bool = True
) -> np.ndarray:
    """Return the class of each bag by the name in its cell.

    Capitals, double blanks and kinds of dashes are ignored if no two names differ only in them.

    Args:
        bags: One row per bag, without empty cells in the column.
        column: Column of the labels.
        class_names: Names of the classes in the order of their indices.
        origin: Where the names come from, for the message.
        say: Log which word became which class.

    Returns:
        `(bags,)` int64.

    Raises:
        ValueError: If a cell has another word, which the message names.
    """
    index = {name: number for number, name in enumerate(class_names)}
    loose = {folded(name): number for name, number in index.items()}
    if len(loose) < len(index):
        loose = {}
    texts = [label_text(value) for value in bags[column]]
    found = [index.get(text, loose.get(folded(text))) for text in texts]
    unknown = np.array([number is None for number in found], dtype=bool)
    if unknown.any():
        words = sorted({text for text, bad in zip(texts, unknown, strict=True) if bad})
        close = difflib.get_close_matches(words[0], list(class_names), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(
            f"column {column!r} has {quote_first(words)}, not one of {origin} ({', '.join(class_names)}): slide "
            f"{rows_of(bags, unknown)}; {hint}Correct the table, or list these slides in data.exclude"
        )
    if say:
        say_classes(column, class_names, origin)
    return np.array(found, dtype=np.int64)


def sorted_words(bags: pd.DataFrame, column: str) -> tuple[str, ...]:
    """Return the different words of a column in sorted order, as names of classes.

    Raises:
        ValueError: If there is only one, two look alike (`folded`), or most occur only once.
    """
    texts = [label_text(value) for value in bags[column]]
    words = sorted(set(texts))
    if len(words) == 1:
        raise ValueError(
            f"all {len(texts):,} slides have the label {words[0]!r} in column {column!r}; name all classes in their order, "
            f"such as data.class_names=[{words[0]},OTHER], or choose another column with data.label_column=NAME"
        )
    if len(words) > _MAX_RARE_WORDS and 2 * len(words) > len(texts):
        raise ValueError(
            f"column {column!r} has {len(words):,} different words for {len(texts):,} slides ({quote_first(words)}), too "
            "many for classes; choose the column with data.label_column=NAME"
        )
    for first, second in zip(alike := sorted(words, key=folded), alike[1:], strict=False):
        if folded(first) == folded(second):
            only = "capitals" if first.casefold() == second.casefold() else "capitals, blanks or dashes"
            raise ValueError(
                f"column {column!r} has {first!a} and {second!a}, which differ only in {only}; write them alike, or give "
                "the classes in their order with data.class_names=[...]"
            )
    return tuple(words)


def count_words(bags: pd.DataFrame, column: str) -> tuple[int, str]:
    """Return how many different words a column has, and a clause on them with the bags of the rarest.

    Example:
        >>> count_words(pd.DataFrame({"bag_id": ["a", "b", "c"], "her2": ["no", "no", "yes"]}), "her2")
        (2, "column 'her2' has 'no', 'yes', of which 'yes' is the rarest (slide 'c')")
    """
    words = np.array([folded(label_text(value)) for value in bags[column]])
    found, counts = np.unique(words, return_counts=True)
    rarest = words == found[counts.argmin()]
    said = f"{label_text(bags[column][rarest].iloc[0])!r} is the rarest (slide {rows_of(bags, rarest)})"
    return len(found), f"column {column!r} has {quote_first(found.tolist())}, of which {said}"


def explain_numbers(values: np.ndarray, column: str, num_names: int | None) -> str:
    """Return why whole numbers are not classes that count from 0 without a gap; empty if they are.

    Args:
        values: `(bags,)` whole numbers.
        column: Their column.
        num_names: Number of names in `data.class_names`; `None` without names.
    """
    found = np.unique(values).tolist()
    as_named = (
        f"data.class_names=[{','.join(map(str, found))}]" if len(found) <= _MAX_RARE_WORDS else "data.class_names"
    )
    lowest, highest = found[0], found[-1]
    shown = quote_numbers(found)
    if lowest == 1 and (highest == num_names if num_names else len(found) > 1):
        return (
            f"labels start at 1 (column {column!r} has {shown}); classes count from 0: subtract 1 in the table, or name the "
            f"classes as the table does with {as_named}"
        )
    if num_names or lowest == highest == 1:
        return ""
    if lowest < 0:
        return (
            f"column {column!r} has the labels {shown}; classes count from 0: name the classes as the table does with "
            f"{as_named}"
        )
    if len(found) <= highest:
        missing = next(number for number in range(highest) if number not in found)
        return (
            f"column {column!r} has the labels {shown}, but no slide has label {missing}; classes count from 0 without a "
            f"gap: name the classes as the table does with {as_named}, or all of them in their order"
        )
    return ""


def explain_names_of_numbers(values: np.ndarray, column: str, class_names: Sequence[str]) -> str:
    """Return why whole numbers are not the positions of some names, counted from 0; empty if they may be.

    Args:
        values: `(bags,)` whole numbers from 0 to the number of names less one.
        column: Their column.
        class_names: `data.class_names`.
    """
    found = np.unique(values).tolist()
    named = f"data.class_names=[{','.join(class_names)}]"
    if all(re.fullmatch(r"[+-]?[0-9.]+", name) for name in class_names):
        shown = quote_numbers(found)
        return f"column {column!r} has {shown}, which are not all in {named}; name the classes as the table does"
    if len(found) > 1 and found[0] > 0:
        return (
            f"column {column!r} has {quote_numbers(found)}, but no 0: with {named}, whose classes count from 0, label "
            f"{found[0]} would be {class_names[found[0]]!r}; subtract {found[0]} in the table, write the names into it, or "
            f"name the classes as it does: data.class_names=[{','.join(map(str, found[:_MAX_RARE_WORDS]))}]"
        )
    return ""


def quote_numbers(numbers: Sequence[int], limit: int = 6) -> str:
    """Return the first numbers of a list for a message."""
    return ", ".join(map(str, numbers[:limit])) + (", ..." if len(numbers) > limit else "")


def say_classes(column: str, class_names: Sequence[str], origin: str, option: str = "data.class_names") -> None:
    """Log which word became which class.

    Args:
        column: Column of the words.
        class_names: Names of the classes in the order of their indices.
        origin: Where the names come from: "sorted", or the option that gives them.
        option: The option that gives another order.
    """
    pairs = ", ".join(f"{number} = {name}" for number, name in enumerate(class_names))
    positive = f"; the class to detect is {class_names[1]}" if len(class_names) == 2 else ""
    order = f"sorted; another order: {option}=[...]" if origin == "sorted" else f"order of {origin}"
    _log.info("classes of column %r: %s%s (%s)", column, pairs, positive, order)
